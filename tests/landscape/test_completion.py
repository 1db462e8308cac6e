"""Completion in a shell: options from the parsers themselves, scripts that the shells run."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

import sharpscape
from landscape.commandline.completion import main, options_of, script

OPTIONS = {
    "surface": {"--help": [], "--normalize": ["filter", "none"], "--points": []},
    "view": {"--help": [], "--output": []},
}
BASH = """
source /dev/stdin <<'SCRIPT'
{script}SCRIPT
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _sharpscape; echo "${{COMPREPLY[@]}}"
"""


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on the PATH")
    return path


def complete(words: str) -> str:
    """What bash offers for the last of some words."""
    text = BASH.format(script=script("bash", OPTIONS), words=words)
    done = subprocess.run([shell("bash"), "-c", text], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("sharpscape su", "surface"),
        ("sharpscape ''", "surface view --help --version"),
        ("sharpscape surface --p", "--points"),
        ("sharpscape surface --normalize ''", "filter none"),
        ("sharpscape surface --normalize fi", "filter"),
        ("sharpscape view --p", ""),
        ("sharpscape surface net", ""),  # files, which the shell completes itself
        ("sharpscape surface --points ''", ""),
    ],
)
def test_bash_offers_what_can_follow(words: str, offered: str) -> None:
    assert complete(words) == offered


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells_language(name: Any) -> None:
    subprocess.run([shell(name), "-n"], input=script(name, OPTIONS), text=True, check=True)


def test_fish_offers_what_can_follow() -> None:
    ask = script("fish", OPTIONS) + 'complete -C "sharpscape surface --normalize f"\n'
    done = subprocess.run([shell("fish"), "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["filter"]


@pytest.mark.parametrize("command", ["view", "roughness", "hessian"])
def test_options_are_those_of_the_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = options_of(command)
    assert "--output" in options or "--csv" in options
    assert capsys.readouterr() == ("", "")
    if command == "hessian":
        assert options["--split"][:2] == ["train", "validation"]


def test_a_command_that_is_no_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tcsh"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "bash" in line
    assert "completion" in sharpscape.COMMANDS
