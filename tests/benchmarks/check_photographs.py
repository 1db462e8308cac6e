"""Claim: ResNet-50 goes from photographs to a surface, and an interruption within an epoch leaves no trace.

Trains twice from the same seed with two processes (DDP, gloo): once without a break, once killed (SIGKILL) in
the middle of the last epoch and started again. Compares the weights bit by bit; then computes a surface of
5×5 points and the largest eigenvalue of the Hessian, and states time and the most memory that each part held.
The folder needs ``train`` and ``val`` (or ``test``) with a folder of pictures for each class.

    python tests/benchmarks/check_photographs.py PHOTOGRAPHS OUTPUT
    python tests/benchmarks/check_photographs.py PHOTOGRAPHS OUTPUT --size 64 --examples 64 --batch 16
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def started(arguments: Sequence[str], log: Path) -> list[subprocess.Popen[bytes]]:
    """Two processes that train together, each the leader of a group with those that decode for it."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    with log.open("ab") as out:
        return [
            subprocess.Popen(
                [sys.executable, "-m", "training", *arguments],
                env=ENVIRONMENT | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
            for rank in range(2)
        ]


def memory_of(group: int) -> int:
    """Bytes that the processes of a group hold at present; pages that several share count once for each."""
    total = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == group:
                total += int((entry / "statm").read_text().split()[1]) * resource.getpagesize()
        except (OSError, ValueError):
            continue
    return total


class Watch:
    """The most memory that groups of processes held while this was watching."""

    def __init__(self, groups: Sequence[int]) -> None:
        self.groups, self.most, self.over = list(groups), 0, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while not self.over.wait(0.2):
            self.most = max(self.most, sum(memory_of(one) for one in self.groups))

    def end(self) -> float:
        """GiB."""
        self.over.set()
        self.thread.join()
        return self.most / (1 << 30)


def finish(processes: Sequence[subprocess.Popen[bytes]], what: str) -> tuple[float, float]:
    """Seconds and GiB until all are done."""
    began, watch = time.time(), Watch([one.pid for one in processes])
    codes = [one.wait() for one in processes]
    if any(codes):
        raise SystemExit(f"{what} ended with {codes}")
    return time.time() - began, watch.end()


def killed_within(processes: Sequence[subprocess.Popen[bytes]], state: Path, epoch: int, step: int) -> None:
    """Kill all of them once the state after `step` steps of an epoch (from 0) is there."""
    seen = 0
    while True:
        if any(one.poll() is not None for one in processes):
            raise SystemExit("the training ended before it was killed")
        time.sleep(0.05)
        if state.exists() and state.stat().st_mtime_ns != seen:
            seen = state.stat().st_mtime_ns
            content = torch.load(state, weights_only=True)
            within = content["within"] or {"step": 0}
            if (content["epoch"], within["step"]) >= (epoch, step):
                break
    for one in processes:
        os.killpg(one.pid, signal.SIGKILL)
        one.wait()
    print(f"killed; {state.name} has {content['epoch']} epochs and {within['step']} steps", flush=True)


def command(arguments: Sequence[str], log: Path) -> tuple[float, float]:
    """Seconds and GiB of a command."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=ENVIRONMENT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return finish([process], " ".join(arguments[:1]))


def main() -> None:
    """Do all of it and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", default="224", help="side in pixels")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", default="25", help="images in a step, over both processes")
    parser.add_argument("--examples", default="", help="training images; all by default")
    parser.add_argument("--looked-at", default="16", help="images of the surface and of the eigenvalue")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    log = given.output / "log.txt"
    options = [
        *f"--model resnet50 --data imagefolder:{given.photographs} --image-size {given.size}".split(),
        *f"--epochs {given.epochs} --batch-size {given.batch} --lr 0.05 --warmup 1 --seed 0".split(),
        *("--label-smoothing", "0.1", "--optimizer", "s2sam", "--rho", "1", "--validation", "0"),
        *("--workers", "1", "--threads", "1", "--device", "cpu", "--save-every", "1"),
        *(["--examples", given.examples] if given.examples else []),
    ]
    ends = {name: given.output / name for name in ("whole", "killed")}
    seconds, memory = finish(started([*options, "--output", str(ends["whole"])], log), "training")
    print(
        f"trained in {seconds:.0f} s; both processes and those that decode held {memory:.2f} GiB", flush=True
    )
    arguments = [*options, "--output", str(ends["killed"])]
    killed_within(started(arguments, log), ends["killed"] / "last.pt", given.epochs - 1, 3)
    finish(started(arguments, log), "the training that goes on")
    found, expected = (
        torch.load(ends[name] / "final.pt", weights_only=True)["state_dict"] for name in ("killed", "whole")
    )
    same = found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    print(
        f"weights after the kill are {'bit-identical' if same else 'OTHERS'} ({len(found)} tensors)",
        flush=True,
    )
    final = str(ends["whole"] / "final.pt")
    data = f"--data imagefolder:{given.photographs} --examples {given.looked_at} --threads 1 --quiet".split()
    surface = ["landscape.surface", final, *data, "--points", "5", "-o", str(given.output / "surface")]
    seconds, memory = command(surface, log)
    print(f"surface of 5×5 points in {seconds:.0f} s, {memory:.2f} GiB", flush=True)
    spectrum = given.output / "hessian"
    seconds, memory = command(
        [
            "analysis.hessian",
            final,
            *data,
            "--top",
            "1",
            "--bottom",
            "0",
            "--density-probes",
            "0",
            "--max-probes",
            "8",
            "-o",
            str(spectrum),
        ],
        log,
    )
    print(f"largest eigenvalue in {seconds:.0f} s, {memory:.2f} GiB", flush=True)
    for line in (ends["whole"] / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        print(f"epoch {record['epoch']}: loss {record['train_loss']:.4f}, {record['seconds']:.0f} s")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
