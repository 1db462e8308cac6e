"""Where tensors lie: ``[channel][row][column][lane]`` with a border of zeros, one image per lane."""

from __future__ import annotations

from dataclasses import dataclass

from landscape.sparse.convolution import Tile

SCRATCH, ARENA, ABSOLUTE, THREAD = range(4)
"""Spaces: a thread's scratch, a block's stored tensors, plain addresses, a thread's numbers."""


@dataclass(frozen=True)
class Form:
    """Shape of one image's tensor."""

    channels: int
    height: int
    width: int

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class Border:
    """Zeros around each channel."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    def __or__(self, other: Border) -> Border:
        """Wide enough for both."""
        return Border(
            max(self.top, other.top),
            max(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


@dataclass(frozen=True)
class Place:
    """A tensor in memory.

    Attributes
    ----------
    space, at
        Which memory, and the byte of the first position inside the border.
    row, channel, column
        Bytes from one to the next.
    form
        Its shape.
    """

    space: int
    at: int
    row: int
    channel: int
    column: int
    form: Form

    def moved(self, channels: int = 0, rows: int = 0, columns: int = 0) -> Place:
        """The same, starting elsewhere."""
        at = self.at + channels * self.channel + rows * self.row + columns * self.column
        return Place(self.space, at, self.row, self.channel, self.column, self.form)

    def every(self, rows: int, columns: int, form: Form) -> Place:
        """Every so many rows and columns of it."""
        return Place(self.space, self.at, rows * self.row, self.channel, columns * self.column, form)

    def view(self, name: str) -> dict[str, int]:
        """Fields of a record."""
        return {
            f"{name}_space": self.space,
            f"{name}_at": self.at,
            f"{name}_row": self.row,
            f"{name}_channel": self.channel,
            f"{name}_column": self.column,
        }

    def stream(self, name: str, part: Part, rows: int = 1, columns: int = 1) -> dict[str, int]:
        """Fields of a record that goes over tiles; positions are so many rows and columns apart."""
        row, column = rows * self.row, columns * self.column
        return {
            f"{name}_space": self.space,
            f"{name}_at": self.at + part.y * row + part.x * column,
            f"{name}_row": row,
            f"{name}_channel": self.channel,
            f"{name}_tile_x": part.columns * column,
            f"{name}_tile_y": part.rows * row,
        }


@dataclass(frozen=True)
class Part:
    """Part of a map that is cut into tiles of one shape: its corner, the tiles' shape and number."""

    y: int
    x: int
    rows: int
    columns: int
    tiles_y: int
    tiles_x: int

    def tile(self, step_in: int = 1, step_out: int = 1) -> Tile:
        """The kernel for it."""
        return Tile(self.rows, self.columns, step_in, step_out)


def cover(height: int, width: int, most: int) -> list[Part]:
    """Parts that cover a map, each position once, with tiles of at most `most` positions.

    >>> cover(4, 4, 16)
    [Part(y=0, x=0, rows=4, columns=4, tiles_y=1, tiles_x=1)]
    >>> [(part.y, part.x, part.rows, part.columns) for part in cover(9, 13, 8)]
    [(0, 0, 1, 8), (0, 8, 1, 5)]
    """
    columns = _columns(width, most)
    found = []
    for x, wide, tiles_x in _cut(width, columns):
        rows = _rows(height, most // wide)
        found += [Part(y, x, tall, wide, tiles_y, tiles_x) for y, tall, tiles_y in _cut(height, rows)]
    return found


def _cut(length: int, size: int) -> list[tuple[int, int, int]]:
    """Start, size and number of the pieces: whole ones, and one for the rest."""
    whole, rest = divmod(length, size)
    pieces = [(0, size, whole)] if whole else []
    return [*pieces, (whole * size, rest, 1)] if rest else pieces


def _columns(width: int, most: int) -> int:
    if width <= min(8, most):
        return width
    for columns in (8, 7, 6, 5):
        if columns <= most and width % columns == 0:
            return columns
    return min(8, most)


def _rows(height: int, most: int) -> int:
    """As many as fit; rather fewer than a rest."""
    most = max(1, min(height, most))
    dividing = next(rows for rows in range(most, 0, -1) if height % rows == 0)
    return dividing if 2 * dividing >= most else most


class Memory:
    """Hands out bytes of one space, and takes them back."""

    def __init__(self, space: int, align: int) -> None:
        self.space, self.align, self.size = space, align, 0
        self._free: dict[object, list[Place]] = {}
        self._kinds: dict[Place, object] = {}

    def take(self, numbers: int, item: int) -> int:
        """Offset of so many numbers of `item` bytes."""
        at = self.size
        self.size += -(-numbers * item // self.align) * self.align
        return at

    def place(self, form: Form, border: Border, column: int, mark: object = None) -> Place:
        """Room for a tensor, with zeros around it; memory of equal tensors is used again.

        `mark` keeps apart tensors that have other zeros of their own.
        """
        kind = (form, border, mark)
        if self._free.get(kind):
            return self._free[kind].pop()
        row = (form.width + border.left + border.right) * column
        channel = (form.height + border.top + border.bottom) * row
        start = self.take(form.channels * channel, 1)
        place = Place(self.space, start + border.top * row + border.left * column, row, channel, column, form)
        self._kinds[place] = kind
        return place

    def give_back(self, place: Place) -> None:
        """Nobody reads it any more."""
        if place in self._kinds:
            self._free.setdefault(self._kinds[place], []).append(place)
