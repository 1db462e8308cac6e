"""One way to be a command: parse arguments, answer bad input and signals in one line, print any text."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import Any

import sharpscape
from landscape.commandline.console import guarded_command, refuse
from landscape.errors import UserError

TEXTS = ("--json", "--csv", "--latex")  # of commands that write a text to a file, or print it


def run_command(
    name: str,
    about: str,
    epilogue: str,
    command: Callable[..., Any],
    arguments: Sequence[str] | None,
    defaults: Any = None,
) -> None:
    """Parse `arguments` for ``python -m name`` and call `command`; bad input is one line and exit code 2.

    Parameters
    ----------
    name, about, epilogue
        The module, and what its help says above and below the options (Markdown).
    command
        A function whose annotations are the command line.
    arguments
        Those of the process for None.
    defaults
        A `cyclopts.Parameter`: what holds for every option that says nothing else.
    """
    import cyclopts

    app = cyclopts.App(
        name=sharpscape.program(name),
        help=about,
        help_epilogue=epilogue,
        help_format="markdown",
        version=lambda: f"sharpscape {sharpscape.version()}",
        version_flags=("--version",),
        default_parameter=defaults,
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # it would exit without a word
    )
    app["--help"].group = app["--version"].group = "Help"
    app.default(command)
    _print_any_text()
    words = _bare_texts(sys.argv[1:] if arguments is None else arguments)
    with guarded_command():
        try:
            app(words, exit_on_error=False, print_error=False)
        except cyclopts.CycloptsError as error:
            refuse(UserError(f"{error} (--help shows every option)"))


def _bare_texts(words: Sequence[str]) -> list[str]:
    """``--json`` without a path, last or before another option, is ``--json -``."""
    follows = [*words[1:], "--"]  # one too many where there are no words
    return [
        f"{word}=-" if word in TEXTS and after.startswith("--") else word
        for word, after in zip(words, follows, strict=False)
    ]


def _print_any_text() -> None:
    """Where the output's encoding lacks a sign (β, ±), print a question mark instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
