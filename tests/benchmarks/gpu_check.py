"""One command for the hour in which a GPU is at hand: is what runs there right, and how fast is it?

    make gpu-check
    python tests/benchmarks/gpu_check.py --device cuda:1 --output gpu-check.md
    python tests/benchmarks/gpu_check.py --device cpu --tiny        # the same steps anywhere, in seconds

In this order, within four minutes: what the device reaches in matrix products and in copies; surfaces against
float64 on the CPU, repeated, and by a fresh engine; a Hessian product; training, and training that is stopped
and goes on; speeds as shares of those ceilings; the tests marked `gpu`; speeds by the size of batches, with
convolutions fused and not; and last, since it may do harm, a loss that makes the host wait. Written after
every step: a table of what was found, wanted and seen. Exit codes: 0 all right, 1 something is wrong, 3
something wasn't looked at.

The toolkit's Python functions are all that it needs, with torch, numpy, scipy and Pillow: no parser of
command lines, no Plotly. Where pytest is missing, the tests are not looked at.
"""

from __future__ import annotations

import argparse
import faulthandler
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from gpu_batches import by_batches  # noqa: E402
from gpu_lanes import in_turn  # noqa: E402
from gpu_networks import activations, drawn, made, untrained  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import landscape  # noqa: E402
import sharpscape  # noqa: E402
from analysis.hessian import HessianOperator  # noqa: E402
from landscape.data import load_data  # noqa: E402
from landscape.devices import choose_device  # noqa: E402
from landscape.engine import Engine  # noqa: E402
from landscape.engine.cuda_graph import numerics  # noqa: E402
from landscape.errors import UserError  # noqa: E402
from landscape.examples import Examples  # noqa: E402
from landscape.files import atomic_path  # noqa: E402
from landscape.losses import LossResult, classification  # noqa: E402
from training.checkpoint import RunFolder  # noqa: E402
from training.config import RunConfig  # noqa: E402
from training.data import load_splits  # noqa: E402
from training.loop import Extras, train  # noqa: E402
from training.models import ARCHITECTURES  # noqa: E402
from training.models.cifar_resnet import resnet20, resnet32_wide  # noqa: E402
from training.optimizers import OPTIMIZERS  # noqa: E402
from training.sparsity import METHODS  # noqa: E402

SHIPPED = ROOT / "examples" / "checkpoints" / "resnet20-cifar10-erk90.pt"
POINTS = [(0.0, 0.0), (0.1, -0.05), (-0.4, 0.3), (1.0, 1.0), (-1.0, 0.7)]
NETWORKS = {"ResNet-20": resnet20, "wide ResNet-32": resnet32_wide}
SURFACE, PRODUCT, STEP = 1e-4, 1e-3, 1e-3  # largest relative differences to the CPU's float64, and float32
SECONDS = 240.0
_GRACE = 60.0  # after which a step that hangs is ended, with a traceback


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    side: int = 8192
    copied: int = 1 << 30
    turns: int = 5
    least: float = 0.1
    examples: int = 2000
    points: int = 5
    fast: int = 8192
    products: int = 512
    widths: tuple[int, int, int] | None = None
    images: int = 1024
    networks: int = 2
    lanes: int = 4


TINY = Size(256, 1 << 20, 2, 0.0, 16, 2, 16, 8, (4, 6, 8), 32, 1, 2)


@dataclass(frozen=True)
class Line:
    """What was looked at, what was found, what was wanted; `right` is None where nothing was wanted."""

    what: str
    found: str
    wanted: str = ""
    right: bool | None = None


@dataclass
class Setting:
    """What all steps share.

    Attributes
    ----------
    ceilings
        Operations a second by type, and bytes a second of "copies", once they are known.
    until
        When everything is to be over, by `time.monotonic`.
    """

    device: torch.device
    size: Size
    until: float
    ceilings: dict[str, float] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtypes(self) -> list[str]:
        return ["float32", "tf32", "bfloat16"] if self.cuda else ["float32"]

    def seconds(self, run: Callable[[], object]) -> float:
        """Of one call: the median of some turns, each of as many calls as take a while."""
        run()
        calls = 1 + int(self.size.least / max(self._turn(run, 1), 1e-6))
        return statistics.median(self._turn(run, calls) / calls for _ in range(self.size.turns))

    def _turn(self, run: Callable[[], object], calls: int) -> float:
        self.wait()
        began = time.perf_counter()
        for _ in range(calls):
            run()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)


