"""A surface file that somebody is still writing: read again whenever it was replaced."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from landscape.errors import UserError
from landscape.surface import Surface, load_surface
from landscape.viewer.page_data import Json, payload

Stamp = tuple[int, int, int]


@dataclass
class Watched:
    """A surface file: what was read of it last, and as what state of the file."""

    path: Path
    stamp: Stamp | None = None
    surface: Surface | None = None
    data: Json = field(default_factory=dict)
    label: str = ""

    def read(self) -> bool:
        """Read the file if it is another one than before; whether there is something new."""
        stamp = stamp_of(self.path)
        if stamp is None or stamp == self.stamp:
            return False
        try:
            self.show(load_surface(self.path), stamp)
        except UserError:  # foreign or damaged; whoever writes it will say so
            return False
        return True

    def show(self, surface: Surface, stamp: Stamp | None) -> None:
        """Take a surface, which is what the file in that state holds."""
        self.stamp, self.surface = stamp, surface
        self._tell(surface)

    def call(self, surface: Surface) -> None:
        """Tell the surface under another label, as which it is given."""
        if surface.label != self.label:
            self._tell(surface)

    def _tell(self, surface: Surface) -> None:
        from landscape.surface.summary import metrics

        self.label, self.data = surface.label, payload([surface], [metrics(surface)])


def stamp_of(path: Path) -> Stamp | None:
    """What changes whenever a file is replaced; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
