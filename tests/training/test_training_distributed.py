"""Two processes that train one model, started by torchrun with gloo, against one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from landscape.checkpoint.format import decode

pytestmark = pytest.mark.slow  # among the first files that start

PROCESS = """
import hashlib, os, sys
import torch
from torch import nn
from training import loop, models
from training.__main__ main

class Plain(nn.Module):
    "Without batch norm, whose statistics would be those of a process's part of the batch."
    def __init__(self, num_classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.linear = nn.Linear(8, num_classes)
    def forward(self, x):
        return self.linear(torch.tanh(self.conv(x)).mean((2, 3)))

models.ARCHITECTURES["plain"] = Plain
original = loop.train_step
log = open(os.environ["STEPS"] + os.environ.get("RANK", "0"), "w")

def watched(run, epoch, step, *rest):
    original(run, epoch, step, *rest)
    digest = hashlib.sha256()
    for name, value in run.model.named_parameters():
        digest.update(value.detach().numpy().tobytes())
    for name, part in run.mask.items():
        digest.update(part.numpy().tobytes())
    print(digest.hexdigest(), file=log, flush=True)

loop.train_step = watched
torch.set_num_threads(1)
main(sys.argv[1:])
""".replace("__main__ main", "__main__ import main")


def run(processes: int, settings: str, folder: Path, script: Path) -> list[list[str]]:
    """Digests of weights and masks after every step, by process."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    result = subprocess.run(
        [
            *(sys.executable, *(launcher if processes > 1 else []), str(script)),
            *(*settings.split(), "--output", str(folder), "--device", "cpu"),
        ],
        env=os.environ | {"STEPS": f"{folder}-steps", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return [Path(f"{folder}-steps{rank}").read_text().split() for rank in range(processes)]


@pytest.mark.parametrize(
    "method",
    [
        "--method rigl --update-interval 3 --optimizer s2sam",
        "--method mest_em --interval 0.5 --keep-dense none",
    ],
)
def test_ranks_agree_and_equal_one_process(tiny_npz: Path, tmp_path: Path, method: str) -> None:
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    settings = (
        f"--model plain --data npz:{tiny_npz} --epochs 3 --batch-size 17 --lr 0.1 --no-augment "
        f"--validation 0.1 --sparsity 0.6 {method}"
    )
    first, second = run(2, settings, tmp_path / "two", script)
    assert first == second
    assert len(set(first)) >= len(first) - 6  # the steps that change the mask may leave the weights
    run(1, settings, tmp_path / "one", script)
    two, one = (
        decode(torch.load(tmp_path / name / "final.pt", weights_only=True)) for name in ("two", "one")
    )
    assert all(torch.equal(part, one.mask[name]) for name, part in two.mask.items())
    for name, value in one.state_dict.items():
        assert torch.allclose(two.state_dict[name], value, rtol=1e-5, atol=1e-5), name
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for alone, together in zip(*lines, strict=True):
        assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-5)
        assert together["validation_accuracy"] == alone["validation_accuracy"]
