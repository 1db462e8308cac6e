"""Where commands print their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def terminal() -> Console:
    """Standard output on the terminal's width; in a pipe or a file nothing is folded."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=1_000)
