"""IR of everything that isn't a convolution: sums with a factor per channel, pooling, layouts, zeros.

All in the layout ``[channel][row][column][lane]``; a tensor's row, channel and column lie as far apart as its
record says, so that borders, every second pixel and shifted channels need no kernel of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from landscape.sparse.ir import Code
from landscape.sparse.machine import Element, Machine

# Entries of the context, see `memory`.
VALID, INPUT, OUTPUT, STRIDES = 4, 5, 6, 7  # strides: image, channel, row, column


def view(name: str) -> list[str]:
    """Fields of a tensor."""
    return [f"{name}_{part}" for part in ("space", "at", "row", "channel", "column")]


def vector(name: str) -> list[str]:
    """Fields of one number per channel."""
    return [f"{name}_space", f"{name}_at"]


_POOL = ["channels", "rows", "columns", "tops", "bottoms", "lefts", "rights"]
FIELDS: dict[str, list[str]] = {
    "combine": [
        *("channels", "rows", "groups", "relu", "two", "masked"),
        *(*view("one"), *view("other"), *view("out")),
        *(*vector("scale1"), *vector("scale2"), *vector("shift")),
    ],
    "average": [*_POOL, "shares", *view("one"), *view("out")],
    "largest": [*_POOL, *view("one"), *view("out")],
    "average_back": [*_POOL, "shares", *view("one"), *view("out")],
    "largest_back": [*_POOL, *view("one"), *view("largest"), *view("gradient"), *view("out")],
    "zero": ["out_space", "out_at", "vectors"],
    "pack": ["channels", "rows", "columns", *view("out")],
    "unpack": ["channels", "rows", "columns", *view("one")],
    "pack_gradient": ["channels", "rows", "columns", *view("out")],
}


class _Kernel:
    """Loops and addresses that the kernels here share."""

    def __init__(self, name: str, kind: str, machine: Machine, element: Element) -> None:
        self.code = Code(name, machine, element, FIELDS[kind])

    @contextmanager
    def over(
        self, *names: str, end: str = "columns", width: int = 1
    ) -> Iterator[tuple[str, str, str, dict[str, str]]]:
        """For every channel, row and column (or group of `width`) of tensors of one shape."""
        code = self.code
        bases = {name: code.tensor(name) for name in names}
        with code.loop(code.field("channels")) as channel:
            planes = self.step(bases, "channel", channel)
            with code.loop(code.field("rows")) as row:
                lines = self.step(planes, "row", row)
                with code.loop(code.field("columns")) as column:
                    yield channel, row, column, self.step(lines, "column", column)

    def step(self, places: dict[str, str], what: str, number: str) -> dict[str, str]:
        """So many rows, columns or channels further, in each tensor."""
        return {name: self.one_step(name, place, what, number) for name, place in places.items()}

    def one_step(self, name: str, place: str, what: str, number: str | int) -> str:
        """The same in one."""
        code = self.code
        return code.at(place, code.mul(code.field(f"{name}_{what}"), number))


def combine(width: int, machine: Machine, element: Element) -> Code:
    """``out = scale1·one [+ scale2·other] + shift`` per channel, `width` columns at a time.

    ReLU if `relu`; zero in lanes without an image if `masked`.
    """
    kernel = _Kernel(f"combine_{width}", "combine", machine, element)
    code = kernel.code
    relu, two = (code.do(f"icmp ne i64 {code.field(one)}, 0") for one in ("relu", "two"))
    lowest = code.spread(code.do(f"select i1 {relu}, {code.element} 0.0, {code.element} 0xFFF0000000000000"))
    mask = _valid_lanes(code, "masked")
    vectors = {name: code.tensor(name) for name in ("scale1", "scale2", "shift")}
    bases = {name: code.tensor(name) for name in ("one", "other", "out")}
    with code.loop(code.field("channels")) as channel:
        scale1, scale2, shift = (
            code.spread_from(code.item_at(vectors[name], channel)) for name in ("scale1", "scale2", "shift")
        )
        planes = kernel.step(bases, "channel", channel)
        with code.loop(code.field("rows")) as row:
            lines = kernel.step(planes, "row", row)
            with code.loop(code.field("groups")) as group:
                first = code.mul(group, width)
                places = [kernel.step(lines, "column", code.add(first, number)) for number in range(width)]
                values = [code.fma(scale1, code.load(place["one"]), shift) for place in places]
                cells = [code.cell(code.vector, value) for value in values]
                with code.when(two):
                    for cell, value, place in zip(cells, values, places, strict=True):
                        more = code.fma(scale2, code.load(place["other"]), value)
                        code.set(cell, code.vector, more)
                for cell, place in zip(cells, places, strict=True):
                    value = code.at_least(code.get(cell, code.vector), lowest)
                    code.store(code.choose(mask, value, "zeroinitializer"), place["out"])
    return code


def _valid_lanes(code: Code, flag: str = "") -> str:
    """Which lanes hold an image; all of them where the record's flag isn't set."""
    valid = code.context(VALID)
    if flag:
        on = code.do(f"icmp ne i64 {code.field(flag)}, 0")
        valid = code.do(f"select i1 {on}, i64 {valid}, i64 {code.lanes}")
    first = code.do(f"insertelement <{code.lanes} x i64> poison, i64 {valid}, i32 0")
    zeros = f"<{code.lanes} x i32> zeroinitializer"
    every = code.do(f"shufflevector <{code.lanes} x i64> {first}, <{code.lanes} x i64> poison, {zeros}")
    return code.do(f"icmp slt <{code.lanes} x i64> {_lane_numbers(code)}, {every}")


def _lane_numbers(code: Code) -> str:
    return "<" + ", ".join(f"i64 {lane}" for lane in range(code.lanes)) + ">"


def pool(kind: str, machine: Machine, element: Element) -> Code:
    """Averages ("average") or largest values ("largest", NaN stays) over windows whose bounds are listed."""
    kernel = _Kernel(f"pool_{kind}", kind, machine, element)
    code = kernel.code
    source = code.tensor("one")
    start = "zeroinitializer" if kind == "average" else _splat(code, "0xFFF0000000000000")
    with kernel.over("out") as (channel, row, column, places):
        total = code.cell(code.vector, start)
        plane = kernel.one_step("one", source, "channel", channel)
        with _window(kernel, plane, row, column) as (place, _):
            value, so_far = code.load(place), code.get(total, code.vector)
            more = code.fadd(so_far, value) if kind == "average" else _larger(code, so_far, value)
            code.set(total, code.vector, more)
        result = code.get(total, code.vector)
        if kind == "average":
            result = code.fmul(result, _share(code, row, column))
        code.store(result, places["out"])
    return code


def _larger(code: Code, a: str, b: str) -> str:
    """The larger one; NaN where either is, the first one's."""
    greater = code.do(f"fcmp ogt {code.vector} {b}, {a}")
    best = code.choose(greater, b, a)
    bad = code.do(f"fcmp uno {code.vector} {b}, {b}")
    return code.choose(bad, b, best)


