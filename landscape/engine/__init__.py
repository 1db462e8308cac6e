"""Mean loss and metrics of a network at many points ``w(c) = w* + Σ c[k]·d[k]``, fast."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from landscape.checks.arguments import whole
from landscape.checks.fitting import check_labels, fitting_loss
from landscape.checks.identity import relative_difference
from landscape.checks.usable import check_usable
from landscape.devices import checked_device
from landscape.engine.batch_norm import BATCH_SIZE as RECALIBRATION_BATCH_SIZE
from landscape.engine.batch_norm import Recalibration
from landscape.engine.contract import changed, check_contract, check_data, cut_batch, first_batches
from landscape.engine.cost import choose_batch_size
from landscape.engine.cuda_graph import CapturedRun, numerics
from landscape.engine.failing import in_one_line
from landscape.engine.following import Source
from landscape.engine.hooks import take_off_watching
from landscape.engine.modes import own_modes
from landscape.engine.network import Case, Network, choose_network, chosen_again
from landscape.engine.original import restored
from landscape.engine.precision import in_precision
from landscape.engine.probe import Probe, probe
from landscape.engine.streams import Streams
from landscape.engine.totals import BatchValues, FloatArray, Totals, batch_values, gathered, total
from landscape.engine.weights import Weights
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.examples.pictures import PictureBatches
from landscape.examples.structure import tensors_in
from landscape.keeping.points import point_name
from landscape.losses import Loss
from landscape.progress import passed
from landscape.threads import one_thread

if TYPE_CHECKING:
    from landscape.sparse.choice import Sparse

__all__ = ["BatchNorm", "Engine", "Totals"]

BatchNorm: TypeAlias = Literal["fixed", "recalibrate"]
DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}
_GRAPH_BATCHES = 256  # more batches than this don't need a graph to keep a device busy

_Values: TypeAlias = dict[str, list[BatchValues]]


class Engine:
    """Evaluates one network on fixed examples at any point of a line, plane or larger space.

    The caller's model is never touched: the engine works on its own copy, in evaluation mode. The same point
    gives the same bits, whatever was evaluated before.

    Parameters
    ----------
    model
        Any module; its parameters are w*.
    data
        Examples by split.
    loss
        See `landscape.losses.Loss`.
    directions
        One mapping per coordinate, tensors by parameter name; what isn't named stays where it is.
    device, dtype
        ``torch.float32``, ``bfloat16`` or ``float64``, or their names, or "tf32" (CUDA only). The weights are
        moved and batch norm is folded in float32 at least; bfloat16 is for previews.
    batch_norm
        "fixed": the model's running statistics; "recalibrate": re-estimated at every point.
    batch_size
        By default chosen from the size of the activations; `about` has it. Given batches stay as they are.
    blocks
        How many blocks of examples are summed apart.
    recalibration
        Examples for `batch_norm="recalibrate"`; those of the first split by default.
    sparse
        Kernels that compute with kept weights only, those that aren't zero on the whole plane: "auto" where
        they are faster, "on", or "off".

    Attributes
    ----------
    about
        JSON types: device, dtype, batch_norm, batch_size, threads, streams, folded, fused (number of
        convolutions), unfolded_because, unfused_because, sparse (lanes, version of the kernels, density),
        dense_because, cuda_graph, flops_per_example.

    Raises
    ------
    UserError
        For a dtype or batch size that can't be used, a model that can't be copied, directions that don't fit
        the parameters, or a loss that doesn't keep to its contract: see `landscape.engine.contract`.
    """

    @own_modes()
    def __init__(
        self,
        model: nn.Module,
        data: Mapping[str, Examples],
        loss: Loss,
        directions: Sequence[Mapping[str, Tensor]],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str = torch.float32,
        batch_norm: BatchNorm = "fixed",
        batch_size: int | None = None,
        blocks: int = 20,
        recalibration: Examples | None = None,
        sparse: Sparse = "auto",
    ) -> None:
        _check(data, batch_norm, blocks)
        batch_size = None if batch_size is None else whole("batch size", batch_size)
        self._device, self._loss, self._blocks = checked_device(device), loss, blocks
        self._tf32 = dtype == "tf32"
        run_in = _dtype(dtype, self._device)
        exact = torch.promote_types(run_in, torch.float32)
        first = next(iter(data.values()))
        loss = self._loss = fitting_loss(loss, data.values())
        model, prefix = uncompiled(model)
        master = in_precision(own_copy(model), self._device, exact).eval()
        names = {name.removeprefix(prefix) for one in directions for name in one}
        with one_thread(), numerics(self._device, self._tf32), restored(model) as original:
            hooks = take_off_watching(master, loss, first_batches(first, self._device, exact))
            self._prefix = prefix
            self._weights = Weights(master, [_renamed(one, prefix) for one in directions])
            module = master if run_in == exact else in_precision(copy.deepcopy(master), self._device, run_in)
            few = first_batches(first, self._device, run_in)
            check_labels(loss, module, few[0], data.values())
            seen = probe(module, loss, few[0])
            source = Source(model, own_copy, self._device, run_in, sorted(names), original)
            chosen = cut_batch(data.values(), self._device, run_in, batch_size)
            alone = check_contract(loss, module, few, seen, source, first.given, chosen=chosen) or bool(hooks)
            check_data(loss, module, data, seen)
            spoils = changed(first, few)  # as a first layer in place does, which may be no fault
            size = batch_size or choose_batch_size(seen.cost, self._device)
            case = self._case = Case(
                master, module, self._weights, loss, few[0], seen, size, self._tf32, sparse, _one_size(data)
            )
            self._network = choose_network(case)
        self._moved = names
        self._mode = seen.mode
        layout = self._network.channels_last
        if spoils:
            data = {name: one.apart() for name, one in data.items()}
        on = next(iter(data.values())) if recalibration is None else recalibration
        self._recalibration = _recalibration(batch_norm, master, loss, on.apart() if spoils else on, exact)
        moved = {name: one.to(self._device, run_in, channels_last=layout) for name, one in data.items()}
        self._batches = {name: one.batches(size) for name, one in moved.items()}
        overlapping = self._network.traced and not alone
        self._streams = Streams() if self._device.type == "cpu" and overlapping else None
        self._graph, graph = self._captured(overlapping, case.tolerance, moved.values())
        self.about: dict[str, Any] = {
            "device": str(self._device),
            "dtype": "tf32" if self._tf32 else str(run_in).removeprefix("torch."),
            "batch_norm": batch_norm,
            "batch_size": size if any(one.rebatchable for one in data.values()) else None,
            **_describe(self._network, seen),
            "threads": torch.get_num_threads(),
            "streams": self._streams.count if self._streams else 1,
            "cuda_graph": graph,
        }

    def evaluate(self, coordinates: Sequence[float]) -> dict[str, Totals]:
        """Sums of the loss and of the metrics at one point, by split.

        Parameters
        ----------
        coordinates
            One number per direction.

        Raises
        ------
        UserError
            When the number of coordinates isn't that of the directions; when the loss fails there.
        """
        found = self._at(coordinates)
        return {name: total(batches, self._blocks) for name, batches in found.items()}

    def losses(self, coordinates: Sequence[float]) -> dict[str, FloatArray]:
        """The loss of each example at one point, by split; of each batch where only sums are given."""
        return {name: _losses(batches) for name, batches in self._at(coordinates).items()}

    @own_modes()
    def set_directions(self, directions: Sequence[Mapping[str, Tensor]]) -> bool:
        """Look along other directions, as many as before, without making or capturing anything anew.

        Points then have the bits of an engine that was made with them. Where that can't be known — another
        number of directions, of other parameters, a network that can't be folded there, batch norm that is
        estimated anew — nothing is promised of this engine any more: make another.

        Returns
        -------
        bool
            Whether it was possible.

        Raises
        ------
        UserError
            When directions don't fit the parameters.
        """
        renamed = [_renamed(one, self._prefix) for one in directions]
        if self._recalibration is not None:  # the running statistics are those of the last point
            return False
        if len(renamed) != self.axes or {name for one in renamed for name in one} != self._moved:
            return False
        self._weights.turn(renamed)
        with one_thread(), numerics(self._device, self._tf32):
            if not chosen_again(self._case, self._network):
                return False
            if self._graph is not None and self._replayed_differs(self._graph) > self._case.tolerance:
                return False
        return True

    @property
    def axes(self) -> int:
        """Number of directions."""
        return len(self._weights.directions)

    def _at(self, coordinates: Sequence[float]) -> _Values:
        self._weights.aim(coordinates)
        with in_one_line(f"the loss fails at {point_name(coordinates)}"):
            return self._values()

    def _values(self) -> _Values:
        with numerics(self._device, self._tf32):
            if self._graph is None:
                return self._point()
            found = self._graph()
        passed(sum(one.count for batches in found.values() for one in batches))
        return found

    def _point(self) -> _Values:
        """Everything that is computed for a point whose coordinates are set."""
        # Threads of an operation that has just ended go on looking for work, on the cores of the streams.
        alone = nullcontext if self._streams is None else one_thread
        with alone():
            self._weights.write()
        if self._recalibration is not None:
            self._recalibration.run()
        with alone():
            self._network.refresh()
        return {name: self._split(batches) for name, batches in self._batches.items()}

    def _split(self, batches: Sequence[Any]) -> list[BatchValues]:
        if self._streams is not None:
            return self._streams.map(self._batch, batches)
        return [self._batch(batch) for batch in batches]

    def _batch(self, batch: Any) -> BatchValues:
        with self._mode():
            found = batch_values(self._loss(self._network.call, batch))
        passed(found.count)
        return found

    def _captured(
        self, repeatable: bool, tolerance: float, moved: Iterable[Examples]
    ) -> tuple[CapturedRun[_Values] | None, bool | str]:
        """The run of a point as one CUDA graph where that is possible; and whether, or why not."""
        if self._device.type != "cuda":
            return None, False
        if any(isinstance(one, PictureBatches) for one in self._batches.values()):
            return None, "no: pictures are decoded for each point"
        if any(one.host_keeps for one in moved):
            return None, "no: the examples don't fit the GPU and are moved for each point"
        if self._recalibration is not None or not repeatable:
            return None, "no: the network isn't one fixed sequence of operations"
        if sum(map(len, self._batches.values())) > _GRAPH_BATCHES:
            return None, "no: enough work per point without it"
        try:
            with numerics(self._device, self._tf32):
                run = CapturedRun(self._point, self._device)
                off = self._replayed_differs(run)
        except RuntimeError as error:
            return None, f"no: {str(error).strip().splitlines()[0][:200]}"
        if off > tolerance:
            return None, f"no: repeated off the centre, its loss differs by {off:.1g} of its size"
        return run, True

    def _replayed_differs(self, run: CapturedRun[_Values]) -> float:
        """How far a replayed point is from one computed as it is, off the centre, relative to the largest.

        Whatever the host did while the run was captured, such as reading a number, is not done again.
        """
        off = [0.07 * (-1) ** axis / (axis + 1) for axis in range(self.axes)]
        found = []
        for coordinates, values in (off, self._point), ([0.0] * self.axes, run), (off, run):
            self._weights.aim(coordinates)  # the one between: nothing of the first may be left in memory
            found.append({name: _losses(batches) for name, batches in values().items()})
        expected, _, replayed = found
        return max(relative_difference(one, replayed[name]) for name, one in expected.items())


def _losses(batches: Sequence[BatchValues]) -> FloatArray:
    return gathered([one.values["loss"] for one in batches])


def _check(data: Mapping[str, Examples], batch_norm: str, blocks: int) -> None:
    if not data:
        raise UserError("no examples: no split is given; expected at least one")
    if batch_norm not in ("fixed", "recalibrate"):
        raise UserError(f"unknown batch norm {batch_norm!r}; expected fixed or recalibrate")
    if blocks < 1:
        raise UserError(f"blocks must be at least 1, got {blocks}")


def _one_size(data: Mapping[str, Examples]) -> bool:
    """Whether all examples are of one shape."""
    batches = [batch for one in data.values() for batch in one.given or (one.tensors,)]
    return len({tuple(tuple(one.shape[1:]) for one in tensors_in(batch)) for batch in batches}) == 1


def uncompiled(model: nn.Module) -> tuple[nn.Module, str]:
    """What `torch.compile` wrapped, and the prefix that the wrapper gives to names."""
    inner = getattr(model, "_orig_mod", None)
    return (inner, "_orig_mod.") if isinstance(inner, nn.Module) else (model, "")


def _renamed(direction: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in direction.items()}


def _dtype(dtype: torch.dtype | str, device: torch.device) -> torch.dtype:
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found not in DTYPES.values():
        raise UserError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    if dtype == "tf32" and device.type != "cuda":
        raise UserError(f"dtype tf32 needs a CUDA device, not {device}; use float32")
    assert found is not None
    return found


def own_copy(model: nn.Module) -> nn.Module:
    """A copy that may be moved; UserError when the model can't be copied or used."""
    check_usable(model)
    try:
        with torch.no_grad():  # TorchScript copies by computing
            made = copy.deepcopy(model, _computed(model))
    except Exception as error:
        raise UserError(f"the model can't be copied ({error}); pass one that copy.deepcopy takes") from error
    held = {id(one) for one in [*model.parameters(), *model.buffers()]}
    for name, one in [*made.named_parameters(), *made.named_buffers()]:
        if id(one) in held:
            raise UserError(
                f"the model can't be copied: {name!r} of its copy is its own (a __deepcopy__ that returns "
                "itself?); pass one that copy.deepcopy copies"
            )
    return made


