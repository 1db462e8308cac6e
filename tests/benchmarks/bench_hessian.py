"""Top eigenvalues and trace of a network's Hessian: ours and three rivals, in turn, in one process.

Each gets the same network in evaluation mode, the same examples as one batch in memory (ours cuts them
itself), and the threads that torch has. All are asked for the top eigenvalues to a residual of 1e-3 times the
largest and for the trace to a standard error of 5 %:

- sharpscape: one call, which stops by itself.
- PyHessian: its power iteration and its Hutchinson trace with their defaults, which stop by themselves; on
  one batch it keeps the gradient's graph.
- hessian-eigenthings: Lanczos and Hutch++, whose numbers of products must be given. Given the smallest of the
  tried numbers at which it is right; only that run counts, and the default run is shown beside it.
- curvlinops: scipy's eigsh with tol=1e-3 on its operator, and its Hutch++ with as many products as
  hessian-eigenthings needed, since it states no error.

Residuals are recomputed for everybody, in float32 by our operator, and aren't counted.

    python tests/benchmarks/bench_hessian.py
    python tests/benchmarks/bench_hessian.py --checkpoint net.pt --data npz:cifar10.npz --only sharpscape

A "gradient" in what is printed is PyTorch's plain one of all examples in one batch. `--ratios 15` compares a
product of ours instead with that, with PyTorch's in the batches that ours chose, and with our own fastest
gradient (of `analysis.sharpness`), in turn and in processor time: medians of 15 turns.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from analysis.hessian.lanczos import Wanted
from analysis.hessian.operator import HessianOperator
from analysis.hessian.spectrum_run import Plan, SpectrumRun
from analysis.sharpness.objective import Objective
from landscape.checkpoint import load_checkpoint
from landscape.data import load_data
from training.models import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "examples" / "checkpoints" / "resnet20-cifar10-erk90.pt"
RESIDUAL = 1e-3
STANDARD_ERROR = 0.05
LANCZOS_STEPS = (15, 20, 25, 30, 40, 50, 70, 100)
HUTCH_PRODUCTS = (9, 15, 30, 60, 99, 198)


@dataclass
class Outcome:
    """What one method gave.

    Attributes
    ----------
    values, vectors
        Eigenvalues ``[k]`` and unit vectors ``[k, n]``.
    claimed
        What the method itself says converged; "" where it says nothing.
    trace, stderr
        NaN where it gives no error.
    products, seconds
        For the eigenvalues, and for the trace.
    """

    values: np.ndarray
    vectors: np.ndarray
    claimed: str
    trace: float
    stderr: float
    products: tuple[int, int]
    seconds: tuple[float, float]


class Counter:
    """Counts the vectors that a rival's function multiplies."""

    def __init__(self, function: Callable[..., Any], columns: Callable[..., int]) -> None:
        self.function, self.columns, self.count = function, columns, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += self.columns(*args)
        return self.function(*args, **kwargs)