def ceilings(its: Setting) -> Iterator[Line]:
    """What the device reaches: products of square matrices, and copies."""
    side = its.size.side
    for dtype in its.dtypes:
        kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        one, two = (torch.randn(side, side, device=its.device, dtype=kind) for _ in range(2))
        into = torch.empty_like(one)
        with numerics(its.device, dtype == "tf32"):
            seconds = its.seconds(lambda a=one, b=two, c=into: torch.mm(a, b, out=c))  # type: ignore[misc]
        its.ceilings[dtype] = 2 * side**3 / seconds
        yield Line(f"matrix products of {side}³, {dtype}", f"{its.ceilings[dtype] / 1e12:.3g} TFLOP/s")
    source = torch.zeros(its.size.copied, dtype=torch.uint8, device=its.device)
    target = torch.empty_like(source)
    its.ceilings["copies"] = 2 * its.size.copied / its.seconds(lambda: target.copy_(source))
    yield Line("copies, read and written", f"{its.ceilings['copies'] / 1e9:.4g} GB/s")


def surfaces(its: Setting) -> Iterator[Line]:
    """Points of a shipped network's plane against float64 on the CPU, and the same points again."""
    model, examples, along = shipped(its, its.size.examples)
    points = POINTS[: its.size.points]

    def engine(device: torch.device, dtype: str) -> Engine:
        return Engine(
            model, {"test": examples}, classification, along, device=device, dtype=dtype, sparse="off"
        )

    expected = np.array(losses(engine(torch.device("cpu"), "float64"), points))
    for dtype in ["float64", *its.dtypes]:
        mine = engine(its.device, dtype)
        found = losses(mine, points)
        off = float(np.abs(np.array(found) / expected - 1).max())
        bound = SURFACE if dtype in ("float64", "float32") else None  # others are for previews
        yield within(f"losses, {dtype}, against float64 on the CPU, {len(points)} points", off, bound)
        if dtype == "float32":
            yield equal("the same points again", losses(mine, points[::-1])[::-1] == found)
            yield equal(
                "the same points by a fresh engine", losses(engine(its.device, dtype), points) == found
            )
        graph = mine.about["cuda_graph"]
        if its.cuda:
            yield Line(f"a point is one CUDA graph, {dtype}", str(graph), "True", graph is True)


def hessian(its: Setting) -> Iterator[Line]:
    """A product with the Hessian against float64 on the CPU, and again."""
    model, examples, _ = shipped(its, its.size.products)

    def product(device: torch.device | str, dtype: str) -> np.ndarray[Any, Any]:
        operator = HessianOperator(model, examples, device=str(device), dtype=dtype)
        vector = np.random.default_rng(0).standard_normal(operator.size).astype(operator.dtype)
        return np.asarray(operator @ vector)

    expected, found = product("cpu", "float64"), product(its.device, "float32")
    off = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    yield within("a product with the Hessian, float32, against float64 on the CPU", off, PRODUCT)
    yield equal("the same product by a fresh operator", bool((product(its.device, "float32") == found).all()))