def left_alone(
    examples: Examples, model: nn.Module, loss: Loss, device: torch.device | str, dtype: torch.dtype
) -> Examples:
    """The same examples, in memory of their own where network or loss writes into its input.

    A first layer in place does, which may be no fault. Whether the network runs at all is for others to say.
    """
    there = torch.device(device)
    few = first_batches(examples, there, dtype)
    try:
        with one_thread(), numerics(there, False), restored(model):
            probe(in_precision(own_copy(model), there, dtype).eval(), loss, few[0])
    except UserError:
        return examples
    return examples.apart() if changed(examples, few) else examples


def _computed(model: nn.Module) -> dict[int, Any]:
    """Copies of tensors that modules computed and kept (pruned weights, the last output), by identity."""
    if isinstance(model, torch.jit.ScriptModule):
        return {}
    held = [value for module in model.modules() for value in vars(module).values()]
    return {id(one): one.detach().clone() for one in tensors_in(held) if not one.is_leaf}


def _recalibration(
    batch_norm: str, module: nn.Module, loss: Loss, examples: Examples, dtype: torch.dtype
) -> Recalibration | None:
    if batch_norm == "fixed":
        return None
    device = next(module.parameters()).device
    return Recalibration(module, loss, examples.to(device, dtype).batches(RECALIBRATION_BATCH_SIZE))


def _describe(network: Network, seen: Probe) -> dict[str, Any]:
    return {
        "folded": network.folded > 0,
        "fused": network.fused,
        "unfolded_because": network.reason,
        "unfused_because": network.unfused,
        "sparse": network.sparse,
        "dense_because": network.dense_because,
        "flops_per_example": round(seen.cost.flops),
    }
