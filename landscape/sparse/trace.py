"""A network as a list of simple operations, or the reason why it isn't one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from landscape.engine.tracing import trace as symbolic_trace
from landscape.sparse.layout import Form
from landscape.sparse.lists import Geometry


class CannotRun(Exception):  # noqa: N818
    """The sparse kernels can't run this network; the text says why."""


@dataclass
class Operation:
    """One step.

    Attributes
    ----------
    kind
        "input", "convolution", "norm", "relu", "add", "average", "largest", "subsample" or "flatten".
    inputs
        Numbers of the operations that it reads.
    form
        Shape of its result; a vector of features has a 1×1 map.
    module
        Name of the module with the parameters, for a convolution (or linear layer) and a norm.
    geometry
        Of a convolution.
    windows
        Of pooling: first and last (exclusive) row of each output row, then columns, then divisors
        ``[rows · columns]``.
    before
        Of a subsample: steps in rows and columns, then channels of zeros in front.
    """

    kind: str
    inputs: tuple[int, ...]
    form: Form
    module: str = ""
    geometry: Geometry = field(default_factory=Geometry)
    windows: tuple[list[tuple[int, int]], list[tuple[int, int]], list[float]] | None = None
    before: tuple[int, int, int] = (1, 1, 0)


@dataclass(frozen=True)
class Traced:
    """Operations in order, and the number of the one whose result is the network's."""

    operations: list[Operation]
    output: int
    output_shape: tuple[int, ...]

    def readers(self) -> list[list[int]]:
        """For each operation, those that read it."""
        found: list[list[int]] = [[] for _ in self.operations]
        for number, one in enumerate(self.operations):
            for source in one.inputs:
                found[source].append(number)
        return found


def trace(network: nn.Module, example: Tensor) -> Traced:
    """Follow a network's forward pass.

    Parameters
    ----------
    network
        In the mode in which it shall run; it isn't changed.
    example
        Input ``[N, C, H, W]`` that gives the shapes.

    Raises
    ------
    CannotRun
        Where it does something that the kernels don't.
    """
    if example.dim() != 4:
        raise CannotRun(f"its input has {example.dim()} dimensions, not 4")
    try:
        module = symbolic_trace(network, to_run=True)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CannotRun(f"it can't be traced: {lines[0][:200]}") from error
    shapes = _Shapes(module)
    shapes.run_on(example)
    return _Reader(module, shapes.found).read()


