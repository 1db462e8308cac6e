"""How the engine runs the network: folded and fused where that gives the same numbers, else as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from landscape.engine import fuse_cpu, fuse_cuda
from landscape.engine.fold import CannotFold, FoldedNet, fold
from landscape.engine.probe import Probe
from landscape.engine.sparse_cpu import described, sparse_network
from landscape.engine.totals import batch_values
from landscape.engine.weights import Weights
from landscape.errors import UserError
from landscape.losses import Loss

if TYPE_CHECKING:
    from landscape.sparse.choice import Sparse

TOLERANCE: Mapping[torch.dtype, float] = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.bfloat16: 5e-2,
}
"""Largest relative difference between the folded and the plain network, in the loss and in the outputs."""
_CUDA_SLACK = 10.0  # cuDNN may take another algorithm for the folded convolution
_TF32_TOLERANCE = 1e-2
_FURTHER = 3.0  # times as far from float64 as the plain float32 network is still rounding …
_SPARSE_DIFFERS = "the sparse network differs"
_ROUNDING = 1e-2  # … where the two don't differ by more than this


Fuse = Callable[[FoldedNet, Tensor], int]


@dataclass(frozen=True)
class Network:
    """What the loss is given, and what must be done before, once the weights have moved.

    Attributes
    ----------
    call
        The module, or a function ``x -> output`` with the same result.
    refresh
        To be called after the weights have moved.
    folded, fused
        Number of batch norms folded and of convolutions fused with what follows.
    reason
        Why it isn't folded, or None.
    unfused
        Why nothing is fused though the device could, or None.
    sparse
        Of sparse kernels: what determines their last bits, and the kept share of the multiplications.
    dense_because
        Why there are no sparse kernels, or None.
    support
        Where weights weren't zero everywhere on the plane for which it was chosen; None where that is nothing
        to it.
    """

    call: Callable[..., Any]
    refresh: Callable[[], None]
    folded: int = 0
    fused: int = 0
    reason: str | None = None
    sparse: Mapping[str, Any] | None = None
    dense_because: str | None = None
    support: Mapping[str, Tensor] | None = None
    unfused: str | None = None

    @property
    def traced(self) -> bool:
        """Whether `call` is a pure function that several threads may call."""
        return self.channels_last or self.sparse is not None

    @property
    def channels_last(self) -> bool:
        """Whether `call` likes its input better in this layout."""
        return isinstance(self.call, FoldedNet)


@dataclass(frozen=True)
class Case:
    """All that is needed to build a network and to compare two.

    `master` holds the exact parameters that `weights` moves; `module` is the same, or its copy in low
    precision. `batch` is what `probe` was made with; `one_size` says that all others are of its shape, their
    numbers of examples aside.
    """

    master: nn.Module
    module: nn.Module
    weights: Weights
    loss: Loss
    batch: Any
    probe: Probe
    batch_size: int
    tf32: bool
    sparse: Sparse = "auto"
    one_size: bool = True

    @property
    def dtype(self) -> torch.dtype:
        """In which the network runs."""
        return next(one.dtype for one in self.module.parameters() if one.is_floating_point())

    @property
    def tolerance(self) -> float:
        """Largest relative difference that passes as the same result."""
        return _TF32_TOLERANCE if self.tf32 else tolerance_of(self.dtype, self.weights.start.device)


def tolerance_of(dtype: torch.dtype, device: torch.device) -> float:
    """Largest relative difference between two ways to compute the same in `dtype` on a device."""
    exact = dtype != torch.bfloat16  # whose rounding outweighs that of any algorithm
    return TOLERANCE[dtype] * (_CUDA_SLACK if exact and device.type == "cuda" else 1.0)


def choose_network(case: Case) -> Network:
    """The fastest way to run the network that agrees with the plain one at the centre and beside it."""
    plain = _plain(case)
    found = _sparse(case, plain) if case.probe.obstacle is None else case.probe.obstacle
    if not isinstance(found, Network):
        if case.sparse == "on":
            raise UserError(f"sparse on: {found}; choose auto or off")
        found = replace(_dense(case, plain), dense_because=found)
    return replace(found, support=case.weights.support() if _may_be_sparse(case) else None)


def chosen_again(case: Case, network: Network) -> bool:
    """Whether `choose_network` would choose the same where only the directions are others.

    It may say no where it would; a network that differed elsewhere, or wasn't tried, is not looked at again.
    """
    if _may_be_sparse(case):
        now = case.weights.support()
        if network.support is None or any(not now[name].equal(one) for name, one in network.support.items()):
            return False  # whether there are kernels, and which, hangs on which weights move
        if network.sparse is not None:
            return _still_agrees(case, network)
        if str(network.dense_because).startswith(_SPARSE_DIFFERS):
            return False
    refused = str(network.reason).startswith("the folded network")
    if case.probe.obstacle is not None or not (refused or network.channels_last):
        return True
    if refused or network.unfused is not None:
        return False
    return _still_agrees(case, network)


def _still_agrees(case: Case, network: Network) -> bool:
    try:
        return _compared(case, _plain(case), network)[1]
    except Exception:  # of the loss, beside the centre; who makes a network anew says what to do then
        return False


def _may_be_sparse(case: Case) -> bool:
    return case.sparse != "off" and case.weights.start.device.type == "cpu"


def _plain(case: Case) -> Network:
    return Network(case.module, _copying(case.master, case.module))


def _sparse(case: Case, plain: Network) -> Network | str:
    """The network on sparse kernels if it agrees with the plain one, or the reason why it isn't used."""
    if not case.one_size:
        return "the batches are of different shapes"
    net = sparse_network(case.module, case.weights, case.probe.inputs, case.dtype, case.sparse)
    if isinstance(net, str):
        return net
    candidate = Network(
        net, net.refresh, net.norms, net.convolutions, None, {**described(net), "density": net.density}
    )
    difference, accepted = _compared(case, plain, candidate)
    return candidate if accepted else f"{_SPARSE_DIFFERS} by {difference:.1e}"


