"""The command ``python -m landscape.viewer``."""

# Annotations are objects here (no ``from __future__``): the parser reads those of a function inside another.

import re
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from landscape.commandline.command import run_command
from landscape.commandline.console import out
from landscape.commandline.options import Flag, shown
from landscape.commandline.outputs import check_unread
from landscape.errors import UserError
from landscape.surface import load_surface
from landscape.viewer import told_apart, view

ABOUT = "One self-contained, interactive HTML page of loss surfaces. It needs no network."
EPILOGUE = """Examples:

- `python -m landscape.viewer dense.surface.h5 sparse.surface.h5 -o compare.html`\\
  two surfaces side by side, in one file that can be sent to anyone
- `python -m landscape.viewer runs/*.surface.h5 --title "ResNet-20, five seeds" --open`\\
  and show it now
- `python -m landscape.viewer runs/*.surface.h5 --live`\\
  follow files that other processes (a batch system's jobs) are computing, until they are complete
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""

    def show(
        *files: Annotated[Path, Parameter(name="FILE")],
        output: Annotated[Path | None, shown("beside the first file", name=["--output", "-o"])] = None,
        title: Annotated[str | None, shown("made from the surfaces")] = None,
        open_page: Annotated[Flag, Parameter(name="--open")] = False,
        live: Flag = False,
    ) -> None:
        """Make the page.

        Parameters
        ----------
        files
            Surface files (.surface.h5), in the order shown.
        output
            The page.
        title
            Heading.
        open_page
            Show the page: afterwards, with --live at once.
        live
            Follow files that are still being computed, or not there yet: serve the page on this machine
            (127.0.0.1), where it refines itself, until all are complete.
        """
        path = _page_path(files, output)
        if live:
            from landscape.viewer.live import follow

            return follow(files, title, open_page, lambda: _write(files, path, title))
        _write(files, path, title)
        if open_page:
            webbrowser.open(path.resolve().as_uri())

    run_command("landscape.viewer", ABOUT, EPILOGUE, show, arguments)


def _page_path(files: Sequence[Path], output: Path | None) -> Path:
    if not files:
        raise UserError("no surface file given; see --help")
    if not files[0].name:  # such as "." and "/"
        raise UserError(f"{files[0]}: a folder; expected a surface file written by landscape.surface")
    path = output or files[0].with_name(re.sub(r"\.h5$", "", files[0].name) + ".html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--output {path}: expected a name that ends in .html")
    check_unread("--output", path, files)
    return path


def _write(files: Sequence[Path], path: Path, title: str | None) -> Path:
    page = view(told_apart(files, [load_surface(file) for file in files]), title=title)
    page.save(path)
    size = path.stat().st_size / 1e6
    out(f"{path}: {len(files)} surface{'s' * (len(files) > 1)}, {size:.1f} MB; opens in any browser")
    return path


if __name__ == "__main__":
    main()
