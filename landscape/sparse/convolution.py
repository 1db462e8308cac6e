"""IR of the convolution kernels, in the layout ``[channel][row][column][lane]`` with one image per lane.

A tile of output positions stays in registers while one output channel's list of kept weights is walked: a
byte offset into the input and a weight each. Weight and input offsets are data, so one kernel serves every
layer and every mask. Kernel size, padding, dilation and groups are all in the offsets; the zero border is in
the input. Tiles are outside, channels inside: a tile's part of the input stays in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from landscape.sparse.ir import Code
from landscape.sparse.machine import Element, Machine

Epilogue = Literal["plain", "statistics", "gradient"]

CHAINS = 8  # sums that must be under way at a time, or the processor waits for each


@dataclass(frozen=True)
class Tile:
    """Shape of a kernel: what is known when it is compiled.

    Attributes
    ----------
    rows, columns
        Output positions of a tile.
    step_in, step_out
        Columns from one position to the next, in the input and in everything of the output's shape.
    """

    rows: int
    columns: int
    step_in: int = 1
    step_out: int = 1

    @property
    def size(self) -> int:
        """Positions."""
        return self.rows * self.columns

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}_{self.step_in}_{self.step_out}"


def stream(name: str) -> list[str]:
    """Fields of a tensor of the output's shape."""
    return [f"{name}_{part}" for part in ("space", "at", "row", "channel", "tile_x", "tile_y")]


_COMMON = [
    *("tiles_x", "tiles_y", "channels"),
    *("in_space", "in_at", "in_row", "in_channel", "in_tile_x", "in_tile_y"),
    *("starts", "offsets"),
]
FIELDS: dict[str, list[str]] = {
    "plain": [*_COMMON, "values", *stream("out"), "bias", "relu", "added", *stream("add")],
    "statistics": [
        *(*_COMMON, "values", *stream("out")),
        *("sums_space", "sums_at", "pivots_space", "pivots_at"),
    ],
    "gradient": [
        *(*_COMMON, "values", *stream("out"), "added", *stream("add")),
        *("masked", *stream("act"), "norms"),
        *(*stream("z1"), "sums1_space", "sums1_at", "pivots1_space", "pivots1_at"),
        *(*stream("z2"), "sums2_space", "sums2_at", "pivots2_space", "pivots2_at"),
    ],
    "weights": [*_COMMON, *stream("out"), "sums_space", "sums_at"],
}


def forward(tile: Tile, machine: Machine, element: Element, epilogue: Epilogue = "plain") -> Code:
    """``out[o] = Σ weight · in[offset]`` over each output channel's kept weights, and an epilogue.

    "plain" adds a bias and, if `added`, another tensor, and applies ReLU if `relu`. "statistics" sums the
    outputs and their squares, less a pivot per channel, lane by lane. "gradient" adds another tensor if
    `added`, lets through what a ReLU let through if `masked`, and sums the result and its product with the
    inputs of up to two (`norms`) batch norms, less their pivots.
    """
    code = Code(f"conv_{epilogue}_{tile}", machine, element, FIELDS[epilogue])
    ends = {"plain": _Plain, "statistics": _Statistics, "gradient": _Gradient}
    end = ends[epilogue](code, tile)
    _over_tiles(code, tile, end.streams, lambda channel, places: _sum_up(code, tile, channel, places, end))
    return code


def weight_gradient(tile: Tile, machine: Machine, element: Element) -> Code:
    """``sums[k] += Σ out · in[offset k]`` over all positions, lane by lane, for every kept weight k.

    `out` is the gradient by the convolution's output. A vector of sums per kept weight lies in memory.
    """
    code = Code(f"conv_weights_{tile}", machine, element, FIELDS["weights"])
    sums = code.tensor("sums")
    starts, offsets = (code.pointer(code.field(one)) for one in ("starts", "offsets"))

    def body(channel: str, places: dict[str, str]) -> None:
        base = _channel(code, "out", places["out"], channel)
        gradients = [code.load(one) for one in _positions(code, tile, base, "out", tile.step_out)]
        with code.loop(*_list(code, starts, channel)) as weight:
            source = code.at(places["in"], code.index(offsets, weight))
            cell = code.at(sums, code.mul(weight, code.vector_bytes))
            inputs = [code.load(one) for one in _positions(code, tile, source, "in", tile.step_in)]
            # Two chains: half the wait for each other's sums.
            one, two = code.load(cell), None
            for number, (a, b) in enumerate(zip(inputs, gradients, strict=True)):
                if number % 2 == 0:
                    one = code.fma(a, b, one)
                else:
                    two = code.fmul(a, b) if two is None else code.fma(a, b, two)
            code.store(one if two is None else code.fadd(one, two), cell)

    _over_tiles(code, tile, ["out"], body)
    return code