class _Shapes(fx.Interpreter):
    """Notes every tensor's shape; in evaluation mode, so that no statistics move."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, tuple[int, ...]] = {}

    def run_on(self, example: Tensor) -> None:
        modes = [(one, one.training) for one in self.module.modules()]
        try:
            for one, _ in modes:
                one.training = False
            with torch.no_grad():
                self.run(example.detach().clone())
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CannotRun(f"its traced form fails: {lines[0][:200]}") from error
        finally:
            for one, mode in modes:
                one.training = mode

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n] = tuple(result.shape)
        return result


_SAME_METHODS = {"contiguous"}
_RELUS = {F.relu, torch.relu, torch.relu_, "relu", "relu_"}
_ADDS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_IN_PLACE = {torch.relu_, operator.iadd, "relu_", "add_"}


class _Reader:
    """Turns nodes into operations."""

    def __init__(self, module: fx.GraphModule, shapes: Mapping[fx.Node, tuple[int, ...]]) -> None:
        self.module, self.shapes = module, shapes
        self.operations: list[Operation] = []
        self.number: dict[fx.Node, int] = {}

    def read(self) -> Traced:
        output: fx.Node | None = None
        for node in self.module.graph.nodes:
            if node.op == "output":
                if not isinstance(node.args[0], fx.Node):
                    raise CannotRun("it returns more than one tensor")
                output = node.args[0]
            elif node in self.shapes:
                self.node(node)
        if output is None or output not in self.number:
            raise CannotRun("its result isn't a tensor")
        if sum(one.kind == "input" for one in self.operations) != 1:
            raise CannotRun("it takes more than one input")
        return Traced(self.operations, self.number[output], self.shapes[output])

    def node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.put(node, Operation("input", (), self.form(node)))
        elif node.op == "call_module":
            self.call_module(node)
        elif node.op in ("call_function", "call_method"):
            self.call(node)
        elif any(user.op != "output" for user in node.users):
            raise CannotRun(f"it uses the tensor {node.target!r} by itself")

    def put(self, node: fx.Node, operation: Operation) -> None:
        self.number[node] = len(self.operations)
        self.operations.append(operation)

    def same(self, node: fx.Node, source: fx.Node) -> None:
        self.number[node] = self.of(source)

    def of(self, value: Any) -> int:
        """The operation that a value comes from."""
        if not isinstance(value, fx.Node) or value not in self.number:
            raise CannotRun(f"it computes with {str(value)[:60]}, which is no activation")
        return self.number[value]

    def form(self, node: fx.Node) -> Form:
        shape = self.shapes[node]
        if len(shape) == 2:
            return Form(shape[1], 1, 1)
        if len(shape) == 4:
            return Form(*shape[1:])
        raise CannotRun(f"it has a tensor of {len(shape)} dimensions")

    # -- modules ------------------------------------------------------------------------------------------

    def call_module(self, node: fx.Node) -> None:
        one = self.module.get_submodule(str(node.target))
        name = type(one).__name__
        if len(node.args) != 1 or node.kwargs:
            raise CannotRun(f"it calls {name} with more than one argument")
        if one._forward_hooks or one._forward_pre_hooks:
            raise CannotRun(f"hooks are on {node.target}")
        found = _MODULES.get(type(one))
        if found is None:
            raise CannotRun(f"it uses {name}")
        found(self, node, one)

    def convolution(self, node: fx.Node, conv: nn.Conv2d) -> None:
        if conv.padding_mode != "zeros":
            raise CannotRun(f"its padding mode is {conv.padding_mode}")
        kernel, dilation = _pair(conv.kernel_size), _pair(conv.dilation)
        if conv.padding == "same":
            before = tuple(apart * (size - 1) // 2 for size, apart in zip(kernel, dilation, strict=True))
        else:
            before = (0, 0) if conv.padding == "valid" else _pair(conv.padding)
        geometry = Geometry(kernel, _pair(conv.stride), _pair(before), dilation, conv.groups)
        source = (self.of(node.args[0]),)
        self.put(node, Operation("convolution", source, self.form(node), str(node.target), geometry))

    def linear(self, node: fx.Node, _: nn.Linear) -> None:
        source = node.args[0]
        if not isinstance(source, fx.Node) or len(self.shapes[source]) != 2:
            raise CannotRun("a linear layer's input isn't a vector")
        form = self.form(node)
        self.put(node, Operation("convolution", (self.of(source),), form, str(node.target)))

    def norm(self, node: fx.Node, norm: nn.BatchNorm2d) -> None:
        self.put(node, Operation("norm", (self.of(node.args[0]),), self.form(node), str(node.target)))

    def relu(self, node: fx.Node, module: nn.ReLU | None = None) -> None:
        in_place = module.inplace if module is not None else self.flag(node, "inplace", 1)
        if in_place or node.target in _IN_PLACE:
            self.check_overwritten(node)
        self.put(node, Operation("relu", (self.of(node.args[0]),), self.form(node)))

    def identity(self, node: fx.Node, _: nn.Module) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        self.same(node, source)

    def dropout(self, node: fx.Node, dropout: nn.Dropout) -> None:
        if dropout.training and dropout.p > 0:
            raise CannotRun("it drops activations at random")
        self.identity(node, dropout)

    def flatten_module(self, node: fx.Node, flatten: nn.Flatten) -> None:
        self.flatten(node)

    def pool_module(self, node: fx.Node, pool: Any) -> None:
        if getattr(pool, "return_indices", False):
            raise CannotRun("it asks where the largest values are")
        largest = isinstance(pool, nn.MaxPool2d)
        self.pool(
            node,
            "largest" if largest else "average",
            pool.kernel_size,
            pool.stride,
            pool.padding,
            pool.dilation if largest else 1,
            True if largest else pool.count_include_pad,
            None if largest else pool.divisor_override,
        )

    def adaptive_module(self, node: fx.Node, pool: Any) -> None:
        if getattr(pool, "return_indices", False):
            raise CannotRun("it asks where the largest values are")
        self.adaptive(node, "largest" if isinstance(pool, nn.AdaptiveMaxPool2d) else "average")

    # -- functions ----------------------------------------------------------------------------------------

    def call(self, node: fx.Node) -> None:
        target = node.target
        if target in _RELUS:
            self.relu(node)
        elif target in _ADDS:
            self.add(node)
        elif target in (torch.flatten, "flatten", "view", "reshape", torch.reshape):
            self.flatten(node)
        elif target in _SAME_METHODS or (
            target == "view_as" and self.shapes[node] == self.shapes.get(node.args[0])  # type: ignore[arg-type]
        ):
            self.identity(node, nn.Identity())
        elif target in ("mean", torch.mean):
            self.mean(node)
        elif target in (F.avg_pool2d, F.max_pool2d, torch.max_pool2d):
            self.pool_function(node)
        elif target in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d):
            self.adaptive(node, "average" if target is F.adaptive_avg_pool2d else "largest")
        elif target is operator.getitem:
            self.subsample(node)
        elif target is F.pad:
            self.pad(node)
        elif target is F.dropout:
            if self.flag(node, "training", 2, default=True) and node.kwargs.get("p", 0.5) != 0:
                raise CannotRun("it drops activations at random")
            self.identity(node, nn.Identity())
        else:
            raise CannotRun(f"it uses {getattr(target, '__name__', target)}")

    def flag(self, node: fx.Node, name: str, place: int, default: bool = False) -> bool:
        if len(node.args) > place:
            return bool(node.args[place])
        return bool(node.kwargs.get(name, default))

    def check_overwritten(self, node: fx.Node) -> None:
        """An operation in place is the same as one out of place if nothing else reads what it overwrites."""
        number = self.of(node.args[0])
        nodes = {one for one, place in self.number.items() if place == number}
        while self.operations[number].kind == "flatten":  # a view of what it reads
            (number,) = self.operations[number].inputs
            nodes |= {one for one, place in self.number.items() if place == number}
        if len({user for one in nodes for user in one.users} - nodes) > 1:
            raise CannotRun(f"{node.name} overwrites what is read elsewhere")

    def add(self, node: fx.Node) -> None:
        if node.kwargs or len(node.args) != 2:
            raise CannotRun("it adds with a factor")
        one, two = node.args
        sources = (self.of(one), self.of(two))
        if self.shapes[one] != self.shapes[two]:  # type: ignore[index]
            raise CannotRun("it adds tensors of different shapes")
        if node.target in _IN_PLACE:
            self.check_overwritten(node)
        self.put(node, Operation("add", sources, self.form(node)))

    def flatten(self, node: fx.Node) -> None:
        source = node.args[0]
        form = self.form(node)
        self.of(source)
        assert isinstance(source, fx.Node)
        if self.form(source).numbers != form.channels or len(self.shapes[node]) != 2:
            raise CannotRun("it reshapes an activation")
        if self.shapes[source][0] != self.shapes[node][0]:
            raise CannotRun("it mixes images")
        self.put(node, Operation("flatten", (self.of(source),), form))

    def mean(self, node: fx.Node) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        dims = {one % 4 for one in (given if isinstance(given, tuple | list) else ()) if isinstance(one, int)}
        if set(node.kwargs) - {"dim", "keepdim"} or len(self.shapes[source]) != 4 or dims != {2, 3}:
            raise CannotRun("it averages over something else than rows and columns")
        form = self.form(source)
        windows = ([(0, form.height)], [(0, form.width)], [1 / (form.height * form.width)])
        self.put(node, Operation("average", (self.of(source),), Form(form.channels, 1, 1), windows=windows))

    def pool_function(self, node: fx.Node) -> None:
        largest = node.target is not F.avg_pool2d
        names = ["kernel_size", "stride", "padding"]
        names += (
            ["dilation", "ceil_mode"] if largest else ["ceil_mode", "count_include_pad", "divisor_override"]
        )
        given: dict[str, Any] = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        if given.pop("return_indices", False):
            raise CannotRun("it asks where the largest values are")
        self.pool(
            node,
            "largest" if largest else "average",
            given["kernel_size"],
            given.get("stride"),
            given.get("padding", 0),
            given.get("dilation", 1),
            given.get("count_include_pad", True),
            given.get("divisor_override"),
        )

    def pool(
        self,
        node: fx.Node,
        kind: str,
        kernel: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        include_pad: bool,
        divisor: int | None,
    ) -> None:
        size, pad = _pair(kernel), _pair(padding)
        step = size if stride is None or stride == [] else _pair(stride)
        if _pair(dilation) != (1, 1):
            raise CannotRun("it pools with a dilation")
        source = node.args[0]
        assert isinstance(source, fx.Node)
        form, out = self.form(source), self.form(node)
        bounds: list[list[tuple[int, int]]] = []
        counts: list[list[int]] = []
        for axis, (length, pieces) in enumerate(((form.height, out.height), (form.width, out.width))):
            starts = [number * step[axis] - pad[axis] for number in range(pieces)]
            bounds.append([(max(0, start), min(length, start + size[axis])) for start in starts])
            # PyTorch counts padding in, but never what lies beyond it.
            counts.append([min(start + size[axis], length + pad[axis]) - start for start in starts])
        shares = []
        for row, (top, bottom) in enumerate(bounds[0]):
            for column, (left, right) in enumerate(bounds[1]):
                inside = (bottom - top) * (right - left)
                padded = counts[0][row] * counts[1][column]
                shares.append(1 / (divisor or (padded if include_pad else inside)))
        windows = (bounds[0], bounds[1], shares)
        self.put(node, Operation(kind, (self.of(source),), out, windows=windows))

    def adaptive(self, node: fx.Node, kind: str) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        form, out = self.form(source), self.form(node)
        bounds = [
            [(number * size // pieces, -(-(number + 1) * size // pieces)) for number in range(pieces)]
            for size, pieces in ((form.height, out.height), (form.width, out.width))
        ]
        shares = [
            1 / ((bottom - top) * (right - left)) for top, bottom in bounds[0] for left, right in bounds[1]
        ]
        windows = (bounds[0], bounds[1], shares)
        self.put(node, Operation(kind, (self.of(source),), out, windows=windows))

    def subsample(self, node: fx.Node) -> None:
        source, key = node.args
        assert isinstance(source, fx.Node)
        everything = slice(None, None, None)
        parts: list[Any] = list(key) if isinstance(key, tuple) else [key]
        plain = len(self.shapes[source]) == 4 and all(
            isinstance(part, slice) and part.start in (None, 0) and part.stop is None for part in parts
        )
        if not plain or any(part not in (everything, slice(0, None, None)) for part in parts[:2]):
            raise CannotRun("it takes parts of an activation")
        parts += [everything] * (4 - len(parts))
        steps = [part.step or 1 for part in parts[2:]]
        before = (int(steps[0]), int(steps[1]), 0)
        self.put(node, Operation("subsample", (self.of(source),), self.form(node), before=before))

    def pad(self, node: fx.Node) -> None:
        source, amounts, *rest = node.args
        assert isinstance(source, fx.Node)
        given = dict(zip(("mode", "value"), rest, strict=False)) | dict(node.kwargs)
        numbers: list[Any] = list(amounts) if isinstance(amounts, tuple | list) else []
        numbers += [0] * (8 - len(numbers))
        good = given.get("mode", "constant") == "constant" and not given.get("value")
        if not good or any(numbers[:4]) or any(numbers[6:]) or min(numbers[4:6]) < 0:
            raise CannotRun("it pads otherwise than with channels of zeros")
        rows, columns, place = 1, 1, self.of(source)
        earlier = self.operations[place]
        if earlier.kind == "subsample" and earlier.before[2] == 0 and len(source.users) == 1:
            (rows, columns, _), place = earlier.before, earlier.inputs[0]  # one pass instead of two
        before = (rows, columns, int(numbers[4]))
        self.put(node, Operation("subsample", (place,), self.form(node), before=before))


_MODULES: dict[type[nn.Module], Callable[[_Reader, fx.Node, Any], None]] = {
    nn.Conv2d: _Reader.convolution,
    nn.Linear: _Reader.linear,
    nn.BatchNorm2d: _Reader.norm,
    nn.ReLU: _Reader.relu,
    nn.Identity: _Reader.identity,
    nn.Dropout: _Reader.dropout,
    nn.Dropout2d: _Reader.dropout,
    nn.Flatten: _Reader.flatten_module,
    nn.MaxPool2d: _Reader.pool_module,
    nn.AvgPool2d: _Reader.pool_module,
    nn.AdaptiveAvgPool2d: _Reader.adaptive_module,
    nn.AdaptiveMaxPool2d: _Reader.adaptive_module,
}


def _pair(value: Any) -> tuple[int, int]:
    """A size for rows and columns."""
    if isinstance(value, int):
        return (value, value)
    first, second = value if len(value) == 2 else (value[0], value[0])
    return (int(first), int(second))
