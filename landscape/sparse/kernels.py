"""Kernels by name, compiled when first asked for, and the records that call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from landscape.sparse import convolution, driver, elementwise, llvm, statistics
from landscape.sparse.ir import Code
from landscape.sparse.layout import Part
from landscape.sparse.machine import Element, Machine, itemsize

VERSION = 1
"""Of the arithmetic of training: another one may give other last bits."""
FOLDED_VERSION = 2
"""The same of folded networks."""

Record = list[int]


class Kernels:
    """Makes records for one machine and element type."""

    def __init__(self, machine: Machine, element: Element) -> None:
        self.machine, self.element = machine, element
        self.lanes = machine.lanes(element)
        self.item = itemsize(element)
        self._addresses: dict[str, int] = {}

    def convolve(
        self, epilogue: convolution.Epilogue, part: Part, steps: tuple[int, int], fields: Mapping[str, int]
    ) -> Record:
        """A convolution over a part of the map."""
        tile = part.tile(*steps)
        code = self._address(
            f"{epilogue} {tile}", lambda: convolution.forward(tile, self.machine, self.element, epilogue)
        )
        return _record(code, convolution.FIELDS[epilogue], {**fields, **_tiles(part)})

    def weight_gradient(self, part: Part, step_in: int, fields: Mapping[str, int]) -> Record:
        """The gradient by kept weights over a part of the map."""
        tile = part.tile(step_in)
        code = self._address(
            f"weights {tile}", lambda: convolution.weight_gradient(tile, self.machine, self.element)
        )
        return _record(code, convolution.FIELDS["weights"], {**fields, **_tiles(part)})

    def combine(self, columns: int, fields: Mapping[str, int]) -> Record:
        """See `elementwise.combine`."""
        width = next(one for one in (8, 4, 2, 1) if columns % one == 0)
        code = self._address(
            f"combine {width}", lambda: elementwise.combine(width, self.machine, self.element)
        )
        return _record(code, elementwise.FIELDS["combine"], {"groups": columns // width, **fields})

    def simple(self, kind: str, fields: Mapping[str, int]) -> Record:
        """A kernel without variants."""
        makers = {
            "average": lambda: elementwise.pool("average", self.machine, self.element),
            "largest": lambda: elementwise.pool("largest", self.machine, self.element),
            "average_back": lambda: elementwise.average_back(self.machine, self.element),
            "largest_back": lambda: elementwise.largest_back(self.machine, self.element),
            "zero": lambda: elementwise.zero(self.machine, self.element),
            "pack": lambda: elementwise.pack(self.machine, self.element),
            "unpack": lambda: elementwise.unpack(self.machine, self.element),
            "pack_gradient": lambda: elementwise.pack_gradient(self.machine, self.element),
            "moments": lambda: statistics.moments(self.machine, self.element),
            "coefficients": lambda: statistics.coefficients(self.machine, self.element),
            "collect": lambda: statistics.collect(self.machine, self.element),
        }
        code = self._address(kind, makers[kind])
        return _record(code, {**elementwise.FIELDS, **statistics.FIELDS}[kind], fields)

    def run(self) -> int:
        """Address of the driver for a table."""
        return self._address("run", lambda: driver.table(self.machine), driver.TABLE_PARAMETERS)

    def run_phases(self) -> int:
        """Address of the driver for phases."""
        return self._address("run_phases", lambda: driver.phases(self.machine), driver.PHASES_PARAMETERS)

    def _address(self, key: str, make: Callable[[], Code], parameters: str | None = None) -> int:
        if key not in self._addresses:
            code = make()
            text = code.text() if parameters is None else code.text(parameters)
            self._addresses[key] = llvm.address(code.name, text, self.machine)
        return self._addresses[key]


def _tiles(part: Part) -> dict[str, int]:
    return {"tiles_x": part.tiles_x, "tiles_y": part.tiles_y}


def _record(address: int, names: Sequence[str], fields: Mapping[str, int]) -> Record:
    """Unknown fields are a mistake; missing ones are 0."""
    unknown = set(fields) - set(names)
    assert not unknown, f"no such field: {sorted(unknown)}"
    record = [address, *(int(fields.get(name, 0)) for name in names)]
    assert len(record) <= driver.RECORD
    return record + [0] * (driver.RECORD - len(record))


def as_table(records: Sequence[Record]) -> npt.NDArray[np.int64]:
    """Records in memory, ``[records, words]``."""
    return np.array(records, dtype=np.int64).reshape(len(records), driver.RECORD)


def aligned(bytes_: int, align: int = 64) -> npt.NDArray[np.uint8]:
    """Zeros that start at a multiple of `align`."""
    raw = np.zeros(bytes_ + align, dtype=np.uint8)
    start = -raw.ctypes.data % align
    return raw[start : start + bytes_]
