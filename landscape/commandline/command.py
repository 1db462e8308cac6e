"""One way to be a command: parse arguments, answer bad input and signals in one line, print any text."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sharpscape
from landscape.commandline.console import guarded_command, refuse
from landscape.commandline.outputs import CONFIG_FILE, DATA_FILES
from landscape.errors import UserError
from landscape.files import read_toml

CONFIG = """`--config FILE.toml` gives options that the command line doesn't: a table for each command
(`[surface]`), options without their dashes (`max-points = 200`)."""
RUNS_CODE = ("trust-checkpoint", "scheduler")  # whoever reaches a scheduler can run code in its clients
NAMES_CODE = {
    "model": ("torchvision", "timm"),
    "data": DATA_FILES,
    "clean": DATA_FILES,
    "loss": (),
}
"""Options that may name a callable as ``package.module:name``, and what else stands before a colon there."""
TEXTS = ("--json", "--csv", "--latex")  # of commands that write a text to a file, or print it


def run_command(
    name: str,
    about: str,
    epilogue: str,
    command: Callable[..., Any],
    arguments: Sequence[str] | None,
    defaults: Any = None,
    config: bool = True,
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
    config
        Whether ``--config FILE`` gives options that the arguments don't.
    """
    import cyclopts

    app = cyclopts.App(
        name=sharpscape.program(name),
        help=about,
        help_epilogue=f"{CONFIG}\n\n{epilogue}" if config else epilogue,
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
        if config:
            words, path = _without_config(words)
            CONFIG_FILE.set(path)
            app.config = () if path is None else (cyclopts.config.Dict(_settings(path, name), source=path),)
        try:
            app(words, exit_on_error=False, print_error=False)
        except cyclopts.CycloptsError as error:
            refuse(UserError(f"{error} (--help shows every option)"))


def _without_config(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words but for ``--config FILE``, and that file."""
    left, path, rest = list[str](), None, iter(words)
    for word in rest:
        if word.partition("=")[0] != "--config":
            left.append(word)
            continue
        path = word.partition("=")[2] if "=" in word else next(rest, "")
        if not path:
            raise UserError("--config needs a file: TOML with a table for this command")
    return left, path


def _settings(path: str, name: str) -> dict[str, Any]:
    """The options that a file has for the command of this module; its paths start in the current folder."""
    table = next((short for short, (module, _) in sharpscape.COMMANDS.items() if module == name), name)
    try:
        content = read_toml(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--config {path}: {getattr(error, 'strerror', None) or error}; expected TOML"
        ) from error
    found = content.get(table)
    if not isinstance(found, dict):
        raise UserError(f"--config {path}: no table [{table}]; it has {', '.join(content) or 'nothing'}")
    _refuse_code(path, found)
    return found


def _refuse_code(path: str, settings: Mapping[str, Any]) -> None:
    """Refuse what runs code: a file is data, so the command line itself names what is run."""
    for key, value in settings.items():
        name = key.rpartition(".")[2].strip("-").replace("_", "-").lower()
        if isinstance(value, Mapping):  # a group of options
            _refuse_code(path, value)
        elif name == "scheduler" and value in ("", []):
            continue
        elif (name in RUNS_CODE and value is not False) or (name in NAMES_CODE and _names_code(name, value)):
            raise UserError(
                f"--config {path}: {key} = {str(value)[:60]!r} would run code that a file names; "
                f"expected --{name} on the command line"
            )


def _names_code(name: str, value: Any) -> bool:
    words = [
        str(one).partition("(")[0].partition(":") for one in (value if isinstance(value, list) else [value])
    ]
    return any(colon and kind.strip() not in NAMES_CODE[name] for kind, colon, _ in words)


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