def _dense(case: Case, plain: Network) -> Network:
    """The network with all its multiplications."""
    if case.probe.obstacle is not None:
        return _because(plain, case.probe.obstacle)
    fuse = _fuse(case)
    reason: str | None = None
    for way in (None,) if fuse is None else (fuse, None):
        what = "the folded network" if way is None else "the fused network"
        try:
            candidate = _folded(case, way)
            difference, accepted = _compared(case, plain, candidate)
            steady = _steady(case, plain, candidate) if accepted else True
        except CannotFold as error:
            return _because(plain, str(error))
        except Exception as error:
            reason = f"{what} fails: {str(error).strip().splitlines()[:1]}"
            continue
        if accepted and steady:
            return replace(candidate, unfused=reason)
        reason = f"{what} differs" + (f" by {difference:.1e}" if steady else " from itself")
    return _because(plain, str(reason))


def _fuse(case: Case) -> Fuse | None:
    """What fuses convolutions with what follows, on this device in this type."""
    device = case.weights.start.device.type
    if device == "cpu" and fuse_cpu.available(case.dtype):
        return partial(fuse_cpu.fuse, batch_size=case.batch_size)
    if device == "cuda" and fuse_cuda.available(case.dtype):
        return fuse_cuda.fuse
    return None


def _because(network: Network, reason: str) -> Network:
    return Network(network.call, network.refresh, reason=reason)


def _copying(master: nn.Module, module: nn.Module) -> Callable[[], None]:
    """Brings a low-precision copy up to date."""
    if master is module:
        return lambda: None
    pairs = list(zip(_read(module), _read(master), strict=True))

    def copy() -> None:
        for low, exact in pairs:
            low.detach().copy_(exact.detach())

    return copy


def _read(module: nn.Module) -> list[Tensor]:
    """Parameters, and the buffers that evaluation mode reads; not norms' counts of batches."""
    buffers = [one for name, one in module.named_buffers() if not name.endswith("num_batches_tracked")]
    return [*module.parameters(), *buffers]


