"""Command lines that nobody would type: sound ones with random options and random values."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from forking import Ended, Running
from hypothesis import strategies as st
from operation_faults import hasty
from tiny_commands import WORKS, Work, prepare

NEVER = {"--download", "--open", "--live", "--trust-checkpoint", "--help", "--version"}
"""What would reach for the network or a browser, serve for ever, run foreign code, or do nothing."""
COMMANDS = {work.module: name for name, work in reversed(WORKS.items())}
SECONDS, PATIENCE = 20.0, 180.0
MEMORY = 6 << 30

_NUMBERS = [
    *("0", "1", "-1", "2", "3", "7", "50", "1000000", "-0", "0.5", "1.5", "-0.1", "1e-300", "1e300", "1e999"),
    *("nan", "inf", "-inf", "99999999999999999999", "1_000", "0x10", "٣", "1,5", "1e", "+4", " 5", "00012"),
]
_WORDS = [
    *(
        "",
        "-",
        "--",
        "---",
        "auto",
        "none",
        "all",
        "train",
        "test",
        "both",
        "cpu",
        "cuda",
        "cuda:7",
        "x",
        "é",
    ),
    *(
        "=",
        "a=b",
        "[",
        "]",
        "(",
        "resnet20(",
        "resnet20(widths=[1])",
        "resnet20(x=1)",
        "os:system",
        ":",
        "a:b",
    ),
    *("tinynet:tiny", "tinynet:nothing", "npz:", "npz:{inputs}/tiny.npz", "npz:{inputs}/a.pt", "npz:nowhere"),
    *(
        "imagefolder:.",
        "imagefolder:{inputs}",
        "sample",
        "cifar10",
        "torchvision:nothing",
        "0.weight",
        "*",
        "!*",
    ),
    *(
        "out",
        "out/x.json",
        "out/x.csv",
        "/",
        "/dev/null",
        "/dev/full",
        "nowhere/x",
        "x" * 300,
        "a\nb",
        "\x1b[31m",
    ),
    *(
        "{inputs}",
        "{inputs}/a.pt",
        "{inputs}/b.pt",
        "{inputs}/a.surface.h5",
        "{inputs}/tiny.npz",
        "45m",
        "-1s",
    ),
    *("{inputs}/spec.toml", "{inputs}/scale.toml", "☃.surface.h5", "out/x.surface.h5", "out/x.png", "{{}}"),
]
VALUES = st.one_of(
    st.sampled_from(_NUMBERS + _WORDS),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)


@cache
def options(module: str) -> Mapping[str, Sequence[str]]:
    """Options of a module's command and their choices, but for those that may not be tried."""
    import sharpscape
    from landscape.commandline.completion import options_of

    name = next(name for name, (known, _) in sharpscape.COMMANDS.items() if known == module)
    return {option: choices for option, choices in options_of(name).items() if option not in NEVER}


@st.composite
def command_lines(draw: st.DrawFn, modules: Sequence[str] = tuple(COMMANDS)) -> tuple[str, list[str]]:
    """A module and words; "{inputs}" in them stands for the folder of inputs."""
    module = draw(st.sampled_from(modules))
    words = WORKS[COMMANDS[module]].words.split()
    for _ in range(draw(st.integers(1, 3))):
        words = draw(st.sampled_from([_with_option, _without, _changed]))(draw, module, words)
    return module, words


def _with_option(draw: st.DrawFn, module: str, words: list[str]) -> list[str]:
    name = draw(st.sampled_from(sorted(options(module))))
    choices = options(module)[name]
    values = st.sampled_from(list(choices)) | VALUES if choices else VALUES
    extra = [name, *draw(st.lists(values, max_size=2))]
    return [*words, *(extra if draw(st.booleans()) else ["=".join(extra[:2])])]


def _without(draw: st.DrawFn, module: str, words: list[str]) -> list[str]:
    at = draw(st.integers(0, len(words) - 1)) if words else 0
    return words[:at] + words[at + 1 :]


def _changed(draw: st.DrawFn, module: str, words: list[str]) -> list[str]:
    at = draw(st.integers(0, len(words) - 1)) if words else 0
    return [*words[:at], draw(VALUES), *words[at + 1 :]]


def ended(module: str, words: Sequence[str], inputs: Path, folder: Path) -> Ended:
    """How it ends: by itself, or by the SIGTERM that it gets after a while."""

    def bounded(stack: ExitStack) -> None:
        hasty(stack)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))

    work: Work = WORKS[COMMANDS[module]]
    filled = [word.replace("{inputs}", str(inputs)) for word in words]
    running = Running(module, filled, prepare(work, inputs, folder), bounded)
    timers = [
        threading.Timer(after, running.signal, [number])
        for after, number in ((SECONDS, signal.SIGTERM), (PATIENCE, signal.SIGKILL))
    ]
    for timer in timers:
        timer.start()
    try:
        return running.ended()
    finally:
        for timer in timers:
            timer.cancel()