def _list(code: Code, starts: str, channel: str) -> tuple[str, str]:
    """End and start of a channel's list, in the order that `Code.loop` takes."""
    first = code.index(starts, channel)
    return code.index(starts, code.add(channel, 1)), first


def _over_tiles(
    code: Code, tile: Tile, streams: list[str], body: Callable[[str, dict[str, str]], None]
) -> None:
    """Call `body` for each channel of each tile with the addresses of the tile in every tensor."""
    bases = {name: code.tensor(name) for name in ["in", *streams]}
    with code.loop(code.field("tiles_y")) as y:
        rows = {
            name: code.at(base, code.mul(code.field(f"{name}_tile_y"), y)) for name, base in bases.items()
        }
        with code.loop(code.field("tiles_x")) as x:
            places = {
                name: code.at(base, code.mul(code.field(f"{name}_tile_x"), x)) for name, base in rows.items()
            }
            with code.loop(code.field("channels")) as channel:
                body(channel, places)


def _channel(code: Code, name: str, place: str, channel: str) -> str:
    return code.at(place, code.mul(code.field(f"{name}_channel"), channel))


def _positions(code: Code, tile: Tile, base: str, name: str, step: int) -> list[str]:
    """Addresses of a tile's positions, row by row."""
    found = []
    row = base
    for number in range(tile.rows):
        if number:
            row = code.at(row, code.field(f"{name}_row"))
        found += [code.at(row, step * column * code.vector_bytes) for column in range(tile.columns)]
    return found