def trainings(its: Setting) -> Iterator[Line]:
    """A first step against the CPU's; a training at once, and one that is stopped and goes on."""
    config = RunConfig(
        data="sample",
        widths=its.size.widths,
        examples=its.size.images,
        epochs=2,
        batch_size=32,
        method=METHODS["rigl"](sparsity=0.9, update_interval=5),  # type: ignore[call-arg]
        optimizer=OPTIMIZERS["s2sam"](lr=0.1),  # type: ignore[call-arg]
    )
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, what: RunConfig, device: Any, epochs: int = 99, **more: Any) -> tuple[Any, Watch]:
            data = load_splits("sample", what.validation, what.seed, device, examples=what.examples)
            data = replace(data, test=data.test.first(its.size.examples))
            place, watch = RunFolder(Path(folder) / name, what.to_dict(data.name)), Watch(epochs)
            return train(what, data, place, device, watch, Extras(sparse="off", **more)), watch

        one = replace(config, examples=config.batch_size, epochs=1)
        mine, cpus = (
            run(str(number), one, device)[1].records[0]["train_loss"]
            for number, device in enumerate((its.device, torch.device("cpu")))
        )
        yield within("loss of a first step, float32, against the CPU's", abs(mine / cpus - 1), STEP)
        whole, watch = run("whole", config, its.device)
        with suppress(KeyboardInterrupt):
            run("stopped", config, its.device, epochs=1)
        again, _ = run("stopped", config, its.device)
        plain, slower = run("plain", config, its.device, graphs="off")
        for what, other in {"that was stopped and went on": again, "without CUDA graphs": plain}.items():
            same = all(torch.equal(value, other.state_dict[name]) for name, value in whole.state_dict.items())
            yield equal(f"a training {what}", same)
        if its.cuda and its.size.images > 2 * config.batch_size:  # else there is nothing to replay
            graph = whole.environment["cuda_graph"]
            yield Line("passes of a step are one CUDA graph", str(graph), "True", graph is True)
        for what, seen in {"with all around it": watch, "without CUDA graphs": slower}.items():
            took = f"{1e3 * seen.records[-1]['seconds'] / (its.size.images / config.batch_size):.3g} ms"
            yield Line(f"a step of it (RigL, S2-SAM, 32 images, {what})", took)
        data = load_splits("sample", config.validation, config.seed, its.device, examples=config.examples)
        data = replace(data, test=data.test.first(its.size.examples))
        lanes, seconds = in_turn(its.size.lanes, config, data, Path(folder), its.device)
        same = all(
            torch.equal(value, one.state_dict[name])
            for one in lanes
            for name, value in whole.state_dict.items()
        )
        yield equal(f"{its.size.lanes} trainings that take turns, each", same)
        took = f"{1e3 * seconds / (its.size.images / config.batch_size):.3g} ms"
        yield Line(f"a step of it, of one of {its.size.lanes} that take turns", took)


def speeds(its: Setting) -> Iterator[Line]:
    """Points a second, as shares of products and copies of the same device; a Hessian product."""
    torch.manual_seed(0)
    for name, build in list(NETWORKS.items())[: its.size.networks]:
        model, examples, along = untrained(build, its.size.widths, its.size.fast)
        options: Any = {"device": its.device, "sparse": "off"}
        written = activations(model, torch.randn(2, 3, 32, 32))
        for dtype in its.dtypes:
            engine = Engine(model, {"test": examples}, classification, along, dtype=dtype, **options)
            seconds = its.seconds(lambda one=engine: one.evaluate(POINTS[1]))  # type: ignore[misc]
            rate = engine.about["flops_per_example"] * its.size.fast / seconds
            moved = 2 * written * (2 if dtype == "bfloat16" else 4) * its.size.fast / seconds
            yield Line(
                f"a point of {name}, {its.size.fast} images, {dtype}, {engine.about['batch_size']} at once",
                f"{its.size.fast / seconds:.4g} images/s; {rate / 1e12:.3g} TFLOP/s, "
                f"{rate / its.ceilings[dtype]:.1%} of products; layers' outputs, written and read once, "
                f"{moved / its.ceilings['copies']:.1%} of copies",
            )
    model, examples, _ = shipped(its, its.size.products)
    operator = HessianOperator(model, examples, device=str(its.device))
    vector = torch.ones(operator.size, device=its.device)
    seconds = its.seconds(lambda: operator.multiply(vector))
    yield Line(f"a Hessian product of ResNet-20, {its.size.products} images", f"{1e3 * seconds:.3g} ms")