def _folded(case: Case, fuse: Fuse | None) -> Network:
    net = fold(case.module, case.master)
    copy = _copying(case.master, case.module)

    def refresh() -> None:
        copy()
        net.refresh()

    count = 0
    if fuse is not None:
        refresh()
        example = case.probe.inputs[0]
        if example.dim() == 4 and example.is_floating_point():
            count = fuse(net, example.contiguous(memory_format=torch.channels_last))
    reason = None if net.norms else "no batch norm follows a convolution"
    return Network(net, refresh, net.norms, count, reason)


def _compared(case: Case, plain: Network, candidate: Network) -> tuple[float, bool]:
    """Largest relative difference in loss and outputs at the centre and beside it, and whether it passes.

    Two ways of rounding to float32 differ by more than any fixed bound in deep networks off the centre. So
    what is above the bound is judged by float64: the candidate passes where it is not much further from that
    than the plain network is.
    """
    axes = len(case.weights.directions)
    off = [0.1 * (-1) ** axis / (axis + 1) for axis in range(axes)]
    worst, accepted = 0.0, True
    for coordinates in ([0.0] * axes, off):
        case.weights.aim(coordinates)
        case.weights.write()
        expected, got = (_outputs(case, network) for network in (plain, candidate))
        difference = _largest(expected, got)
        if not difference <= case.tolerance:
            accepted = accepted and difference <= _ROUNDING and _as_exact(case, expected, got)
        worst = max(worst, difference)
    return worst, accepted


def _steady(case: Case, plain: Network, candidate: Network) -> bool:
    """Whether the candidate has equal bits before and after inputs of NaN, and makes no numbers of those.

    Asked of what is fused on a GPU, where nobody promises it (see `fuse_cuda`). The loss is left out: some
    assert on the device that they get no NaN, after which that can't be used any more.
    """
    if not candidate.fused or case.weights.start.device.type != "cuda":
        return True
    case.weights.aim([0.0] * len(case.weights.directions))
    case.weights.write()
    inputs = case.probe.inputs
    lost = [torch.full_like(x, torch.nan) for x in inputs]
    found = []
    for network, given in (candidate, inputs), (plain, lost), (candidate, lost), (candidate, inputs):
        network.refresh()
        with case.probe.mode():
            found.append(_scores(network, given))
    before, expected, got, after = found
    same = all(map(torch.equal, before, after))
    return same and all(one.isfinite().equal(two.isfinite()) for one, two in zip(expected, got, strict=True))


def _as_exact(case: Case, plain: Sequence[Tensor], candidate: Sequence[Tensor]) -> bool:
    """Whether the candidate is as near to float64, at the present weights, as float32 is."""
    if case.dtype != torch.float32 or case.tf32:
        return False
    exact = copy.deepcopy(case.master).double().eval()

    def call(*inputs: Any) -> Any:
        return exact(*(x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs))

    reference = _outputs(case, Network(call, lambda: None))
    return _largest(reference, candidate) <= _FURTHER * _largest(reference, plain)


def _largest(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    return max(_relative(one, two) for one, two in zip(expected, got, strict=True))


def _outputs(case: Case, network: Network) -> list[Tensor]:
    network.refresh()
    with case.probe.mode():
        values = batch_values(case.loss(network.call, case.batch)).values["loss"]
        return [values.sum(), *_scores(network, case.probe.inputs)]


def _scores(network: Network, inputs: Sequence[Tensor]) -> list[Tensor]:
    outputs = [network.call(_layout(x, network)) for x in inputs]
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _layout(x: Tensor, network: Network) -> Tensor:
    channels_last = network.channels_last and x.dim() == 4
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def _relative(expected: Tensor, got: Tensor) -> float:
    """Largest difference relative to the largest value; entries that are equally not finite agree."""
    if expected.shape != got.shape:
        return float("inf")
    expected, got = expected.double(), got.double()
    finite = expected.isfinite()
    if not torch.equal(finite, got.isfinite()):
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    scale = expected[finite].abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    return float((expected - got)[finite].abs().max() / scale)
