"""Runs that take turns in one process: each ends as alone, bit for bit, whatever becomes of others."""

from __future__ import annotations

import dataclasses
import gc
import io
import json
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import SMALL, Silent, Stop, assert_same
from PIL import Image
from pretended_gpu import pretended_gpu
from torch import nn

from landscape.checkpoint.format import Checkpoint
from landscape.commandline.claims import claim
from landscape.errors import UserError
from landscape.keeping.signals import Interrupted
from training import lanes, loop, models
from training.checkpoint import RunFolder
from training.config import RunConfig
from training.data import load_splits
from training.lanes import Begun, Ended, Lanes
from training.optimizers import OPTIMIZERS
from training.precision import numerics
from training.sparsity import METHODS
from training.sweep import lane_server
from training.sweep.lane_server import Server
from training.sweep.laned import TAKEN

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
CELLS = [("random", "sgd"), ("set", "s2sam"), ("random", "sam"), ("dense", "sgd")]


def small(num_classes: int = 10) -> nn.Module:
    """With dropout, whose draws must not be another run's."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, num_classes)),
    )


def without_dropout(num_classes: int = 10) -> nn.Module:
    """What a CUDA graph can be made of."""
    return nn.Sequential(*(one for one in small(num_classes) if not isinstance(one, nn.Dropout)))


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "small", small)
    monkeypatch.setitem(models.ARCHITECTURES, "plain", without_dropout)


def configured(cell: int, **changes: Any) -> RunConfig:
    method, optimizer = CELLS[cell]
    options: dict[str, Any] = {"sparsity": 0.5} if method != "dense" else {}
    return dataclasses.replace(
        SMALL,
        **{"model": "small", "widths": None, "epochs": 2, "batch_size": 24, "seed": cell, "warmup": 0.0}
        | changes,
        method=METHODS[method](**options),
        optimizer=OPTIMIZERS[optimizer](lr=0.05),  # type: ignore[call-arg]
    )


def steps_of(config: RunConfig, path: Path, npz: Path, device: torch.device, reporter: Any = None) -> Any:
    data = load_splits(f"npz:{npz}", config.validation, config.seed, device)
    folder = RunFolder(path, config.to_dict(data.name))
    return loop.training(config, data, folder, device, reporter or Silent(), loop.Extras(sparse="off"))


def alone(config: RunConfig, path: Path, npz: Path, device: torch.device = CPU) -> Checkpoint:
    data = load_splits(f"npz:{npz}", config.validation, config.seed, device)
    folder = RunFolder(path, config.to_dict(data.name))
    return loop.train(config, data, folder, device, Silent(), loop.Extras(sparse="off"))


def in_turn(
    begin: Callable[[int], Begun], orders: list[int], at_a_time: int, device: torch.device = CPU
) -> tuple[Lanes[int], list[Ended[int]]]:
    turns = Lanes[int](device, at_a_time, begin)
    turns.waiting += orders
    ends: list[Ended[int]] = []
    while turns.orders:
        ends += turns.round()
    return turns, ends


def of(path: Path) -> Checkpoint:
    settings = json.loads((path / "run.json").read_text())
    found = RunFolder(path, settings).finished()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def expected(tiny_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    tmp_path = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.ARCHITECTURES, "small", small)
        return [alone(configured(cell), tmp_path / str(cell), tiny_npz) for cell in range(len(CELLS))]


@pytest.mark.parametrize(
    ("orders", "at_a_time"), [((0, 1, 2, 3), 4), ((3, 1, 0, 2), 2), ((2, 0, 3, 1), 3), ((1, 0), 1)]
)
def test_each_ends_as_alone(
    orders: tuple[int, ...], at_a_time: int, expected: list[Checkpoint], tiny_npz: Path, tmp_path: Path
) -> None:
    def begin(cell: int) -> Begun:
        return Begun(steps_of(configured(cell), tmp_path / str(cell), tiny_npz, CPU))

    with torch.random.fork_rng():
        _, ends = in_turn(begin, list(orders), at_a_time)
    assert sorted(end.order for end in ends) == sorted(orders)
    assert not any(end.error for end in ends)
    for cell in orders:
        assert_same(of(tmp_path / str(cell)), expected[cell])


def test_on_a_gpu_each_has_graphs_and_numbers_of_its_own(tiny_npz: Path, tmp_path: Path) -> None:
    """Of different precisions: what holds for the process is set for each step."""
    cells = [configured(0, model="plain"), configured(1, model="plain", precision="tf32")]

    def begin(cell: int) -> Begun:
        config = cells[cell]
        steps = steps_of(config, tmp_path / f"turns{cell}", tiny_npz, CUDA)
        return Begun(steps, partial(numerics, config.precision))

    with pretended_gpu() as gpu:
        alones = [alone(one, tmp_path / f"alone{i}", tiny_npz, CUDA) for i, one in enumerate(cells)]
        captures, replays = gpu.captures, gpu.replays
        _, ends = in_turn(begin, [0, 1], 2, CUDA)
    assert [end.error for end in ends] == ["", ""]
    assert not gpu.unguarded
    assert (gpu.captures, gpu.replays) == (2 * captures, 2 * replays)
    assert captures
    for number, wanted in enumerate(alones):
        found = of(tmp_path / f"turns{number}")
        assert_same(found, wanted)
        assert found.environment["cuda_graph"] is True


def test_no_stream_has_two_lanes(tiny_npz: Path, tmp_path: Path) -> None:
    """However many runs come and go beside a long one: cuBLAS has one workspace for each stream."""
    cells = [configured(2, model="plain", epochs=epochs, examples=72) for epochs in (12, 2, 2, 2)]

    def begin(number: int) -> Begun:
        steps = steps_of(cells[number], tmp_path / str(number), tiny_npz, CUDA)
        return Begun(steps, partial(numerics, "float32"))

    with pretended_gpu() as gpu:
        gpu.streams = gpu.streams[:2]
        _, ends = in_turn(begin, [0, 1, 2, 3], 2, CUDA)
        assert gpu.captures == 2 * len(cells)
    assert [end.error for end in ends] == [""] * len(cells)


def test_a_run_that_is_over_leaves_no_memory(tiny_npz: Path, tmp_path: Path) -> None:
    """At once: the next one needs it, and a graph that is destroyed while another is captured spoils that."""
    networks: list[weakref.ref[nn.Module]] = []
    usual = loop.start_run

    def noted(*arguments: Any) -> Any:
        run = usual(*arguments)
        networks.append(weakref.ref(run.model))
        return run

    def begin(cell: int) -> Begun:
        return Begun(steps_of(configured(cell, model="plain"), tmp_path / str(cell), tiny_npz, CUDA))

    gc.disable()
    try:
        with pretended_gpu(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "start_run", noted)
            in_turn(begin, [0], 1, CUDA)
            assert [one() for one in networks] == [None]
    finally:
        gc.enable()


def test_a_run_that_fails_disturbs_nobody(expected: list[Checkpoint], tiny_npz: Path, tmp_path: Path) -> None:
    def begin(cell: int) -> Begun:
        if cell == 7:
            raise UserError("no such run")
        if cell == 8:
            return Begun(failing())
        return Begun(steps_of(configured(cell), tmp_path / str(cell), tiny_npz, CPU))

    def failing() -> Iterator[None]:
        yield
        raise ValueError("a fault\nin two lines")

    with torch.random.fork_rng():
        _, ends = in_turn(begin, [7, 0, 8], 3)  # type: ignore[arg-type]
    errors = {end.order: (end.error, bool(end.trace)) for end in ends}
    assert errors == {0: ("", False), 7: ("no such run", False), 8: ("ValueError: a fault", True)}
    assert_same(of(tmp_path / "0"), expected[0])


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported elsewhere"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_full_memory_takes_a_lane_away_and_the_run_goes_on(
    error: RuntimeError, expected: list[Checkpoint], tiny_npz: Path, tmp_path: Path
) -> None:
    begun: list[int] = []

    class Full(Silent):
        def epoch(self, record: dict[str, Any]) -> None:
            raise error

    def begin(cell: int) -> Begun:
        begun.append(cell)
        reporter = Full() if begun.count(cell) == 1 and cell == 1 else None
        return Begun(steps_of(configured(cell), tmp_path / str(cell), tiny_npz, CPU, reporter))

    with torch.random.fork_rng():
        turns, ends = in_turn(begin, [0, 1, 2], 3)
    assert begun == [0, 1, 2, 1]
    assert turns.at_a_time == 2
    assert not any(end.error for end in ends)
    for cell in (0, 1, 2):
        assert_same(of(tmp_path / str(cell)), expected[cell])


def test_full_memory_of_one_alone_is_its_end() -> None:
    def full() -> Iterator[None]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        yield

    _, ends = in_turn(lambda _: Begun(full()), [3], 2)  # type: ignore[arg-type]
    assert [(end.order, end.error) for end in ends] == [(3, lanes.FULL)]


def words(cell: int, folder: Path, npz: Path, epochs: int = 2) -> list[str]:
    """A command line, as sweeps give it."""
    method, optimizer = CELLS[cell]
    extra = [f"--method={method}", f"--optimizer={optimizer}"]
    extra += ["--sparsity=0.5"] if method != "dense" else []
    given = {"model": "plain", "data": f"npz:{npz}", "validation": 0.1, "epochs": epochs, "batch-size": 24}
    given |= {"warmup": 0, "seed": 0, "output": folder, "device": "cuda", "threads": torch.get_num_threads()}
    return [*(f"--{key}={value}" for key, value in given.items()), *extra]


def served(orders: list[dict[str, Any]], at_a_time: int = 2, device: torch.device = CUDA) -> dict[int, int]:
    """What a server answers to all of them; exit codes by number."""
    answers = io.StringIO()
    Server(device, at_a_time, answers).serve(io.StringIO("".join(json.dumps(one) + "\n" for one in orders)))
    found = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert len(found) == len(orders)
    return {one["number"]: one["code"] for one in found}


def test_a_server_makes_what_is_ordered(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    usual = lane_server.ready
    monkeypatch.setattr(
        lane_server, "ready", lambda config, *rest: (read.append(""), usual(config, *rest))[1]
    )
    bad = [one.replace("--epochs=2", "--epochs=-2") for one in words(1, tmp_path / "bad", tiny_npz)]
    lines = [*(words(cell, tmp_path / str(cell), tiny_npz) for cell in (0, 3)), bad, ["--method=nothing"]]
    orders = [{"number": n, "words": one, "log": str(tmp_path / f"{n}.log")} for n, one in enumerate(lines)]
    held = claim(tmp_path / "4.log")  # another process's
    orders.append({"number": 4, "words": lines[0], "log": str(tmp_path / "4.log")})
    with pretended_gpu():
        assert served(orders) == {0: 0, 1: 0, 2: 2, 3: 2, 4: TAKEN}
        wanted = alone(of_words(lines[0]), tmp_path / "alone", tiny_npz, CUDA)
    assert held is not None
    os.close(held)
    assert len(read) == 1  # the same images
    found = of(tmp_path / "0")
    assert_same(found, wanted)
    assert found.environment["lanes"] == 2
    assert "lanes" not in wanted.environment
    log = (tmp_path / "0.log").read_text()
    assert "epoch 2/2" in log
    assert "error: epochs -2" in (tmp_path / "2.log").read_text()
    assert (tmp_path / "3.log").read_text().startswith("error: unknown method 'nothing'")
    for number in range(4):  # all free again
        descriptor = claim(tmp_path / f"{number}.log")
        assert descriptor is not None
        os.close(descriptor)


def orders_of(npz: Path, folder: Path, count: int) -> list[dict[str, Any]]:
    return [
        {"number": n, "words": words(0, folder / str(n), npz), "log": str(folder / f"{n}.log")}
        for n in range(count)
    ]


def of_words(line: list[str]) -> RunConfig:
    return lane_server._asked(line)[0]


def test_a_signal_keeps_what_is_saved(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Progress(Stop):
        def __init__(self, *rest: Any, **more: Any) -> None:
            super().__init__(1)

    lines = [words(cell, tmp_path / str(cell), tiny_npz) for cell in (0, 1)]
    orders = [{"number": n, "words": one, "log": str(tmp_path / f"{n}.log")} for n, one in enumerate(lines)]
    answers = io.StringIO()
    with pretended_gpu():
        with monkeypatch.context() as patch:
            patch.setattr(lane_server, "TrainingProgress", Progress)
            server = Server(CUDA, 2, answers)
            with pytest.raises(KeyboardInterrupt):
                server.serve(io.StringIO("".join(json.dumps(one) + "\n" for one in orders)))
        said = [json.loads(line) for line in answers.getvalue().splitlines()]
        assert [(one["number"], one["code"]) for one in said] == [(0, 130), (1, 130)]
        assert "stopped by Ctrl-C; the same command goes on" in (tmp_path / "1.log").read_text()
        assert all((tmp_path / str(cell) / "last.pt").exists() for cell in (0, 1))
        assert served(orders) == {0: 0, 1: 0}
        for cell in (0, 1):
            wanted = alone(of_words(lines[cell]), tmp_path / f"alone{cell}", tiny_npz, CUDA)
            assert_same(of(tmp_path / str(cell)), wanted)


def test_a_run_that_waits_is_nobody_elses_either(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims: list[int | None] = []

    class Progress(Silent):
        def __init__(self, *rest: Any, **more: Any) -> None:
            super().__init__()

        def begin(self, epochs: int, done: int) -> None:
            claims.append(claim(tmp_path / "1.log"))

    monkeypatch.setattr(lane_server, "TrainingProgress", Progress)
    with pretended_gpu():
        assert served(orders_of(tiny_npz, tmp_path, 2), at_a_time=1) == {0: 0, 1: 0}
    assert claims == [None, None]


def test_seconds_were_shared_though_a_lane_was_taken_away(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []

    class Progress(Silent):
        def __init__(self, *rest: Any, **more: Any) -> None:
            super().__init__()

        def epoch(self, record: dict[str, Any]) -> None:
            epochs.append(record["epoch"])
            if len(epochs) == 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(lane_server, "TrainingProgress", Progress)
    with pretended_gpu():
        assert served(orders_of(tiny_npz, tmp_path, 2)) == {0: 0, 1: 0}
    assert epochs == [1, 1, 2, 2]
    assert [of(tmp_path / str(number)).environment["lanes"] for number in (0, 1)] == [2, 2]


def test_a_log_on_a_full_disk_ends_no_run(tiny_npz: Path, tmp_path: Path) -> None:
    orders = [one | {"log": "/dev/full"} for one in orders_of(tiny_npz, tmp_path, 1)]
    orders.append({"number": 1, "words": ["--method=nothing"], "log": str(tmp_path / "no folder" / "1.log")})
    with pretended_gpu():
        assert served(orders) == {0: 0, 1: 2}
    assert (tmp_path / "0" / "final.pt").exists()


def test_a_gpu_that_is_lost_ends_all_in_a_line(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "CUDA error: an illegal memory access was encountered"

    class Progress(Silent):
        def __init__(self, *rest: Any, **more: Any) -> None:
            super().__init__()

        def epoch(self, record: dict[str, Any]) -> None:
            gpu.synchronize = lost  # type: ignore[method-assign]
            lost()

    def lost() -> None:
        raise RuntimeError(f"{message}\nCompile with `TORCH_USE_CUDA_DSA` to enable assertions.")

    monkeypatch.setattr(lane_server, "TrainingProgress", Progress)
    answers, orders = io.StringIO(), orders_of(tiny_npz, tmp_path, 3)
    with pretended_gpu() as gpu, pytest.raises(UserError, match=f"^RuntimeError: {message}$"):
        Server(CUDA, 2, answers).serve(io.StringIO("".join(json.dumps(one) + "\n" for one in orders)))
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [one | {"number": 0} for one in said] == 3 * [
        {"number": 0, "code": 2, "told": f"RuntimeError: {message}"}
    ]
    for order in orders:
        log = Path(order["log"])
        assert log.read_text().splitlines()[-1] == f"error: RuntimeError: {message}"
        descriptor = claim(log)
        assert descriptor is not None
        os.close(descriptor)
    assert not list(tmp_path.glob("*/.*"))


def test_a_signal_while_a_command_line_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.__main__._named", lambda *rest: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as stop:
        lane_server._asked(["--epochs=1"])
    assert stop.value.number == signal.SIGTERM


def test_the_process_is_of_a_gpu(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        lane_server.main(["cpu", "2"])
    assert stop.value.code == 2
    assert "lanes share a GPU, and this is cpu; on a CPU give --jobs" in capfd.readouterr().err


def test_photographs_are_refused(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (20, 30)).save(tmp_path / "pictures" / name / "1.png")
    line = [*words(3, tmp_path / "run", tmp_path)[2:], "--image-size=16"]
    line.append(f"--data=imagefolder:{tmp_path / 'pictures'}")
    with pretended_gpu():
        assert served([{"number": 5, "words": line, "log": str(tmp_path / "5.log")}]) == {5: 2}
    assert (
        "photographs keep a GPU busy by one run; give --jobs, no --lanes" in (tmp_path / "5.log").read_text()
    )
