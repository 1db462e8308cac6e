"""Several processes that can't train together: one line, from the first of them, and all end."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from loop_helpers import CPU, SMALL
from PIL import Image
from torch import distributed

from landscape.errors import UserError
from training.checkpoint import RunFolder
from training.data import load_splits
from training.distributed import World
from training.optimizers import OPTIMIZERS
from training.result import checkpoint_of
from training.run import start_run
from training.state import _processes

SETTINGS = "--widths 4 6 8 --epochs 2 --batch-size 16 --validation 0.1 --device cpu --threads 1"

PAIRS = """
import json, os, sys
import torch._dynamo  # torch.optim imports it at its first step
from torch.nn.parallel import DistributedDataParallel
import training.__main__ as command
from landscape.commandline import console
from training import distributed, loop

console.PATIENCE = 0.1  # nobody ends the other one here
os.environ["MASTER_ADDR"] = "localhost"
for request in sys.stdin:
    lines, folder, port, before = json.loads(request)
    children = []
    for rank, line in enumerate(lines):
        children.append(os.fork())
        if not children[-1]:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": port}
            os.dup2(os.open(f"{folder}/output{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.dup2(2, 1)
            exec(before)
            try:
                command.main(line.split())
                code = 0
            except SystemExit as stop:
                code = stop.code
            sys.stdout.flush()
            os._exit(code)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps(codes), flush=True)
"""
"""Two processes of the command for each request; importing torch once for all saves most of the time."""

Pair = Callable[..., list[tuple[int, str]]]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Exit code and output of two processes, each with a command line of its own; `before` is run in both."""
    server = subprocess.Popen(
        [sys.executable, "-c", PAIRS],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )

    def run(folder: Path, first: str, second: str, before: str = "") -> list[tuple[int, str]]:
        assert server.stdin is not None
        assert server.stdout is not None
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        print(json.dumps([[first, second], str(folder), port, before]), file=server.stdin)
        codes = json.loads(next(server.stdout))
        return [(code, (folder / f"output{rank}").read_text()) for rank, code in enumerate(codes)]

    with server:
        yield run
        server.communicate()


def assert_one_line(ended: list[tuple[int, str]], *parts: str) -> None:
    assert [code for code, _ in ended] == [2, 2]
    (line,) = ended[0][1].splitlines()
    assert line.startswith("error: ")
    assert all(part in line for part in parts), line
    assert ended[1][1] == ""


def test_torchrun_prints_one_line(tmp_path: Path) -> None:
    """Amid torchrun's own report of what ended; a wrong option is noticed before the processes join."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training"]
    ended = subprocess.run(
        [sys.executable, *launcher, "--method", "randm"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode != 0
    assert ended.stderr.count("error: unknown method 'randm'") == 1


def test_an_error_of_both_is_printed_by_the_first(tiny_npz: Path, tmp_path: Path, pair: Pair) -> None:
    line = f"{SETTINGS} --data npz:{tiny_npz} --examples 9999 --output {tmp_path / 'run'}"
    assert_one_line(pair(tmp_path, line, line), "error: examples 9999: expected 1 to the 72")


def test_an_error_of_the_other_one_is_named(tiny_npz: Path, tmp_path: Path, pair: Pair) -> None:
    """Its data aren't there; the first one must neither wait for it nor be silent."""
    first = f"{SETTINGS} --data npz:{tiny_npz} --output {tmp_path / 'run'}"
    second = f"{SETTINGS} --data npz:{tmp_path / 'nowhere.npz'} --output {tmp_path / 'run'}"
    assert_one_line(pair(tmp_path, first, second), "error: process 1 of 2: ", "nowhere.npz")


def test_other_images_on_another_machine(tiny_npz: Path, tmp_path: Path, pair: Pair) -> None:
    arrays = dict(np.load(tiny_npz))
    np.savez(tmp_path / "tiny.npz", **arrays | {"train_x": arrays["train_x"] ^ 1})
    first = f"{SETTINGS} --data npz:{tiny_npz} --output {tmp_path / 'run'}"
    second = f"{SETTINGS} --data npz:{tmp_path / 'tiny.npz'} --output {tmp_path / 'run'}"
    assert_one_line(pair(tmp_path, first, second), "the processes differ in their images", "the same --data")


def test_machines_without_a_shared_disk(tiny_npz: Path, tmp_path: Path, pair: Pair) -> None:
    """A run that goes on finds its state in the first one's folder only: nobody may start from scratch."""
    ends_after_one = "sys.exit(3) if run.epoch else train(run, *rest)"
    before = f"train = loop._epoch\nloop._epoch = lambda run, *rest: {ends_after_one}"
    line = f"{SETTINGS} --data npz:{tiny_npz} --output {tmp_path}"
    assert [code for code, _ in pair(tmp_path, f"{line}/here", f"{line}/there", before)] == [3, 3]
    assert (tmp_path / "here" / "last.pt").exists()
    assert not (tmp_path / "there").exists()
    ended = pair(tmp_path, f"{line}/here", f"{line}/there")
    assert_one_line(ended, "last.pt has: 1 in process 0, 0 in process 1", "a disk that all share")


KILLED = """
from training import checkpoint
keep = checkpoint.RunFolder.save_state
def kept(self, state):
    keep(self, state)
    if state["within"] and (state["epoch"], state["within"]["step"]) == (1, 1):
        os.kill(os.getpid(), 9)
checkpoint.RunFolder.save_state = kept
"""


def test_photographs_of_two_processes(tmp_path: Path, pair: Pair) -> None:
    """The first process is killed within an epoch: what goes on from there ends with the same bits."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for label in ("a", "b"):
            (tmp_path / "few" / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (20 + number, 30 - number, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "few" / split / label / f"{number}.png")
    line = f"{SETTINGS} --data imagefolder:{tmp_path}/few --image-size 16 --optimizer s2sam --save-every 1e-9"
    line = line.replace("--batch-size 16 --validation 0.1", "--batch-size 5 --validation 0.34 --workers 0")
    assert [code for code, _ in pair(tmp_path, *[f"{line} --output {tmp_path}/whole"] * 2)] == [0, 0]
    codes = [code for code, _ in pair(tmp_path, *[f"{line} --output {tmp_path}/cut"] * 2, KILLED)]
    assert codes[0] == -9
    assert [code for code, _ in pair(tmp_path, *[f"{line} --output {tmp_path}/cut"] * 2)] == [0, 0]
    whole, cut = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(value, cut["state_dict"][key]) for key, value in whole["state_dict"].items())
    for key in ("test_loss", "test_accuracy", "validation_loss", "train_loss", "examples_trained"):
        assert whole["metrics"][key] == cut["metrics"][key]
    # A picture that only the second process decodes is broken.
    line = line.replace("--epochs 2", "--epochs 1 --seed 1")
    for path in sorted((tmp_path / "few/train/b").iterdir()):
        path.write_bytes(b"no picture")
    assert_one_line(
        pair(tmp_path, *[f"{line} --output {tmp_path}/bad"] * 2), "can't be decoded", "--skip-broken"
    )


def test_averages_of_each_process_are_saved(tiny_npz: Path, tmp_path: Path, pair: Pair) -> None:
    """Each has that of its own gradients: what goes on, in as many processes, ends with the same bits."""
    line = f"{SETTINGS} --data npz:{tiny_npz} --optimizer fsam --perturbation process --output {tmp_path}"
    assert [code for code, _ in pair(tmp_path, *[f"{line}/whole"] * 2)] == [0, 0]
    ends_after_one = "sys.exit(3) if run.epoch else train(run, *rest)"
    before = f"train = loop._epoch\nloop._epoch = lambda run, *rest: {ends_after_one}"
    assert [code for code, _ in pair(tmp_path, *[f"{line}/cut"] * 2, before)] == [3, 3]
    state = torch.load(tmp_path / "cut/last.pt", weights_only=True)
    first, second = (part[0]["gradient_average"] for part in state["processes"])
    assert not torch.equal(first, second)
    config = replace(
        SMALL, data=f"npz:{tiny_npz}", epochs=2, optimizer=OPTIMIZERS["fsam"](perturbation="process")
    )
    data = load_splits(config.data, config.validation, config.seed, CPU)
    run = start_run(config, data, RunFolder(tmp_path / "cut", {}), CPU, World(), False)
    with pytest.raises(UserError, match="this file has 2, for 1 processes; start as many as before"):
        _processes(state, run)
    assert [code for code, _ in pair(tmp_path, *[f"{line}/cut"] * 2)] == [0, 0]
    whole, cut = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(value, cut["state_dict"][key]) for key, value in whole["state_dict"].items())


def test_a_checkpoint_is_moved_to_the_cpu_before_it_travels(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every weight and mask; a tensor of a GPU would be unpickled on the first process's."""
    data = load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, torch.device("cpu"))
    run = start_run(SMALL, data, RunFolder(tmp_path, {}), CPU, World(), False)
    original, moved = torch.Tensor.cpu, []

    def cpu(self: torch.Tensor) -> torch.Tensor:
        moved.append(original(self).clone())
        return moved[-1]

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    checkpoint = checkpoint_of(run, {})
    places = {one.data_ptr() for one in moved}
    for one in (*checkpoint.state_dict.values(), *checkpoint.mask.values()):
        assert one.data_ptr() in places


def test_tensors_travel_by_the_group_of_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contiguous and as uint8 where they are masks; objects by the default group, in the CPU's memory."""
    tensors, objects = object(), []
    sent: list[tuple[torch.Tensor, object]] = []

    def broadcast(tensor: torch.Tensor, src: int, group: object = None) -> None:
        assert src == 0
        sent.append((tensor, group))

    def all_reduce(tensor: torch.Tensor, group: object = None) -> None:
        sent.append((tensor, group))

    def broadcast_object_list(
        values: list[object], src: int, device: torch.device, group: object = None
    ) -> None:
        objects.append((device.type, group))

    for function in (broadcast, all_reduce, broadcast_object_list):
        monkeypatch.setattr(distributed, function.__name__, function)
    world = World(0, 2, tensors)  # type: ignore[arg-type]
    mask = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last) > 0.5
    before = mask.clone()
    assert torch.equal(world.agree({"a": mask})["a"], before)
    world.sum(torch.ones(3))
    assert world.by_first(lambda: 5) == 5
    assert [group for _, group in sent] == [tensors, tensors]
    assert sent[0][0].dtype == torch.uint8
    assert all(one.is_contiguous() for one, _ in sent)
    assert objects == [("cpu", None)]
