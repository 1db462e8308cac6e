"""What is written of a table: CSV, LaTeX, Markdown and a picture, PDF and PNG. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from figures.results import Results
from figures.table_picture import draw
from figures.table_texts import to_csv, to_latex, to_markdown
from figures.tabular import Grid
from landscape.files import atomic_path
from landscape.plot import save_figure

SOURCE = (
    "Layout of Ji et al., “A Single-Step, Sharpness-Aware Minimization is All You Need to Achieve Efficient "
    "and Accurate Sparse Training” (2024), whose own numbers are published as pictures only and aren't "
    "repeated here."
)


@dataclass(frozen=True)
class TableProduct:
    """As `figures.product.Product`, for a table.

    Attributes
    ----------
    name
        Of its files, "table1".
    title
        In words.
    grids
        From results to its parts.
    """

    name: str
    title: str
    grids: Callable[[Results], Sequence[Grid]]

    def write(self, results: Results, folder: Path) -> list[Path]:
        """Every file, each in one step; equal results give equal bytes."""
        grids = self.grids(results)
        texts = {
            "csv": to_csv(grids),
            "tex": "\n".join(to_latex(one) for one in grids),
            "md": f"# {self.title}\n\n{self.markdown(grids)}\n{SOURCE}\n",
        }
        paths = []
        for form, text in texts.items():
            paths.append(folder / f"{self.name}.{form}")
            with atomic_path(paths[-1]) as temporary:
                temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        figure = draw(self.title, grids)
        return paths + [save_figure(figure, folder / f"{self.name}.{form}") for form in ("pdf", "png")]

    def markdown(self, grids: Sequence[Grid]) -> str:
        """All parts, one under another; the only one without a title of its own."""
        return "\n".join(to_markdown(one, title=len(grids) > 1) for one in grids)

    def unlike(self, results: Results) -> list[str]:
        """Nothing: no surfaces are compared."""
        return []
