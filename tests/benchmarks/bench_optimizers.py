"""Claim: a step of S2-SAM costs less than 3 % more time than one of SGD; SAM's costs about twice as much.

    python tests/benchmarks/bench_optimizers.py
    python tests/benchmarks/bench_optimizers.py --model resnet50 --device cuda --precision bfloat16

SGD with momentum, S2-SAM and SAM train copies of one network in turn, in one process, on batches of the same
size from ``Images.shuffled`` with augmentation, as the training loop makes them; the images are random unless
--data names some. Each round runs --steps steps of each optimizer, in an order that moves on by one every
round. Printed for each:

examples/s  median over the rounds
time        median over the rounds of the time of this optimizer over that of SGD in the same round, and the
            smallest and largest of these
outside     share of the time outside forward pass, backward pass and optimizer step: making batches, mostly.
            From one more round, in which a GPU is waited for before and after every step
memory      peak of an optimizer alone with its network, after three steps. CUDA: ``max_memory_allocated``.
            CPU: the high-water mark of a fresh process's resident memory, libraries included
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from training.data import Images, generator_for, load_splits
from training.models import build_model
from training.optimizers import OPTIMIZERS
from training.precision import forward_in, numerics

NAMES = ("sgd", "s2sam", "sam")
WARM_UP = 3
SIDES = {"resnet20": 32, "resnet32_wide": 32, "resnet50": 224}


def network(name: str, classes: int) -> nn.Module:
    """Ours, or torchvision's ResNet-50."""
    torch.manual_seed(0)
    if name == "resnet50":
        from torchvision.models import resnet50

        model: nn.Module = resnet50(num_classes=classes)
        return model
    return build_model(name, num_classes=classes)


def images(options: argparse.Namespace, device: torch.device) -> tuple[Images, int]:
    """Images on the device and the number of their classes."""
    if options.data:
        data = load_splits(options.data, 0.0, 0, device)
        return data.train, data.num_classes
    side, count = SIDES[options.model], 8 * options.batch_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    half = torch.full((3,), 0.5, device=device)
    return Images(pixels.to(device), labels.to(device), half, half), 10


@dataclass
class Contestant:
    """A network, an optimizer and its stream of batches."""

    name: str
    model: nn.Module
    data: Images
    options: argparse.Namespace
    device: torch.device
    inside: float = 0.0
    optimizer: torch.optim.Optimizer = field(init=False)
    batches: Iterator[tuple[Tensor, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self.model = self.model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = OPTIMIZERS[self.name](lr=0.01).build(self.model)
        self.batches = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, size = 0, self.options.batch_size
        while True:
            for batch in self.data.shuffled(size, generator_for(0, "epoch", epoch), True):
                if len(batch[1]) == size:
                    yield batch
            epoch += 1

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def run(self, steps: int, watched: bool = False) -> float:
        """Seconds of `steps` steps; `watched` adds those of forward, backward and step to `inside`."""
        self.wait()
        began = time.perf_counter()
        for _ in range(steps):
            batch, labels = next(self.batches)

            def closure(sync: bool = True, batch: Tensor = batch, labels: Tensor = labels) -> Tensor:
                self.optimizer.zero_grad()
                with self.forward():
                    logits = self.model(batch)
                loss = F.cross_entropy(logits.float(), labels)
                loss.backward()  # type: ignore[no-untyped-call]
                return loss.detach()

            if watched:
                self.wait()
                entered = time.perf_counter()
            self.optimizer.step(closure)  # type: ignore[arg-type]
            if watched:
                self.wait()
                self.inside += time.perf_counter() - entered
        self.wait()
        return time.perf_counter() - began

    def forward(self) -> AbstractContextManager[object]:
        return forward_in(self.options.precision, self.device)

    def outside(self, steps: int) -> float:
        """Share of the time outside forward, backward and step."""
        self.inside = 0.0
        total = self.run(steps, watched=True)
        return 1 - self.inside / total


def contestant(name: str, options: argparse.Namespace, device: torch.device) -> Contestant:
    data, classes = images(options, device)
    return Contestant(name, network(options.model, classes), data, options, device)


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
        one = contestant(name, options, device)
        torch.cuda.reset_peak_memory_stats()
        one.run(WARM_UP)
        return torch.cuda.max_memory_allocated() / 1024**2
    command = [sys.executable, __file__, "--memory-of", name, "--model", options.model, "--device", "cpu"]
    command += ["--batch-size", str(options.batch_size), "--precision", options.precision]
    command += ["--data", options.data] if options.data else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def compare(options: argparse.Namespace, device: torch.device) -> None:
    memory = {name: peak_memory(name, options, device) for name in NAMES}
    data, classes = images(options, device)
    start = network(options.model, classes)
    those = [Contestant(name, copy.deepcopy(start), data, options, device) for name in NAMES]
    for one in those:
        one.run(WARM_UP)
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    for turn in range(options.rounds):
        first = turn % len(those)
        for one in those[first:] + those[:first]:
            times[one.name].append(one.run(options.steps))
    print(f"{'optimizer':10} {'examples/s':>10} {'time':>7} {'':17} {'outside':>8} {'memory':>12}")
    for one in those:
        ratios = [mine / sgd for mine, sgd in zip(times[one.name], times["sgd"], strict=True)]
        rate = options.batch_size * options.steps / statistics.median(times[one.name])
        print(
            f"{one.name:10} {rate:10.1f} {statistics.median(ratios):7.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f}) {one.outside(options.steps):8.2%} "
            f"{memory[one.name]:8.1f} MiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=SIDES, default="resnet20")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="of each optimizer in a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="float32")
    parser.add_argument("--data", help="cifar10, sample, npz:PATH, …; random images by default")
    parser.add_argument("--memory-of", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    with numerics(options.precision):
        if options.memory_of:
            contestant(options.memory_of, options, device).run(WARM_UP)
            print(resident_peak())
            return
        hardware = (
            torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
        )
        print(
            f"torch {torch.__version__}, {hardware}, {options.model}, batch {options.batch_size}, "
            f"{options.precision}, {options.rounds} rounds of {options.steps} steps, "
            f"{options.data or 'random'} images"
        )
        compare(options, device)


if __name__ == "__main__":
    main()