def marked(its: Setting) -> Iterator[Line]:
    """The tests that need a GPU."""
    if not its.cuda:
        yield Line("pytest -m gpu", "no GPU here, so no such tests")
        return
    files = [
        str(path)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "pytest.mark.gpu" in path.read_text("utf-8")
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
    left = max(1.0, its.until - time.monotonic())
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=left, check=False)
    except subprocess.TimeoutExpired:
        yield Line("pytest -m gpu", f"not done within {left:.0f} s", "passed", False)
        return
    said = (ran.stdout.strip() or ran.stderr.strip() or "nothing").splitlines()[-1].strip("= ")
    if ran.returncode == 1 and "No module named pytest" in said:
        raise NotLookedAtError(said)
    else:
        yield Line("pytest -m gpu", said, "passed", ran.returncode == 0)


def batches(its: Setting) -> Iterator[Line]:
    """Points of ResNet-20 by the size of batches, with convolutions fused and not."""
    network, types = untrained(resnet20, its.size.widths, its.size.fast), (its.dtypes[0], its.dtypes[-1])
    for what, found in by_batches(*network, its.device, types, its.seconds):
        yield Line(f"a point of ResNet-20, {its.size.fast} images, {what}", found)
        if time.monotonic() > its.until:
            return


def waiting(its: Setting) -> Iterator[Line]:
    """A loss that makes the host wait: never captured, the same numbers, and nothing broken afterwards."""
    model, examples, along = shipped(its, its.size.products)

    def waits(module: Any, batch: Any) -> LossResult:
        values, count, *_ = classification(module, batch)
        return values + 0.0 * values.sum().item(), count

    found = []
    for loss in (classification, waits, classification):
        engine = Engine(model, {"test": examples}, loss, along, device=its.device, sparse="off")
        found.append((losses(engine, POINTS[:2]), engine.about["cuda_graph"]))
    (usual, before), (waited, graph), (after, again) = found
    if its.cuda:
        said = str(graph).startswith("no:") and "synchroniz" in str(graph)
        yield Line("a loss that waits is no CUDA graph", str(graph), "no: … synchronizing …", said)
        yield Line("graphs before and after it", f"{before}, {again}", "True, True", before is again is True)
    yield within(
        "losses of one that waits, against the usual", float(np.abs(np.divide(waited, usual) - 1).max()), 1e-5
    )
    yield equal("the usual loss after it", usual == after)


STEPS: dict[str, Callable[[Setting], Iterator[Line]]] = {
    "ceilings": ceilings,
    "surfaces": surfaces,
    "Hessian": hessian,
    "training": trainings,
    "speeds": speeds,
    "tests": marked,
    "batches": batches,
    "a loss that waits": waiting,
}


class NotLookedAtError(Exception):
    """Why a step could not be done here."""


class Watch:
    """Keeps a training's records, and stops it after so many epochs as Ctrl-C does."""

    def __init__(self, epochs: int) -> None:
        self.left, self.records = epochs, list[dict[str, Any]]()

    def begin(self, epochs: int, done: int) -> None: ...

    def saved(self, epochs: int, step: int) -> None: ...

    def note(self, text: str) -> None: ...

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        if not self.left:
            raise KeyboardInterrupt

    def epoch(self, record: dict[str, Any]) -> None:
        self.left -= 1
        self.records.append(record)


def shipped(its: Setting, count: int) -> tuple[nn.Module, Examples, list[dict[str, Tensor]]]:
    """A trained sparse ResNet-20, images of the sample, and a plane; where all is tiny, a narrow network."""
    loaded = landscape.load_checkpoint(SHIPPED, architectures=ARCHITECTURES)
    data = load_data("sample", examples=count, stored=loaded.data, num_classes=10)
    model = loaded.model if its.size.widths is None else made(resnet20(widths=its.size.widths))
    return model, Examples.from_images(data.inputs, data.targets, data.mean, data.std), drawn(model)


def losses(engine: Engine, points: Sequence[tuple[float, float]]) -> list[float]:
    """Mean losses at some points."""
    return [engine.evaluate(point)["test"].mean("loss") for point in points]


