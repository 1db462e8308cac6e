"""Running ``python -m landscape.surface``: in this process, as a command, and as a child to be killed."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["torch", "torchvision", "scipy.interpolate", "scipy.spatial", "h5py", "matplotlib.figure", "plotly"]


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line, which must be the last."""
        lines = self.err.splitlines()
        assert self.code == 2, self.err
        assert "Traceback" not in self.err
        assert [line.startswith("error: ") for line in lines].count(True) == 1, self.err
        assert lines[-1].startswith("error: "), self.err
        return lines[-1]


def surface(*arguments: object, folder: Path) -> Outcome:
    """The command in this process, which saves the seconds of importing torch."""
    from landscape.surface.__main__ import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(one) for one in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def start(*arguments: object, folder: Path) -> subprocess.Popen[str]:
    """The command itself, running."""
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    # Where the tests run in a shell's background, Ctrl-C is ignored, which children inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "landscape.surface", *map(str, arguments)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def command(*arguments: object, folder: Path) -> Outcome:
    """The command itself, to its end."""
    running = start(*arguments, folder=folder)
    out, err = running.communicate(timeout=300)
    return Outcome(running.returncode, out, err)


def start_child(
    *arguments: object, folder: Path, pause: float, file_limit: int = resource.RLIM_INFINITY
) -> ForkServerProcess:
    """The command in a process that is forked from one that has torch already, saving after every point.

    Parameters
    ----------
    pause
        Seconds that every point takes longer, so that a signal meets the work in its middle.
    file_limit
        Bytes beyond which the system writes no file, as a quota does.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    child = context.Process(target=_child, args=([str(one) for one in arguments], folder, pause, file_limit))
    child.start()
    return child


def _child(arguments: list[str], folder: Path, pause: float, file_limit: int) -> None:
    """Only here, in a process of its own, may the modules be patched."""
    from landscape.engine import Engine, Totals
    from landscape.keeping import pace
    from landscape.surface.__main__ import main

    evaluate = Engine.evaluate

    def slowly(engine: Engine, coordinates: list[float]) -> dict[str, Totals]:
        time.sleep(pause)
        return evaluate(engine, coordinates)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    with open("child.err", "w") as err:
        os.dup2(err.fileno(), 2)
    with open("child.out", "w") as out:
        os.dup2(out.fileno(), 1)
    pace.EVERY_SECONDS, pace.SHARE = 0.0, float("inf")
    Engine.evaluate = slowly  # type: ignore[method-assign,assignment]
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    main(arguments)


def network(seed: int = 0, widths: tuple[int, int, int] = (2, 4, 8), classes: int = 10) -> nn.Module:
    """A small ResNet-20, which is recognised from its shapes."""
    from training.models import ARCHITECTURES

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES["resnet20"](widths=widths, num_classes=classes)


def save_network(path: Path, seed: int = 0) -> Path:
    """A checkpoint of it: the bare state_dict."""
    torch.save(network(seed).state_dict(), path)
    return path


def save_images(path: Path, train: int = 40, test: int = 20, classes: int = 10) -> Path:
    """Random images as .npz, classes in turn."""
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", train), ("test", test)):
        arrays[f"{split}_x"] = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}_y"] = np.arange(count) % classes
    np.savez(path, **arrays)
    return path


def tiny(num_classes: int = 10) -> nn.Module:
    """A smooth convolutional network of 142 parameters, for ``--model command:tiny``."""
    return nn.Sequential(
        nn.Conv2d(3, 2, 4, stride=4, bias=False),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, num_classes),
    )


class SlowLinear(nn.Module):
    """A linear classifier of 32×32 images that takes its time, and can't be traced into something faster."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        time.sleep(0.05 * bool(inputs.isfinite().all()))
        return self.linear(inputs.flatten(1))  # type: ignore[no-any-return]


def slow_linear(num_classes: int = 10) -> SlowLinear:
    """For ``--model command:slow_linear``."""
    return SlowLinear(num_classes)


class GatedLinear(SlowLinear):
    """The same until the working directory has a file ``go``, without which it gets nowhere in the end."""

    calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        while not os.path.exists("go"):
            time.sleep(0.05)
            if self.calls < 150:  # long enough to be shown and saved
                break
        return self.linear(inputs.flatten(1)) * bool(inputs.isfinite().all())  # type: ignore[no-any-return]


def gated_linear(num_classes: int = 10) -> GatedLinear:
    """For ``--model command:gated_linear``."""
    return GatedLinear(num_classes)
