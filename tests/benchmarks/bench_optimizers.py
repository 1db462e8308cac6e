"""Claim: S2-SAM trains as fast as SGD to within 8 %, SAM half as fast, with sparse methods too.

    python tests/benchmarks/bench_optimizers.py
    python tests/benchmarks/bench_optimizers.py --methods grasp rigl mest_em --record results/mini/throughput
    python tests/benchmarks/bench_optimizers.py --model resnet50 --device cuda --precision bfloat16

SGD with momentum, S2-SAM and SAM train copies of one network in turn, in one process, with the code of
``python -m training`` and its settings of the C library; the images are random unless --data names some. A
turn is --steps steps of each, in an order that moves on by one every turn. --methods trains sparse networks
at --sparsity 0.9 (Table 4 of the S2-SAM paper: GraSP, RigL and MEST (EM)), --sparse off with dense kernels.
No turn has a step in which the mask changes; those are timed by themselves, in a training of their own.

Seconds are the processor's own on a CPU with one thread, since others may use the machine, and the clock's
otherwise. Printed for each:

images/s    of the median turn
rate        of this optimizer over that of SGD in the same turn: median, and its 95 % interval between order
            statistics
batches     share of the time that goes into making batches. From one more turn, in which a GPU is waited for
memory      peak of an optimizer alone with its network, after three steps (dense only). CUDA:
            ``max_memory_allocated``. CPU: the high-water mark of a fresh process's resident memory, libraries
            included

--record FOLDER leaves ``NETWORK-SIDEpx.json`` (``…-sparse.json`` of runs that took sparse kernels) with every
turn's seconds, from which ``python -m figures.table4`` makes its table.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from figures.throughput import FIRST, Race, Throughput
from training.checkpoint import RunFolder
from training.config import RunConfig
from training.data import Images, TrainingData, generator_for, load_splits
from training.distributed import World
from training.memory import _SETTINGS as LARGE_PAGES
from training.optimizers import OPTIMIZERS
from training.precision import numerics
from training.run import Run, start_run
from training.sparsity import METHODS
from training.sparsity.base import Moment
from training.step import train_step

NAMES = ("sgd", "s2sam", "sam")
WARM_UP = 3
SIDES = {"resnet20": 32, "resnet32_wide": 32, "resnet50": 224}
IMAGES = 10_000  # of CIFAR's side; fewer of larger ones


def training_data(options: argparse.Namespace, device: torch.device) -> TrainingData:
    """The images that --data names, or random ones."""
    if options.data:
        return load_splits(options.data, 0.0, 0, device)
    side = options.side
    count = max(10, 4 * options.batch_size, IMAGES * 32**2 // side**2)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 10
    half = torch.full((3,), 0.5, device=device)
    part = Images(pixels.to(device), labels.to(device), half, half)
    return TrainingData(part, part, part, "random", 10, (0.5,) * 3, (0.5,) * 3, np.arange(0), "")


class Contestant:
    """A training that goes on by as many steps as it is told."""

    def __init__(
        self, optimizer: str, method: str, options: argparse.Namespace, device: torch.device
    ) -> None:
        self.options, self.device, self.data = options, device, training_data(options, device)
        chosen = METHODS[method]() if method == "dense" else METHODS[method](sparsity=options.sparsity)
        config = RunConfig(
            model="torchvision:resnet50" if options.model == "resnet50" else options.model,
            batch_size=options.batch_size,
            precision=options.precision,
            method=chosen,
            optimizer=OPTIMIZERS[optimizer](lr=0.01),
        )
        folder = RunFolder(Path(), {})
        self.training: Run = start_run(config, self.data, folder, device, World(), False, options.sparse)
        self.loss = torch.zeros((), device=device)
        self.batches, self.step, self.making = self._endless(), 0, 0.0

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, size = 0, self.options.batch_size
        while True:
            for batch in self.data.train.shuffled(size, generator_for(0, "epoch", epoch), True):
                if len(batch[1]) == size:
                    yield batch
            epoch += 1

    def now(self) -> float:
        """Seconds of the clock that counts."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if clock(self.device) == "processor" else time.perf_counter()

    def changes(self, step: int) -> bool:
        """Whether the mask changes before that step."""
        run = self.training
        moment = Moment(step, run.plan[0].epochs * run.steps_per_epoch, run.steps_per_epoch)
        return run.config.method.update_due(moment)

    def run(self, steps: int, watched: bool = False) -> float:
        """Seconds of `steps` steps that leave the mask alone; where `watched`, `making` gets the batches'."""
        began = self.now()
        for _ in range(steps):
            while self.changes(self.step):
                self.step += 1
            entered = self.now() if watched else 0.0
            batch = next(self.batches)
            self.making += self.now() - entered if watched else 0.0
            self._step(self.step, batch)
            self.step += 1
        return self.now() - began

    def _step(self, step: int, batch: tuple[Tensor, Tensor]) -> None:
        train_step(self.training, self.training.plan[0], step, *batch, self.loss)

    def change(self, step: int) -> float:
        """Seconds of a step in which the mask changes and of the next, which makes new lists of weights."""
        first, second = next(self.batches), next(self.batches)
        began = self.now()
        self._step(step, first)
        self._step(step + 1, second)
        return self.now() - began

    def changing(self) -> list[int]:
        """The first two steps after the start in which the mask changes; fewer where it doesn't."""
        run = self.training
        steps = range(1, run.plan[0].epochs * run.steps_per_epoch)
        found = (step for step in steps if self.changes(step))
        return [one for _, one in zip(range(2), found, strict=False)]

    def batches_share(self, steps: int) -> float:
        """Share of the time that goes into making batches."""
        self.making = 0.0
        total = self.run(steps, watched=True)
        return self.making / total


