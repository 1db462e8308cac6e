"""A figure that a notebook shows, whatever was imported before it."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure

NOTEBOOK_DPI = 120


class Picture(Figure):
    """Matplotlib's figure, not registered with pyplot.

    Where pyplot's inline backend is active, it shows figures, this one as well; a fresh kernel knows nothing
    of matplotlib and asks the object itself.
    """

    def _repr_png_(self) -> bytes:
        """Jupyter: as it would be saved, at the resolution of a screen."""
        file = BytesIO()
        self.savefig(file, format="png", dpi=NOTEBOOK_DPI)
        return file.getvalue()