def _sum_up(code: Code, tile: Tile, channel: str, places: dict[str, str], end: _End) -> None:
    """One tile of one output channel."""
    starts, offsets, values = (code.pointer(code.field(one)) for one in ("starts", "offsets", "values"))
    chains = max(1, CHAINS // tile.size)
    first = end.first(channel)
    sums = [
        [code.cell(code.vector, first if not chain else "zeroinitializer") for _ in range(tile.size)]
        for chain in range(chains)
    ]

    def one_weight(weight: str, chain: int) -> None:
        source = code.at(places["in"], code.index(offsets, weight))
        value = code.spread_from(code.item_at(values, weight))
        for cell, place in zip(sums[chain], _positions(code, tile, source, "in", tile.step_in), strict=True):
            code.set(cell, code.vector, code.fma(value, code.load(place), code.get(cell, code.vector)))

    stop, start = _list(code, starts, channel)
    rest = start
    if chains > 1:
        whole = code.do(f"sdiv i64 {code.sub(stop, start)}, {chains}")
        rest = code.add(start, code.mul(whole, chains))
        with code.loop(rest, start, chains) as weight:
            for chain in range(chains):
                one_weight(code.add(weight, chain), chain)
    with code.loop(stop, rest) as weight:
        one_weight(weight, 0)
    totals = [code.get(cell, code.vector) for cell in sums[0]]
    for more in sums[1:]:
        totals = [code.fadd(a, code.get(b, code.vector)) for a, b in zip(totals, more, strict=True)]
    end.finish(channel, places, totals)


class _End:
    """What becomes of a tile's sums."""

    streams: list[str]

    def __init__(self, code: Code, tile: Tile) -> None:
        self.code, self.tile = code, tile
        self.set_up()

    def set_up(self) -> None:
        """Values that don't change from tile to tile."""

    def first(self, channel: str) -> str:
        """What the sums start from."""
        return "zeroinitializer"

    def finish(self, channel: str, places: dict[str, str], totals: list[str]) -> None:
        """Do it."""
        raise NotImplementedError

    def places(self, name: str, channel: str, places: dict[str, str]) -> list[str]:
        """Addresses in a tensor of the output's shape."""
        base = _channel(self.code, name, places[name], channel)
        return _positions(self.code, self.tile, base, name, self.tile.step_out)

    def is_set(self, field: str) -> str:
        """A flag of the record, as i1."""
        return self.code.do(f"icmp ne i64 {self.code.field(field)}, 0")

    def added(self, channel: str, places: dict[str, str], totals: list[str]) -> list[str]:
        """The sums, plus another tensor where the record has one."""
        code = self.code
        cells = [code.cell(code.vector, one) for one in totals]
        with code.when(self.is_set("added")):
            for cell, total, place in zip(cells, totals, self.places("add", channel, places), strict=True):
                code.set(cell, code.vector, code.fadd(total, code.load(place)))
        return [code.get(cell, code.vector) for cell in cells]

    def accumulate(self, name: str, channel: str, first: str, second: str) -> None:
        """Add two vectors to a channel's two sums in memory."""
        code = self.code
        cell = code.at(code.tensor(name), code.mul(channel, 2 * code.vector_bytes))
        for number, value in enumerate((first, second)):
            place = code.at(cell, number * code.vector_bytes)
            code.store(code.fadd(code.load(place), value), place)


class _Plain(_End):
    streams = ["out", "add"]  # noqa: RUF012

    def set_up(self) -> None:
        code = self.code
        lowest = code.do(
            f"select i1 {self.is_set('relu')}, {code.element} 0.0, {code.element} 0xFFF0000000000000"
        )
        self.lowest = code.spread(lowest)

    def first(self, channel: str) -> str:
        code = self.code
        return code.spread_from(code.item_at(code.pointer(code.field("bias")), channel))

    def finish(self, channel: str, places: dict[str, str], totals: list[str]) -> None:
        code = self.code
        sums = self.added(channel, places, totals)
        for total, place in zip(sums, self.places("out", channel, places), strict=True):
            code.store(code.at_least(total, self.lowest), place)


class _Statistics(_End):
    streams = ["out"]  # noqa: RUF012

    def finish(self, channel: str, places: dict[str, str], totals: list[str]) -> None:
        code = self.code
        pivot = code.spread_from(code.item_at(code.tensor("pivots"), channel))
        one = two = ""
        for total, place in zip(totals, self.places("out", channel, places), strict=True):
            code.store(total, place)
            apart = code.fsub(total, pivot)
            one = code.fadd(one, apart) if one else apart
            two = code.fma(apart, apart, two) if two else code.fmul(apart, apart)
        self.accumulate("sums", channel, one, two)


class _Gradient(_End):
    streams = ["out", "add", "act", "z1", "z2"]  # noqa: RUF012

    def finish(self, channel: str, places: dict[str, str], totals: list[str]) -> None:
        code = self.code
        cells = [code.cell(code.vector, one) for one in self.added(channel, places, totals)]
        with code.when(self.is_set("masked")):
            for cell, place in zip(cells, self.places("act", channel, places), strict=True):
                shut = code.do(f"fcmp ole {code.vector} {code.load(place)}, zeroinitializer")
                code.set(cell, code.vector, code.choose(shut, "zeroinitializer", code.get(cell, code.vector)))
        gradients = [code.get(cell, code.vector) for cell in cells]
        for value, place in zip(gradients, self.places("out", channel, places), strict=True):
            code.store(value, place)
        for number in (1, 2):
            with code.when(code.do(f"icmp sge i64 {code.field('norms')}, {number}")):
                self._products(number, channel, places, gradients)

    def _products(self, number: int, channel: str, places: dict[str, str], gradients: list[str]) -> None:
        code = self.code
        pivot = code.spread_from(code.item_at(code.tensor(f"pivots{number}"), channel))
        one = two = ""
        for value, place in zip(gradients, self.places(f"z{number}", channel, places), strict=True):
            apart = code.fsub(code.load(place), pivot)
            one = code.fadd(one, value) if one else value
            two = code.fma(value, apart, two) if two else code.fmul(value, apart)
        self.accumulate(f"sums{number}", channel, one, two)