def within(what: str, off: float, bound: float | None) -> Line:
    """A largest relative difference."""
    found = f"largest relative difference {off:.1e}"
    return Line(what, found) if bound is None else Line(what, found, f"≤ {bound:.0e}", off <= bound)


def equal(what: str, same: bool) -> Line:
    """Whether two results have the same bits."""
    return Line(what, "equal bits" if same else "other bits", "equal bits", same)


def looked_at(its: Setting, name: str) -> list[Line]:
    """The lines of a step; an error is one of them."""
    found: list[Line] = []
    if time.monotonic() > its.until:
        return [Line(name, "not begun: the time was over", "done")]
    try:
        for line in STEPS[name](its):
            found.append(line)
            print(shown(line), flush=True)
        return found
    except NotLookedAtError as reason:
        last = Line(name, f"not looked at: {reason}", "done")
    except Exception as error:
        text = (str(error).strip().splitlines() or [""])[0][:200]
        last = Line(name, f"{type(error).__name__}: {text}", "done", False)
    print(shown(last), flush=True)
    return [*found, last]


def shown(line: Line) -> str:
    """One line of the terminal."""
    return f"{_mark(line):8} {line.what}: {line.found}" + (f" (wanted: {line.wanted})" if line.wanted else "")


def _mark(line: Line) -> str:
    return {True: "right", False: "WRONG", None: "missing" if line.wanted else ""}[line.right]


def verdict(lines: Sequence[Line], done: bool) -> tuple[str, int]:
    """In words, and as an exit code."""
    wrong = sum(line.right is False for line in lines)
    missing = sum(line.right is None and bool(line.wanted) for line in lines)
    if wrong:
        return f"{wrong} of {sum(bool(line.wanted) for line in lines)} are wrong", 1
    if missing or not done:
        return "nothing wrong, but not everything was looked at", 3
    return "all right", 0


def page(its: Setting, command: str, lines: Sequence[Line], seconds: float, said: str) -> str:
    """The file of results."""
    name = torch.cuda.get_device_name(its.device) if its.cuda else f"CPU ({platform.machine()})"
    versions = {
        "torch": str(torch.__version__),
        "CUDA": torch.version.cuda if its.cuda else None,
        "cuDNN": torch.backends.cudnn.version() if its.cuda else None,
        "Python": platform.python_version(),
        "sharpscape": sharpscape.version(),
    }
    kept = ", ".join(f"{key} {value}" for key, value in versions.items() if value is not None)
    memory = f"; most memory {torch.cuda.max_memory_allocated(its.device) / 1e9:.3g} GB" if its.cuda else ""
    rows = [
        f"| {_mark(one)} | {one.what} | {one.found} | {one.wanted} |".replace("|  |", "| |") for one in lines
    ]
    head = [
        f"# `{command}`",
        "",
        f"{name}; {kept}; {seconds:.0f} s{memory}. Verdict: {said}.",
        "",
        "| | what | found | wanted |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *rows, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Do every step; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--tiny", action="store_true", help="as little of everything as shows that it runs")
    parser.add_argument("--output", type=Path, default=Path("gpu-check.md"), help="the file of results")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no step begins after these")
    told = parser.parse_args(arguments)
    try:
        device = torch.device(choose_device(told.device))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if told.tiny:
        torch.set_num_threads(1)
    began = time.monotonic()
    its = Setting(device, TINY if told.tiny else Size(), began + told.seconds)
    command = " ".join(["gpu_check.py", f"--device {device}", *(["--tiny"] if told.tiny else [])])
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
        faulthandler.dump_traceback_later(told.seconds + _GRACE, exit=True)
    lines: list[Line] = []
    for number, name in enumerate(STEPS, 1):
        lines += looked_at(its, name)
        said, code = verdict(lines, number == len(STEPS))
        with atomic_path(told.output) as temporary:
            temporary.write_text(page(its, command, lines, time.monotonic() - began, said), encoding="utf-8")
    faulthandler.cancel_dump_traceback_later()
    print(f"verdict: {said}; {told.output}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