class Timer:
    """Products and seconds since the last time it was asked."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.count, self.done, self.began = count, count(), time.perf_counter()

    def lap(self) -> tuple[int, float]:
        """Since the last lap."""
        now, done = time.perf_counter(), self.count()
        found = done - self.done, now - self.began
        self.done, self.began = done, now
        return found


def sharpscape(model: nn.Module, inputs: Tensor, targets: Tensor, top: int) -> Outcome:
    """The run that `hessian_spectrum` makes, timed by phase; setting up the operator counts as well."""
    began = time.perf_counter()
    operator = HessianOperator(model, (inputs, targets))
    run = SpectrumRun(
        operator, Plan(Wanted(top, 0, RESIDUAL), trace_tolerance=STANDARD_ERROR, density_probes=0)
    )
    while run.phase == "eigenvalues":
        run.advance()
    pairs, products, searched = run.search.pairs()[0], run.products, time.perf_counter() - began
    while not run.done:
        run.advance()
    trace = run.probing.trace()
    return Outcome(
        pairs.values,
        pairs.vectors.numpy(),
        f"{int(pairs.converged.sum())} of {top}",
        trace.value,
        trace.stderr,
        (products, run.products - products),
        (searched, time.perf_counter() - began - searched),
    )


def pyhessian(model: nn.Module, inputs: Tensor, targets: Tensor, top: int) -> Outcome:
    """Power iteration with deflation; its defaults but for the number of eigenvalues."""
    import pyhessian

    module = sys.modules["pyhessian.hessian"]  # the package has a class of the same name
    with counted(module, "hessian_vector_product", lambda *_: 1) as counter:
        timer = Timer(lambda: counter.count)
        found = pyhessian.hessian(model, F.cross_entropy, data=(inputs, targets), cuda=False)
        values, vectors = found.eigenvalues(top_n=top)
        products, seconds = timer.lap()
        samples = found.trace()
        trace_products, trace_seconds = timer.lap()
    for one in model.parameters():
        one.grad = None  # it holds the graph
    flat = np.stack([torch.cat([part.reshape(-1) for part in one]).detach().numpy() for one in vectors])
    return Outcome(
        np.array(values),
        flat,
        "",
        float(np.mean(samples)),
        float(np.std(samples, ddof=1) / np.sqrt(len(samples))) if len(samples) > 1 else float("nan"),
        (products, trace_products),
        (seconds, trace_seconds),
    )


def eigenthings(
    model: nn.Module, inputs: Tensor, targets: Tensor, top: int, steps: int | None = None
) -> Outcome:
    """Lanczos with the least steps at which every residual is within the tolerance; None tries them."""
    from hessian_eigenthings import HessianOperator as Operator
    from hessian_eigenthings import lanczos, supervised_loss
    from hessian_eigenthings.algorithms.trace import hutch_plus_plus

    operator = Operator(model, [(inputs, targets)], supervised_loss(F.cross_entropy))
    counter = Counter(operator.matvec, lambda *_: 1)
    operator.matvec = counter  # type: ignore[method-assign]
    for count in LANCZOS_STEPS if steps is None else (steps,):
        timer = Timer(lambda: counter.count)
        found = lanczos(operator, k=top, max_iter=count, which="LA", tol=RESIDUAL, seed=0)
        products, seconds = timer.lap()
        if float(found.residuals.max()) <= RESIDUAL * float(found.eigenvalues.abs().max()):
            break
    for count in HUTCH_PRODUCTS:
        timer = Timer(lambda: counter.count)
        trace = hutch_plus_plus(operator, num_matvecs=count, seed=0)
        trace_products, trace_seconds = timer.lap()
        if steps is not None or trace.stderr <= STANDARD_ERROR * abs(trace.estimate):
            break
    return Outcome(
        found.eigenvalues.numpy(),
        found.eigenvectors.numpy(),
        f"{int(found.converged.sum())} of {top}",
        trace.estimate,
        trace.stderr,
        (products, trace_products),
        (seconds, trace_seconds),
    )


def curvlinops(model: nn.Module, inputs: Tensor, targets: Tensor, top: int, traced: int = 30) -> Outcome:
    """Restarted Lanczos on its operator."""
    from curvlinops import HessianLinearOperator, hutchpp_trace
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    counter = Counter(HessianLinearOperator._matmat, lambda _, columns: columns[0].shape[-1])

    class Counted(HessianLinearOperator):
        def _matmat(self, columns: list[Tensor]) -> list[Tensor]:
            return counter(self, columns)  # type: ignore[no-any-return]

    params = list(model.parameters())
    operator = Counted(model, nn.CrossEntropyLoss(), params, [(inputs, targets)], check_deterministic=False)
    timer, claimed = Timer(lambda: counter.count), f"{top} of {top}"
    start = np.random.default_rng(0).standard_normal(operator.shape[0]).astype(np.float32)
    try:
        values, vectors = eigsh(operator.to_scipy(), k=top, which="LA", tol=RESIDUAL, v0=start)
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
        claimed = f"{len(values)} of {top}"
    products, seconds = timer.lap()
    trace = float(hutchpp_trace(operator, traced))
    trace_products, trace_seconds = timer.lap()
    return Outcome(
        values[::-1].copy(),
        vectors.T[::-1].copy(),
        claimed,
        trace,
        float("nan"),
        (products, trace_products),
        (seconds, trace_seconds),
    )


METHODS: dict[str, Callable[..., Outcome]] = {
    "sharpscape": sharpscape,
    "pyhessian": pyhessian,
    "hessian-eigenthings": eigenthings,
    "curvlinops": curvlinops,
}


@contextlib.contextmanager
def counted(module: Any, name: str, columns: Callable[..., int]) -> Iterator[Counter]:
    """Count the calls of a module's function, for the length of the block."""
    original = getattr(module, name)
    counter = Counter(original, columns)
    setattr(module, name, counter)
    try:
        yield counter
    finally:
        setattr(module, name, original)