def clock(device: torch.device) -> str:
    """Processor time where one thread does it all."""
    return "processor" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


def resident_peak() -> float:
    """MiB; Linux's VmHWM, which a process doesn't inherit from the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def peak_memory(name: str, options: argparse.Namespace, device: torch.device) -> float:
    """MiB that this optimizer's training needs, alone."""
    if device.type == "cuda":
        one = Contestant(name, "dense", options, device)
        torch.cuda.reset_peak_memory_stats()
        one.run(WARM_UP)
        return torch.cuda.max_memory_allocated() / 1024**2
    command = [sys.executable, __file__, "--memory-of", name, "--model", options.model, "--device", "cpu"]
    command += ["--batch-size", str(options.batch_size), "--precision", options.precision]
    command += ["--side", str(options.side), "--threads", str(options.threads)]
    command += ["--data", options.data] if options.data else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def race(method: str, options: argparse.Namespace, device: torch.device) -> Race:
    """All optimizers in turn with one method; prints what came out."""
    memory = {name: peak_memory(name, options, device) for name in NAMES} if method == "dense" else {}
    those = {name: Contestant(name, method, options, device) for name in NAMES}
    kernels = {"dense" if one.training.kept is None else "sparse" for one in those.values()}
    if len(kernels) > 1:
        raise SystemExit(f"{method}: some optimizers on sparse kernels, some not; choose --sparse")
    for one in those.values():
        one.run(WARM_UP)
    steps = those[FIRST].changing()
    other = Contestant(FIRST, method, options, device) if steps else None
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    changes: list[float] = []
    for turn in range(options.rounds):
        first = turn % len(NAMES)
        for name in NAMES[first:] + NAMES[:first]:
            seconds[name].append(those[name].run(options.steps))
        changes += [other.change(steps[0])] if other else []
    sparsity = 0.0 if method == "dense" else options.sparsity
    every = steps[1] - steps[0] if len(steps) > 1 else None
    done = Race(method, sparsity, kernels.pop(), seconds, changes, every)
    for name, one in those.items():
        rate, (ratio, low, high) = (
            options.batch_size * options.steps / median(seconds[name]),
            done.ratio(name),
        )
        used = f"{memory[name]:8.1f} MiB" if memory else ""
        print(
            f"{method:9} {name:9} {rate:9.1f} {ratio:7.3f} [{low:.3f}, {high:.3f}] "
            f"{one.batches_share(options.steps):8.2%} {used}",
            flush=True,
        )
    if changes:
        often = f"every {every} steps" if every else "once"
        ratio = done.change_ratio(options.steps)
        print(f"{method:9} a step that changes the mask, {often}: {ratio:.2f} plain steps")
    return done


def compare(options: argparse.Namespace, device: torch.device) -> None:
    """Every method, and the file."""
    load = [os.getloadavg()[0]]
    print(f"{'method':9} {'optimizer':9} {'images/s':>9} {'rate':>7} {'':14} {'batches':>8} {'memory':>12}")
    races = [race(method, options, device) for method in options.methods]
    load.append(os.getloadavg()[0])
    print(f"load {load[0]:.1f} before, {load[1]:.1f} after")
    if not options.record:
        return
    for kernels in {one.kernels for one in races}:
        found = Throughput(
            network=options.model,
            side=training_data(options, device).train.pixels.shape[1],
            batch_size=options.batch_size,
            steps=options.steps,
            precision=options.precision,
            device=hardware(device),
            threads=torch.get_num_threads(),
            clock=clock(device),
            load=[round(one, 2) for one in load],
            versions={"python": platform.python_version(), "torch": torch.__version__},
            races=[one for one in races if one.kernels == kernels],
        )
        suffix = "-sparse" if kernels == "sparse" else ""
        path = options.record / f"{found.network}-{found.side}px{suffix}.json"
        found.save(path)
        print(path)


def hardware(device: torch.device) -> str:
    """Name of the processor that computed."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=SIDES, default="resnet20")
    parser.add_argument("--side", type=int, help="pixels of random images; by default what is usual")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["dense"])
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--sparse", choices=("auto", "on", "off"), default="auto", help="kernels")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="of each optimizer in a turn")
    parser.add_argument("--rounds", type=int, default=9, help="turns")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="float32")
    parser.add_argument("--data", help="cifar10, sample, npz:PATH, …; random images by default")
    parser.add_argument("--record", type=Path, help="folder for the seconds of every turn")
    parser.add_argument("--memory-of", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.side = options.side or SIDES[options.model]
    if platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in LARGE_PAGES):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | LARGE_PAGES)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    with numerics(options.precision):
        if options.memory_of:
            Contestant(options.memory_of, "dense", options, device).run(WARM_UP)
            print(resident_peak())
            return
        print(
            f"torch {torch.__version__}, {hardware(device)}, {torch.get_num_threads()} threads, "
            f"{clock(device)} time, {options.model}, batch {options.batch_size}, {options.precision}, "
            f"{options.rounds} turns of {options.steps} steps, {options.data or 'random'} images"
        )
        compare(options, device)


if __name__ == "__main__":
    main()
