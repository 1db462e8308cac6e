"""The command ``sharpscape completion SHELL``: what a shell needs to complete commands, options and choices.

Every command's parser knows its options, so each is asked: it is run up to the moment at which it would
parse, and its parser taken. That takes some seconds, once; the script that comes of it needs no Python.
"""

from __future__ import annotations

import contextlib
import io
import runpy
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from unittest.mock import patch

import sharpscape
from landscape.commandline.command import run_command

Shell = Literal["bash", "zsh", "fish"]
WIDENING = ("--method", "--optimizer")
"""Options whose value brings options of its own."""

Options = Mapping[str, Sequence[str]]
"""By name with its dashes, what can follow; nothing where that is free."""

ABOUT = "Completion of commands, options and choices in a shell."
EPILOGUE = """Examples:

- bash, from the next shell on:\\
  `sharpscape completion bash > ~/.local/share/bash-completion/completions/sharpscape`
- zsh: write it to a file and source that in ~/.zshrc:\\
  `sharpscape completion zsh > ~/.sharpscape.zsh`
- fish:\\
  `sharpscape completion fish > ~/.config/fish/completions/sharpscape.fish`
"""


class _Taken(BaseException):
    """Carries a parser's options out of the command that made it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""

    def complete(
        shell: Annotated[Shell, "The shell whose words to complete."],
        /,
    ) -> None:
        print(script(shell, {name: options_of(name) for name in sharpscape.COMMANDS}), end="")

    run_command("landscape.commandline.completion", ABOUT, EPILOGUE, complete, arguments)


def script(shell: Shell, options: Mapping[str, Options]) -> str:
    """The text that makes `shell` complete; `options` by command."""
    return _fish(options) if shell == "fish" else _bash(options, zsh=shell == "zsh")


def options_of(command: str) -> dict[str, list[str]]:
    """Options of a command and their choices, as its parser has them, for every method and optimizer."""
    if command == "completion":
        return {"--help": []}
    found = _asked(command)
    if command != "train":
        found["--config"] = []
    more = [[name, choice] for name in WIDENING for choice in found.get(name, ())]
    for words in more:
        found |= _asked(command, *words)
    return dict(sorted(found.items()))


def _asked(command: str, *words: str) -> dict[str, list[str]]:
    """What the parser has when these words are given."""
    from cyclopts import App

    def take(app: App, *_: Any, **__: Any) -> Any:
        found: dict[str, list[str]] = {"--help": [], "--version": []}
        for argument in app.assemble_argument_collection():
            choices = [str(one) for one in argument.get_choices(force=True) or ()]
            found.update({name: choices for name in argument.names if name.startswith("--")})
        raise _Taken(found)

    module = sharpscape.COMMANDS[command][0]
    silent = contextlib.redirect_stdout(io.StringIO()), patch.object(sys, "argv", [command, *words])
    with patch.object(App, "__call__", take), silent[0], silent[1], warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these modules are loaded already
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except _Taken as taken:
            found: dict[str, list[str]] = taken.args[0]
            return found
    raise AssertionError(f"{command} parsed nothing")


def _bash(options: Mapping[str, Options], *, zsh: bool) -> str:
    """For bash; zsh understands the same function once it has been told to."""
    zsh_lines = [
        "(( $+functions[compdef] )) || { autoload -U +X compinit && compinit -u }",
        "autoload -U +X bashcompinit && bashcompinit",
    ]
    lines = zsh_lines if zsh else []
    lines += [
        "_sharpscape() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""',
        "  COMPREPLY=()",
        '  if [ "$COMP_CWORD" = 1 ]; then',
        f'    COMPREPLY=($(compgen -W "{" ".join(options)} --help --version" -- "$word")); return',
        "  fi",
        '  case "${COMP_WORDS[1]} $before" in',
    ]
    for command, own in options.items():
        for name, choices in own.items():
            if choices:
                lines.append(f"    '{command} {name}') words={shlex.quote(' '.join(choices))} ;;")
    lines += ["  esac", '  if [ -z "$words" ]; then case "$word" in -*) case "${COMP_WORDS[1]}" in']
    lines += [f"    {command}) words={shlex.quote(' '.join(own))} ;;" for command, own in options.items()]
    lines += [
        "  esac ;; esac; fi",
        '  if [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$word")); fi',
        "}",
        "complete -o default -F _sharpscape sharpscape",
    ]
    return "\n".join(lines) + "\n"


def _fish(options: Mapping[str, Options]) -> str:
    lines = []
    for command, own in options.items():
        about = shlex.quote(sharpscape.COMMANDS[command][1].replace("'", "’"))
        lines.append(f"complete -c sharpscape -n __fish_use_subcommand -f -a {command} -d {about}")
        for name, choices in own.items():
            line = f"complete -c sharpscape -n '__fish_seen_subcommand_from {command}' -l {name[2:]}"
            lines.append(f"{line} -x -a {shlex.quote(' '.join(choices))}" if choices else line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
