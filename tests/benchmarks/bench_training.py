"""Claim: our training loop isn't slower than a plain one with torchvision's transforms and a DataLoader.

The same training in both: ResNet-20, SGD with momentum, batches of 128, pad-crop-flip. The rival is what the
tutorials write: PIL images, torchvision transforms, DataLoader with worker processes. Three contestants, each
in a process of its own that stays, take turns of some steps: ours as ``python -m training`` runs (with its
settings of the C library, see training/memory.py), ours without those settings, and the rival.
Printed: examples per second, the median over turns, and the median of the ratios to the rival turn by turn;
and of ours the share of the time that goes into making batches.

    python tests/benchmarks/bench_training.py [--turns 7] [--steps 12] [--batch-size 128]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from training.memory import _SETTINGS as LARGE_PAGES

IMAGES = 10_000


def pixels() -> tuple[np.ndarray, np.ndarray]:
    """Images of CIFAR's form; what they show doesn't matter for speed."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), generator.integers(0, 10, IMAGES)


def ours(batch_size: int) -> Iterator[float]:
    """Train step by step with the loop's own code; yields seconds spent on making the batch."""
    import torch

    from training.checkpoint import RunFolder
    from training.config import RunConfig
    from training.data import Images, TrainingData, generator_for
    from training.distributed import World
    from training.run import start_run
    from training.step import train_step

    images, labels = pixels()
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    part = Images(torch.from_numpy(images), torch.from_numpy(labels), torch.tensor(mean), torch.tensor(std))
    data = TrainingData(part, part, part, "noise", 10, mean, std, np.arange(0), "")
    config = RunConfig(batch_size=batch_size)
    run = start_run(config, data, RunFolder(Path(), {}), torch.device("cpu"), World(), False)
    loss = torch.zeros(())
    step = 0
    while True:
        batches = part.shuffled(batch_size, generator_for(0, step), True)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            spent = time.perf_counter() - began
            if batch is None or len(batch[1]) < batch_size:
                break
            train_step(run, run.plan[0], step % 1000, *batch, loss)
            step += 1
            yield spent


def rival(batch_size: int) -> Iterator[float]:
    """Train step by step as the tutorials do."""
    import torch
    import torch.nn.functional as F  # noqa: N812
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from training.models import build_model

    class Pictures(Dataset[Any]):
        def __init__(self) -> None:
            self.images, self.labels = pixels()
            self.transform = transforms.Compose(
                [
                    transforms.RandomCrop(32, padding=4),
                    transforms.RandomHorizontalFlip(),
                    transforms.ToTensor(),
                    transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
                ]
            )

        def __len__(self) -> int:
            return IMAGES

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])

    model = build_model("resnet20").train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    workers = min(2, os.cpu_count() or 1)
    loader = DataLoader(Pictures(), batch_size, shuffle=True, num_workers=workers, drop_last=True)
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            yield 0.0


def worker(name: str, batch_size: int) -> None:
    """Answer each number of steps on standard input with the seconds they took, and those for batches."""
    steps = {"ours": ours, "rival": rival}[name](batch_size)
    for line in sys.stdin:
        began = time.perf_counter()
        making = sum(next(steps) for _ in range(int(line)))
        print(time.perf_counter() - began, making, flush=True)


class Contestant:
    """A worker process."""

    def __init__(self, name: str, batch_size: int, large_pages: bool) -> None:
        command = [sys.executable, __file__, "--worker", name, "--batch-size", str(batch_size)]
        plain = {key: value for key, value in os.environ.items() if key not in LARGE_PAGES}
        self.process = subprocess.Popen(
            command,
            env=plain | (LARGE_PAGES if large_pages else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self, steps: int) -> tuple[float, float]:
        """Seconds of so many steps, and those for batches."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(steps, file=self.process.stdin, flush=True)
        seconds, making = self.process.stdout.readline().split()
        return float(seconds), float(making)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--worker", choices=("ours", "rival"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.batch_size)
        return
    contestants = {
        "ours": Contestant("ours", options.batch_size, True),
        "ours, C library as it is": Contestant("ours", options.batch_size, False),
        "torchvision + DataLoader": Contestant("rival", options.batch_size, False),
    }
    for one in contestants.values():
        one.turn(3)  # warm-up
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(options.turns):
        for name, one in contestants.items():
            turns[name].append(one.turn(options.steps))
    for one in contestants.values():
        one.process.kill()
    rivals = [seconds for seconds, _ in turns["torchvision + DataLoader"]]
    for name, times in turns.items():
        rate = options.steps * options.batch_size / statistics.median(seconds for seconds, _ in times)
        ratio = statistics.median(other / mine for (mine, _), other in zip(times, rivals, strict=True))
        share = statistics.median(making / seconds for seconds, making in times)
        note = "" if "Loader" in name else f", {share:.1%} of the time for making batches"
        print(f"{name:26} {rate:7.0f} examples/s, {ratio:.2f} × the rival{note}")


if __name__ == "__main__":
    main()