def average_back(machine: Machine, element: Element) -> Code:
    """``out += share · one`` over each window; `one` is the gradient by an average."""
    kernel = _Kernel("average_back", "average_back", machine, element)
    code = kernel.code
    target = code.tensor("out")
    with kernel.over("one") as (channel, row, column, places):
        value = code.fmul(code.load(places["one"]), _share(code, row, column))
        plane = kernel.one_step("out", target, "channel", channel)
        with _window(kernel, plane, row, column, "out") as (place, _):
            code.store(code.fadd(code.load(place), value), place)
    return code


def largest_back(machine: Machine, element: Element) -> Code:
    """``out += gradient`` where a window's first largest value stands, as PyTorch has it."""
    kernel = _Kernel("largest_back", "largest_back", machine, element)
    code = kernel.code
    source, target = code.tensor("one"), code.tensor("out")
    with kernel.over("largest", "gradient") as (channel, row, column, places):
        best = code.load(places["largest"])
        left = code.cell(code.vector, code.load(places["gradient"]))
        planes = [
            kernel.one_step(name, base, "channel", channel)
            for name, base in (("one", source), ("out", target))
        ]
        with _window(kernel, planes[0], row, column, "one", (planes[1], "out")) as (place, goal):
            value = code.load(place)
            same = code.do(f"fcmp oeq {code.vector} {value}, {best}")
            bad = code.do(f"fcmp uno {code.vector} {value}, {best}")
            kind = f"<{code.lanes} x i1>"
            here = code.do(f"or {kind} {same}, {bad}")
            rest = code.get(left, code.vector)
            code.store(code.fadd(code.load(goal), code.choose(here, rest, "zeroinitializer")), goal)
            code.set(left, code.vector, code.choose(here, "zeroinitializer", rest))
    return code


@contextmanager
def _window(
    kernel: _Kernel,
    plane: str,
    row: str,
    column: str,
    name: str = "one",
    second: tuple[str, str] | None = None,
) -> Iterator[tuple[str, str]]:
    """For every place of the window at (`row`, `column`); in a second tensor, too, if there is one."""
    code = kernel.code
    bounds = {
        key: code.index(code.pointer(code.field(key)), row if key in ("tops", "bottoms") else column)
        for key in ("tops", "bottoms", "lefts", "rights")
    }
    with code.loop(bounds["bottoms"], bounds["tops"]) as y:
        line = kernel.one_step(name, plane, "row", y)
        with code.loop(bounds["rights"], bounds["lefts"]) as x:
            place = kernel.one_step(name, line, "column", x)
            if second is None:
                yield place, place
            else:
                other = kernel.one_step(second[1], second[0], "row", y)
                yield place, kernel.one_step(second[1], other, "column", x)


