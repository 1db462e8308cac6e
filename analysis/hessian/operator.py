"""`HessianOperator`: products of the mean loss's Hessian with vectors, usable with scipy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.hessian.counted import NOTHING_COUNTS, counter, first_counted
from analysis.hessian.derivatives import CHECKED, beside, choose_derivatives, off_kinks
from analysis.hessian.graph_memory import default_memory, graph_fits, largest_that_runs, too_large
from analysis.hessian.graphs import (
    BatchGraph,
    add,
    batch_length,
    differentiate,
    graph_bytes,
    kept_batches,
    plus,
    refuse_infinite,
)
from analysis.hessian.network_function import ChainRule, Reparametrized, reparametrize
from analysis.hessian.sampled import BLOCKS
from analysis.hessian.shifted import Shifted
from analysis.hessian.space import WeightSpace
from landscape.checks.arguments import number, whole
from landscape.checks.fitting import check_labels, fitting_loss
from landscape.compute import Data, as_examples
from landscape.devices import choose_device
from landscape.engine import left_alone, own_copy
from landscape.engine.contract import check_contract, cut_batch, first_batches
from landscape.engine.cost import choose_batch_size
from landscape.engine.cuda_graph import numerics
from landscape.engine.failing import in_one_line
from landscape.engine.following import Source
from landscape.engine.modes import own_modes
from landscape.engine.original import restored
from landscape.engine.precision import in_precision
from landscape.engine.probe import probe
from landscape.engine.streams import Streams
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import Loss, classification
from landscape.parameters import TRAINABLE, ParamsChoice
from landscape.progress import passed
from landscape.threads import one_thread

FloatArray = npt.NDArray[Any]
Found = TypeVar("Found")
Derivatives = Literal["checked", "exact", "differences"]
DTYPES = {"float32": torch.float32, "float64": torch.float64}
_in_one_line = in_one_line("the loss fails, or can't be differentiated, at the weights")
_PROBED = 16  # examples that decide how the network is run


class HessianOperator(LinearOperator):
    """Hessian of the mean loss over all examples, in evaluation mode, at a network's weights.

    Every example counts the same, however they are cut into batches. The caller's model is never touched:
    the operator works on its own copy. The same product gives the same bits, whatever was computed before
    and whatever `memory` is.

    A product is the derivative of ``⟨gradient, v⟩`` (Pearlmutter, "Fast exact multiplication by the Hessian",
    1994). The graph of the gradient is built once per batch and kept while memory allows, so that a product
    costs one more backward pass through it. Both are checked against differences first, on a few examples
    (`analysis.hessian.derivatives`); where torch has no second derivative or a wrong one, a product is the
    difference of two gradients, in float64.

    Parameters
    ----------
    model
        Any module.
    data
        Tensors ``(inputs, targets)``, an iterable of batches (used as they come), or an `Examples`.
    loss
        See `landscape.losses.Loss`.
    mask
        Bool tensors by parameter name, True = kept; the space then holds the kept weights alone. What it
        doesn't name is wholly kept. None: the full space.
    params
        Which parameters span the space: "trainable" (those that require a gradient; all where none does),
        "all", or names and patterns. See `landscape.parameters`.
    batch_size
        By default chosen from the size of the activations, on a GPU also from that of the graph, and smaller
        where a trial shows that a batch doesn't fit. Given batches stay as they are.
    device, dtype
        "auto", "cpu", "cuda", …; "float32" or "float64".
    memory
        Bytes that kept graphs may take; what doesn't fit is computed again for each call. None: 4 GiB, or
        half of what is free on a GPU.
    derivatives
        "checked", or without a check "exact" or "differences" of gradients.

    Attributes
    ----------
    shape, dtype
        ``(n, n)`` and numpy's type, as scipy expects them.
    space
        The kept coordinates: n of them, in the order of ``named_parameters``.
    products
        How many vectors have been multiplied so far.
    about
        JSON types: device, dtype, batch_size, streams, folded, unfolded_because, bytes_per_example,
        kept_batches, batches, derivatives ("exact" or "differences"), differences_because.

    Raises
    ------
    UserError
        For a mask, dtype, device, batch size or loss that can't be used, no examples, or a loss whose
        gradient is missing or isn't its own.

    >>> _ = torch.manual_seed(0)
    >>> model = nn.Linear(2, 1)
    >>> from landscape.losses import regression
    >>> data = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)
    >>> HessianOperator(model, data, loss=regression).matvec(np.array([1.0, 1.0, 0.0]))
    array([1., 4., 3.], dtype=float32)
    """

    products: int

    @own_modes()
    def __init__(
        self,
        model: nn.Module,
        data: Data,
        *,
        loss: Loss = classification,
        mask: Mapping[str, Tensor] | None = None,
        params: ParamsChoice = TRAINABLE,
        batch_size: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        memory: float | None = None,
        derivatives: Derivatives = "checked",
    ) -> None:
        _check(dtype, memory, derivatives)
        batch_size = None if batch_size is None else whole("batch size", batch_size)
        self.torch_device = torch.device(choose_device(device))
        self.space = WeightSpace(model, mask, params).to(self.torch_device)
        examples, reason, alone = as_examples(data), None, False
        loss = self._loss = fitting_loss(loss, [examples])
        examples = left_alone(examples, model, loss, self.torch_device, DTYPES[dtype])
        if derivatives == "checked":
            alone = self._keeps_contract(model, examples, loss, DTYPES[dtype], batch_size)
            few = self._first_counted(model, examples, CHECKED, DTYPES[dtype])
            reason = self._checked(model, few, loss, mask, params)
        differences = reason is not None or derivatives == "differences"
        dtype = "float64" if differences else dtype
        self.torch_dtype = DTYPES[dtype]
        super().__init__(np.dtype(dtype), (self.space.size, self.space.size))  # type: ignore[call-arg]
        self.products = 0
        module = in_precision(own_copy(model), self.torch_device, self.torch_dtype).eval()
        with self._settings(), one_thread():
            head = examples.head(_PROBED).to(self.torch_device, self.torch_dtype).batches(_PROBED)[0]
            seen = probe(module, loss, head)
            if not seen.values.count:
                few = self._first_counted(model, examples, _PROBED, self.torch_dtype)
                head = few.to(self.torch_device, self.torch_dtype).batches(_PROBED)[0]
                seen = probe(module, loss, head)
            self._network = (
                Reparametrized(module, [], reason="products are differences of gradients")
                if differences
                else reparametrize(module, self.space, loss, head, seen, self.torch_dtype)
            )
            per_example = 0.0 if differences else graph_bytes(self._network, loss, head)
        pure = self._network.pure
        moved = examples.to(self.torch_device, self.torch_dtype, channels_last=pure)
        size = batch_size or choose_batch_size(seen.cost, self.torch_device)
        if self.torch_device.type == "cuda" and batch_size is None and examples.rebatchable:
            size = graph_fits(min(size, len(moved.tensors[-1])), per_example)
            with self._settings():
                size = largest_that_runs(partial(self._trial, module, moved, differences), size)
        self._batches = moved.batches(size)
        self._blocks: Sequence[Any] | None = None
        if examples.rebatchable and len(self._batches) < BLOCKS:
            total, parts = len(moved.tensors[0]), min(BLOCKS, len(moved.tensors[0]))
            edges = [total * part // parts for part in range(parts + 1)]
            self._blocks = moved.cut(edges)
        self._shifted = Shifted(module, self.space, loss, self._batches) if differences else None
        memory = default_memory(self.torch_device) if memory is None else memory
        self._kept = kept_batches(self._batches, per_example, memory)
        self._streams = Streams() if self.torch_device.type == "cpu" and pure and not alone else None
        self._graphs: list[BatchGraph | None] = [None] * len(self._batches)
        self._count, self._mean_loss = 0, math.nan
        self._chain: ChainRule
        self._gradient: Tensor
        self.about: dict[str, Any] = {
            "device": str(self.torch_device),
            "dtype": dtype,
            "batch_size": size if examples.rebatchable else None,
            "streams": self._streams.count if self._streams else 1,
            "folded": pure,
            "unfolded_because": self._network.reason,
            "bytes_per_example": round(per_example),
            "kept_batches": self._kept,
            "batches": len(self._batches),
            "derivatives": "differences" if differences else "exact",
            "differences_because": reason,
        }

    @property
    def size(self) -> int:
        """Length n of the vectors."""
        return self.space.size

    @property
    @_in_one_line
    def examples(self) -> int:
        """How many the loss is averaged over."""
        self._start()
        return self._count

    @_in_one_line
    def gradient(self) -> tuple[float, FloatArray]:
        """Mean loss in nats per example, and its gradient in the kept space, ``[n]``."""
        self._start()
        return self._mean_loss, self._numpy(self._gradient)

    @_in_one_line
    def multiply(self, vectors: Tensor) -> Tensor:
        """``H V`` for ``[n]`` or ``[n, k]`` on the operator's device and in its type."""
        self._start()
        # Copies: where a vector lies in memory, and how its entries are spaced, decides which kernels a CPU
        # library takes, and so the last bits.
        columns = [
            one.clone(memory_format=torch.contiguous_format)
            for one in vectors.reshape(self.size, -1).unbind(1)
        ]
        self.products += len(columns)
        if self._shifted is None:
            found = self._exact(columns)
        else:
            with self._settings():
                found = [self._shifted.multiply(one) for one in columns]
        return torch.stack(found, 1).reshape(vectors.shape)

    def _exact(self, columns: Sequence[Tensor]) -> list[Tensor]:
        """``H v`` by automatic differentiation for every v ``[n]``."""
        with self._settings(), torch.no_grad():
            ways = [self._chain.down(self.space.expand(one)) for one in columns]
            summed = self._sum(lambda graph: [graph.multiply(tangent) for tangent, _ in ways])
            found = []
            for (_, bend), product in zip(ways, summed, strict=True):
                pulled = self._chain.up([one / self._count for one in product])
                found.append(self.space.restrict(plus(pulled, bend) if bend else pulled))
        return found

    @_in_one_line
    def forms(self, vectors: Tensor) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """``vᵀ H_b v`` of the mean loss over each block of examples, float64 ``[K, k]``, and their sizes.

        How they scatter says how ``vᵀ H v`` depends on which examples were drawn. A pass like a product.
        Blocks are the batches, or smaller where these are few and may be cut; those in which nothing counts
        are left out.

        Parameters
        ----------
        vectors
            ``[n, k]``.
        """
        self._start()
        columns = [one.clone(memory_format=torch.contiguous_format) for one in vectors.unbind(1)]
        self.products += len(columns)
        with self._settings():
            if self._shifted is not None:
                counts, sums = self._shifted.slopes(columns, self._blocks)
            else:
                found = list(self._pass(partial(self._forms, columns=columns), self._blocks))
                counts, sums = [count for count, _ in found], [forms for _, forms in found]
        sizes = np.array(counts, dtype=np.int64)
        held = sizes > 0
        found_forms = np.array(sums, dtype=np.float64).reshape(len(sizes), -1)
        return found_forms[held] / sizes[held, None], sizes[held]

    def _forms(self, graph: BatchGraph, columns: Sequence[Tensor]) -> tuple[int, list[float]]:
        """Count and forms of one batch's summed loss; the chain rule's second term follows its gradient."""
        with torch.no_grad():
            chain, found = self._network.at(graph.values()), []
            for one in columns:
                tangent, bend = chain.down(self.space.expand(one))
                form = sum(_inner(*pair) for pair in zip(tangent, graph.multiply(tangent), strict=True))
                more = float(one.double() @ self.space.restrict(bend).double()) if bend else 0.0
                found.append(float(form) + more)
        return graph.count, found

    def to_directions(self, vector: FloatArray | Tensor) -> dict[str, Tensor]:
        """Tensors by parameter name, on the CPU, in the parameters' shapes; exactly zero where pruned."""
        expanded = self.space.expand(self._tensor(vector))
        return {name: one.cpu().clone() for name, one in zip(self.space.names, expanded, strict=True)}

    def from_directions(self, direction: Mapping[str, Tensor]) -> FloatArray:
        """The kept coordinates of a direction, ``[n]``; parameters that it doesn't name are zero.

        Raises
        ------
        UserError
            When a name or a shape doesn't fit.
        """
        return self._numpy(self.space.flatten(direction, self._tensor(np.zeros(0))))

    def curvature(self, direction: Mapping[str, Tensor] | FloatArray | Tensor) -> float:
        """``dᵀ H d / dᵀ d``: second derivative of the mean loss along the unit vector of `direction`.

        The pruned part of a direction is left out. NaN for a direction without length.
        """
        given = self.from_directions(direction) if isinstance(direction, Mapping) else direction
        vector = self._tensor(given)
        length = float(vector.double().norm())
        if not length:
            return math.nan
        vector = vector / length
        return float(vector.double() @ self.multiply(vector).double())

    def _matvec(self, x: FloatArray) -> FloatArray:
        return self._numpy(self.multiply(self._tensor(x).reshape(-1)))

    def _matmat(self, X: FloatArray) -> FloatArray:  # noqa: N803
        return self._numpy(self.multiply(self._tensor(X)))

    def _adjoint(self) -> HessianOperator:
        return self

    def _start(self) -> None:
        """The first pass: loss, gradient, number of examples."""
        if self._count:
            return
        if self._shifted is not None:
            with self._settings():
                loss, gradient, count = self._shifted.mean()
            refuse_infinite(loss, [gradient])
            self._mean_loss, self._gradient, self._count = loss, gradient, count
            return
        with self._settings():
            found = list(self._pass(lambda graph: (graph.loss, graph.count, graph.values())))
        total = [one.clone() for one in found[0][2]]
        for _, _, more in found[1:]:
            total = add(total, more)
        count = sum(one[1] for one in found)
        if not count:
            raise UserError(NOTHING_COUNTS)
        loss = math.fsum(one[0] for one in found) / count
        refuse_infinite(loss, total)
        with self._settings():
            self._chain = self._network.at([one / count for one in total])
            self._gradient = self.space.restrict(self._chain.up(self._chain.gradient)).detach()
        self._mean_loss, self._count = loss, count

    def _keeps_contract(
        self, model: nn.Module, examples: Examples, loss: Loss, dtype: torch.dtype, batch_size: int | None
    ) -> bool:
        """Refuse a loss that is no function of the weights; whether its calls mustn't overlap."""
        few = first_batches(examples, self.torch_device, dtype)
        with self._settings(), one_thread(), restored(model) as original:
            source = Source(model, own_copy, self.torch_device, dtype, self.space.names, original)
            module, chosen = source.fresh(), cut_batch([examples], self.torch_device, dtype, batch_size)
            check_labels(loss, module, few[0], [examples])
            seen = probe(module, loss, few[0])
            return check_contract(loss, module, few, seen, source, examples.given, chosen=chosen)

    def _first_counted(self, model: nn.Module, examples: Examples, size: int, dtype: torch.dtype) -> Examples:
        """A few examples of which some count for the loss; see `first_counted`."""
        module = in_precision(own_copy(model), self.torch_device, dtype).eval()
        with self._settings(), one_thread(), restored(model):
            return first_counted(examples, size, counter(self._loss, module, self.torch_device, dtype))

    def _checked(
        self,
        model: nn.Module,
        examples: Examples,
        loss: Loss,
        mask: Mapping[str, Tensor] | None,
        params: ParamsChoice,
    ) -> str | None:
        """Why products must be differences of gradients, or None; see `choose_derivatives`."""

        def check(moved: bool) -> str | None:
            network = beside(model, self.space) if moved else model

            def shifted(dtype: torch.dtype) -> Shifted:
                module = in_precision(own_copy(network), self.torch_device, dtype).eval()
                batches = examples.to(self.torch_device, dtype).batches(CHECKED)
                return Shifted(module, self.space, loss, batches)

            def products(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
                trial = HessianOperator(
                    network,
                    examples,
                    loss=loss,
                    mask=mask,
                    params=params,
                    batch_size=CHECKED,
                    device=str(self.torch_device),
                    dtype="float64" if dtype == torch.float64 else "float32",
                    derivatives="exact",
                )
                trial._start()
                return lambda vectors: torch.stack(trial._exact(vectors.unbind(1)), 1)

            return choose_derivatives(shifted, products, self.space, finite=moved)

        with self._settings(), one_thread():
            return off_kinks(check)

    def _sum(self, work: Callable[[BatchGraph], list[list[Tensor]]]) -> list[list[Tensor]]:
        """Add up what `work` gives for each batch, in the order of the batches."""
        total: list[list[Tensor]] = []
        for found in self._pass(work):
            if total:
                total = [add(*pair) for pair in zip(total, found, strict=True)]
            else:  # copies: autograd may return one tensor for two leaves
                total = [[one.clone() for one in product] for product in found]
        return total

    def _pass(
        self, work: Callable[[BatchGraph], Found], blocks: Sequence[Any] | None = None
    ) -> Iterator[Found]:
        """Apply `work` to every batch's graph, as many at a time as there are streams; or to others'."""

        def one(number: int) -> Found:
            graph = self._graphs[number] if blocks is None else None
            if graph is None:
                batch = (self._batches if blocks is None else blocks)[number]
                graph = differentiate(self._network, self._loss, batch)
                if blocks is None and number < self._kept:
                    self._graphs[number] = graph
            found = work(graph)
            passed(graph.count)
            return found

        numbers = range(len(self._batches if blocks is None else blocks))
        if self._streams is None:
            yield from map(partial(self._roomily, one), numbers)
            return
        at_once = self._streams.count
        for start in range(0, len(numbers), at_once):
            yield from self._streams.map(one, numbers[start : start + at_once])

    def _roomily(self, work: Callable[[int], Found], number: int) -> Found:
        """Do it, on a full GPU again without kept graphs: no bit hangs on these."""
        try:
            return work(number)
        except torch.OutOfMemoryError:
            pass
        self._kept, self._graphs = 0, [None] * len(self._graphs)
        self.about["kept_batches"] = 0
        torch.cuda.empty_cache()
        try:
            return work(number)
        except torch.OutOfMemoryError as error:
            raise too_large(max(map(batch_length, self._batches))) from error

    def _trial(self, module: nn.Module, examples: Examples, differences: bool, size: int) -> None:
        """A product, or a gradient where products are differences of these, of one batch."""
        batch = examples.head(size).batches(size)[0]
        if differences:
            Shifted(module, self.space, self._loss, [batch]).mean()
            return
        graph = differentiate(self._network, self._loss, batch)
        graph.multiply([torch.zeros_like(one) for one in graph.gradient])

    @contextmanager
    def _settings(self) -> Iterator[None]:
        # Fused attention has no second derivative.
        with numerics(self.torch_device, False), sdpa_kernel(SDPBackend.MATH):
            yield

    def _tensor(self, vector: FloatArray | Tensor) -> Tensor:
        if not isinstance(vector, Tensor):  # a copy: torch takes neither read-only nor reversed arrays
            vector = torch.from_numpy(np.array(vector, order="C"))
        return vector.to(self.torch_device, self.torch_dtype)

    def _numpy(self, vector: Tensor) -> FloatArray:
        return np.asarray(vector.detach().cpu().numpy())


def _inner(first: Tensor, second: Tensor) -> float:
    return float((first.double() * second.double()).sum())


def _check(dtype: str, memory: float | None, derivatives: str) -> None:
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    if derivatives not in get_args(Derivatives):
        raise UserError(
            f"unknown derivatives {derivatives!r}; expected one of {', '.join(get_args(Derivatives))}"
        )
    if memory is not None and not number("memory", memory) >= 0:
        raise UserError(f"memory must be a number of bytes, 0 or more, got {memory}")