def gradient_seconds(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """A plain gradient, all examples in one batch: the best of three."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        torch.autograd.grad(F.cross_entropy(model(inputs), targets), list(model.parameters()))
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def ratios(model: nn.Module, inputs: Tensor, targets: Tensor, turns: int) -> str:
    """What a product costs in gradients, by whose gradient it is; the first turn only warms up."""
    operator = HessianOperator(model, (inputs, targets))
    anew = HessianOperator(model, (inputs, targets), memory=0)  # builds every graph in every product
    objective = Objective(model, (inputs, targets))
    vector = torch.randn(operator.size, generator=torch.Generator().manual_seed(0))
    params = list(model.parameters())

    def plain(batch: int) -> None:
        for part, true in zip(inputs.split(batch), targets.split(batch), strict=True):
            torch.autograd.grad(F.cross_entropy(model(part), true, reduction="sum"), params)

    works: dict[str, Callable[[], object]] = {
        "product": lambda: operator.multiply(vector),
        "product, graphs built anew": lambda: anew.multiply(vector),
        "PyTorch's gradient, one batch": lambda: plain(len(targets)),
        f"PyTorch's gradient, batches of {objective.batch_size}": lambda: plain(objective.batch_size),
        "our gradient": objective.gradient,
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns + 1):
        for name, work in works.items():
            began = time.process_time()
            work()
            seconds[name].append(time.process_time() - began)
    lines = []
    for name, spent in seconds.items():
        shares = np.array(seconds["product"][1:]) / np.array(spent[1:])
        low, middle, high = np.percentile(shares, [10, 50, 90])
        one = f"{name}: {np.median(spent[1:]):.2f} s; a product costs {middle:.2f} of it"
        lines.append(f"{one} (80 % of the turns: {low:.2f} to {high:.2f})")
    return "\n".join(lines)


def describe(name: str, found: Outcome, reference: HessianOperator, gradient: float) -> str:
    """Values, true residuals, and what they cost."""
    vectors = np.atleast_2d(found.vectors)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    images = reference.matmat(vectors.T.astype(np.float32)).T
    residuals = np.linalg.norm(images - found.values[:, None] * vectors, axis=1)
    scale = float(np.abs(found.values).max())
    pairs = ", ".join(f"{v:.5g} ({r / scale:.0e})" for v, r in zip(found.values, residuals, strict=True))
    right = int((residuals <= 1.05 * RESIDUAL * scale).sum())
    products, seconds = sum(found.products), sum(found.seconds)
    each = seconds / max(products, 1)
    return "\n".join(
        [
            f"{name}",
            f"  eigenvalues (residual/largest): {pairs}",
            f"  within tolerance {right} of {len(found.values)}, it says {found.claimed or 'nothing'}",
            f"  trace {found.trace:.5g}, standard error {100 * found.stderr / abs(found.trace):.1f} %",
            f"  products {found.products[0]} + {found.products[1]} = {products}",
            f"  seconds {found.seconds[0]:.1f} + {found.seconds[1]:.1f} = {seconds:.1f}; "
            f"{each:.2f} per product = {each / gradient:.2f} gradients of {gradient:.2f}",
        ]
    )


def main() -> None:
    """Run them in turn and print what each gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--ratios", type=int, metavar="TURNS", help="only what a product costs in gradients")
    parser.add_argument(
        "--wrong-default", action="store_true", help="also hessian-eigenthings' default steps"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    loaded = load_checkpoint(options.checkpoint, architectures=ARCHITECTURES)
    data = load_data(options.data, split="train", examples=options.examples, stored=loaded.data)
    inputs, targets, model = data.normalized(), data.targets, loaded.model.eval()
    print(f"{loaded.how}; {data.how}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    if options.ratios:
        print(ratios(model, inputs, targets, options.ratios))
        return
    reference = HessianOperator(model, (inputs, targets))
    methods = {name: METHODS[name] for name in options.only}
    if options.wrong_default:
        methods["hessian-eigenthings, default steps"] = lambda *given: eigenthings(
            *given, steps=2 * options.top
        )
    traced = 30
    for name, method in methods.items():
        gradient = gradient_seconds(model, inputs, targets)
        more = {"traced": traced - traced % 3} if name == "curvlinops" else {}
        with contextlib.redirect_stdout(io.StringIO()):
            found = method(model, inputs, targets, options.top, **more)
        if name == "hessian-eigenthings":
            traced = found.products[1]
        print(describe(name, found, reference, gradient), flush=True)


if __name__ == "__main__":
    main()
