"""Every option that a page for users names is one of the commands', as their own parsers have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sharpscape
from landscape.commandline.completion import options_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("README.md", "docs/*.md", "docs/howto/*.md", "docs/reference/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
    if path.stem
    not in ("benchmarks", "reliability", "sparse", "sampling", "truth")  # commands of scripts that measure
)
OTHERS = {
    *("--nproc-per-node",),  # torchrun's
    *("--scheduler-file", "--host", "--interface", "--port", "--no-dashboard"),  # dask scheduler's
    *("--nworkers", "--nthreads", "--death-timeout", "--local-directory", "--memory-limit"),  # dask worker's
    *("--job-name", "--ntasks", "--cpus-per-task", "--gpus-per-task", "--time", "--signal"),  # Slurm's
    *("--overlap", "--dependency"),
}
MAP = {"--help", "--version"}


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Options by command; of those that need no parsing too."""
    return {command: {*options_of(command), *MAP} for command in sharpscape.COMMANDS}


@pytest.mark.slow
def test_options_on_pages_exist(known: dict[str, set[str]]) -> None:
    every = set().union(*known.values(), OTHERS)
    wrong = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        wrong += [
            (page.name, name) for name in re.findall(r"(?<![\w-])--[a-z][\w-]*", text) if name not in every
        ]
        for command, words in re.findall(r"`sharpscape (\w+)([^`]*)`", text):
            if command in known:
                named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", words))
                wrong += [(page.name, f"{command} {name}") for name in sorted(named - known[command])]
    assert wrong == []


def test_every_command_is_on_the_page_of_commands() -> None:
    text = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    for command, (module, about) in sharpscape.COMMANDS.items():
        (row,) = re.findall(
            rf"^\| `sharpscape {command}` \| `([\w.]+)` \| (.*) \|$", text, flags=re.MULTILINE
        )
        assert row[0] == module
        assert row[1].split(",")[0].split(":")[0] in about