def _share(code: Code, row: str, column: str) -> str:
    """What a window's sum is multiplied with."""
    number = code.add(code.mul(row, code.field("columns")), column)
    return code.spread_from(code.item_at(code.pointer(code.field("shares")), number))


def _splat(code: Code, number: str) -> str:
    return "<" + ", ".join(f"{code.element} {number}" for _ in range(code.lanes)) + ">"


def zero(machine: Machine, element: Element) -> Code:
    """`vectors` vectors of zeros."""
    code = Code("zero", machine, element, FIELDS["zero"])
    base = code.tensor("out")
    with code.loop(code.field("vectors")) as number:
        code.store("zeroinitializer", code.at(base, code.mul(number, code.vector_bytes)))
    return code


def pack(machine: Machine, element: Element) -> Code:
    """The block's images, with whatever strides, into lanes; lanes without an image repeat the last one."""
    kernel = _Kernel("pack", "pack", machine, element)
    code = kernel.code
    kind, addresses = f"<{code.lanes} x i64>", f"<{code.lanes} x ptr>"
    source = code.pointer(code.context(INPUT))
    image, channel_step, row_step, column_step = (code.context(STRIDES + number) for number in range(4))
    last = _spread_integer(code, code.sub(code.context(VALID), 1))
    lanes = code.call(f"llvm.smin.v{code.lanes}i64", kind, _lane_numbers(code), last)
    offsets = code.do(f"mul {kind} {lanes}, {_spread_integer(code, image)}")
    gather = f"llvm.masked.gather.v{code.lanes}f{8 * code.item}.v{code.lanes}p0"
    bits = f"<{code.lanes} x i1>"
    code.declare(f"declare {code.vector} @{gather}({addresses}, i32, {bits}, {code.vector})")
    every = "<" + ", ".join(["i1 true"] * code.lanes) + ">"
    with kernel.over("out") as (channel, row, column, places):
        place = code.at(source, code.mul(channel, channel_step))
        place = code.at(code.at(place, code.mul(row, row_step)), code.mul(column, column_step))
        where = code.do(f"getelementptr i8, ptr {place}, {kind} {offsets}")
        arguments = f"{addresses} {where}, i32 {code.item}, {bits} {every}, {code.vector} poison"
        code.store(code.do(f"call {code.vector} @{gather}({arguments})"), places["out"])
    return code


def _spread_integer(code: Code, number: str) -> str:
    kind = f"<{code.lanes} x i64>"
    first = code.do(f"insertelement {kind} poison, i64 {number}, i32 0")
    return code.do(f"shufflevector {kind} {first}, {kind} poison, <{code.lanes} x i32> zeroinitializer")


def unpack(machine: Machine, element: Element) -> Code:
    """The valid lanes as images, in the order image, channel, row, column without gaps."""
    kernel = _Kernel("unpack", "unpack", machine, element)
    code = kernel.code
    target = code.pointer(code.context(OUTPUT))
    rows, columns = code.field("rows"), code.field("columns")
    area = code.mul(rows, columns)
    size = code.mul(area, code.field("channels"))
    with kernel.over("one") as (channel, row, column, places):
        place = code.add(code.add(code.mul(channel, area), code.mul(row, columns)), column)
        with code.loop(code.context(VALID)) as lane:
            value = code.load(code.item_at(places["one"], lane), code.element)
            goal = code.item_at(target, code.add(code.mul(lane, size), place))
            code.store(value, goal, code.element)
    return code


def pack_gradient(machine: Machine, element: Element) -> Code:
    """The opposite of `unpack`; lanes without an image get zero."""
    kernel = _Kernel("pack_gradient", "pack_gradient", machine, element)
    code = kernel.code
    source = code.pointer(code.context(INPUT))
    rows, columns = code.field("rows"), code.field("columns")
    area = code.mul(rows, columns)
    size = code.mul(area, code.field("channels"))
    with kernel.over("out") as (channel, row, column, places):
        place = code.add(code.add(code.mul(channel, area), code.mul(row, columns)), column)
        code.store("zeroinitializer", places["out"])
        with code.loop(code.context(VALID)) as lane:
            value = code.load(code.item_at(source, code.add(code.mul(lane, size), place)), code.element)
            code.store(value, code.item_at(places["out"], lane), code.element)
    return code
