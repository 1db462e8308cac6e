"""Claim: on a CPU the cost of a sparse network's surface and training falls with its density.

Networks with random ERK masks, as after initialization; the dense contestant is our own engine (folded and
fused, as it sets itself up without kernels) for surfaces, and PyTorch channels-last and contiguous, the
faster in each turn, for training steps. All take turns in one process; printed are medians over the turns,
and the median of the ratios turn by turn. "left" is the kept share of the multiplications. On a machine
that others use, too, threads wait for each other: with ``--threads 1 --processor-time`` seconds are those
that the process was given.

    python tests/benchmarks/bench_sparse.py surface
    python tests/benchmarks/bench_sparse.py step --network resnet20 --batch-size 64 128
    python tests/benchmarks/bench_sparse.py surface --network resnet20 --sparsity 0.1 0.3 0.5   # break-even
    python tests/benchmarks/bench_sparse.py steps     # the first 50 losses, dense and sparse
    python tests/benchmarks/bench_sparse.py memory    # of a training step, each in a process of its own

With AVX2 only, on a processor that has more:

    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 SHARPSCAPE_SPARSE_CPU=x86-64-v3 python ...
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from landscape.engine import Engine
from landscape.examples import Examples
from landscape.losses import classification
from landscape.sparse.batch import SparseTraining
from landscape.sparse.choice import density
from landscape.sparse.machine import host
from landscape.sparse.trace import trace
from landscape.threads import one_thread
from training.models import build_model
from training.sparsity import METHODS

SPARSITIES = [0.8, 0.9, 0.95, 0.98, 0.99]


def network(name: str, sparsity: float) -> tuple[nn.Module, dict[str, Tensor]]:
    """With running statistics of noise, and an ERK mask."""
    torch.manual_seed(0)
    model = build_model(name)
    mask: dict[str, Tensor] = {}
    if sparsity:
        method = METHODS["random"](sparsity=sparsity, distribution="erk")
        mask = method.init_mask(model, None, torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    with torch.no_grad():
        for key, part in mask.items():
            model.get_parameter(key).mul_(part)
        for _ in range(3):
            model(torch.randn(32, 3, 32, 32))
    return model, mask


def images(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, 32, 32), torch.randint(0, 10, (count,))


def in_turn(
    contestants: Mapping[str, Callable[[], object]], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of each, one after the other; the first turn is for warming up.

    Each runs once untimed before it is timed, as in a loop of its own: after a dense step PyTorch's threads
    look for more work for some milliseconds, on the cores of the one that comes next.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    clock = time.process_time if options.processor_time else time.perf_counter
    for _ in range(options.turns + 1):
        for name, run in contestants.items():
            run()
            began = clock()
            run()
            times[name].append(clock() - began)
    return {name: values[1:] for name, values in times.items()}


def inside(model: nn.Module, mask: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Two directions that leave pruned weights at zero."""
    return [
        {
            name: torch.randn_like(one) * one.std().nan_to_num() * mask.get(name, torch.ones(()))
            for name, one in model.named_parameters()
        }
        for _ in range(2)
    ]


def surface(name: str, sparsity: float, options: argparse.Namespace) -> None:
    model, mask = network(name, sparsity)
    along, data = inside(model.eval(), mask), {"test": Examples.from_tensors(*images(options.examples))}
    dense, sparse = (Engine(model, data, classification, along, sparse=choice) for choice in ("off", "on"))
    auto = Engine(model, data, classification, along)
    values = [one.evaluate((0.1, -0.05))["test"].mean("loss") for one in (dense, sparse)]
    times = in_turn(
        {
            name: lambda one=one: one.evaluate((0.1, -0.05))
            for name, one in (("dense", dense), ("sparse", sparse))
        },
        options,
    )
    ratios = [slow / fast for slow, fast in zip(times["dense"], times["sparse"], strict=True)]
    left = sparse.about["sparse"]["density"]
    per = [1e3 * statistics.median(times[name]) / options.examples for name in ("dense", "sparse")]
    print(
        f"{name:14} {sparsity:8.0%} {left:6.1%} {per[0]:9.4f} {per[1]:9.4f} {statistics.median(ratios):7.2f} "
        f"{min(times['dense']) / min(times['sparse']):7.2f} {abs(values[1] / values[0] - 1):9.1e} "
        f"{'sparse' if auto.about['sparse'] else 'dense':>7}",
        flush=True,
    )


def step(name: str, sparsity: float, options: argparse.Namespace) -> None:
    for size in options.batch_size:
        one_step(name, sparsity, size, options)


def one_step(name: str, sparsity: float, size: int, options: argparse.Namespace) -> None:
    model, mask = network(name, sparsity)
    x, y = images(size)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    x_last = x.contiguous(memory_format=torch.channels_last)
    plain = copy.deepcopy(model)
    net = SparseTraining(model, mask, x[:1], host(), threads=options.threads)

    def once(model: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> None:
        model.zero_grad()
        F.cross_entropy(run(x), y).backward()

    def kept() -> None:
        with one_thread():  # as training does: the kernels' threads have the cores
            once(model, net, x)

    times = in_turn(
        {
            "channels last": lambda: once(last, last, x_last),
            "contiguous": lambda: once(plain, plain, x),
            "sparse": kept,
        },
        options,
    )
    dense = [min(pair) for pair in zip(times["channels last"], times["contiguous"], strict=True)]
    ratios = [slow / fast for slow, fast in zip(dense, times["sparse"], strict=True)]
    left = density(trace(model, x[:1]), mask)
    print(
        f"{name:14} {sparsity:8.0%} {left:6.1%} {size:5d} "
        + " ".join(f"{1e3 * statistics.median(one):9.1f}" for one in times.values())
        + f" {statistics.median(ratios):7.2f} {min(dense) / min(times['sparse']):7.2f}",
        flush=True,
    )


def steps(name: str, sparsity: float, options: argparse.Namespace) -> None:
    """Largest difference of the losses of the first 50 steps, warm-up and momentum as in training.

    Rounding grows from step to step: the same in float64 says whose is larger.
    """
    dense, sparse, exact = (fifty(name, sparsity, kind) for kind in ("dense", "sparse", "float64"))
    apart = [
        max(abs(a - b) for a, b in zip(*pair, strict=True))
        for pair in ((dense, sparse), (dense, exact), (sparse, exact))
    ]
    print(
        f"{name:14} {sparsity:8.0%} losses {exact[0]:.5f} to {exact[-1]:.5f}; dense and sparse differ by "
        f"{apart[0]:.1e}, from float64 by {apart[1]:.1e} and {apart[2]:.1e}"
    )


def fifty(name: str, sparsity: float, kind: str) -> list[float]:
    """Losses of the first 50 steps."""
    model, mask = network(name, sparsity)
    x, y = images(640)
    if kind == "float64":
        model, x = model.double(), x.double()
    elif kind == "dense":
        model = model.to(memory_format=torch.channels_last)
    run = SparseTraining(model, mask, x[:1], host()) if kind == "sparse" else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    found = []
    for number in range(50):
        optimizer.param_groups[0]["lr"] = 0.1 * (number + 1) / 400
        part = torch.arange(number * 64, number * 64 + 64) % 640
        optimizer.zero_grad()
        loss = F.cross_entropy(run(x[part]), y[part])
        loss.backward()
        for key, kept in mask.items():
            model.get_parameter(key).grad.mul_(kept)
        optimizer.step()
        found.append(loss.item())
    return found


def memory(name: str, sparsity: float, options: argparse.Namespace) -> None:
    """Largest resident set of some steps, less that before them."""
    for size in options.batch_size:
        found = []
        for kind in ("dense", "sparse"):
            command = [sys.executable, __file__, "one-memory", "--network", name, "--sparsity", str(sparsity)]
            command += ["--batch-size", str(size), "--kind", kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(float(done.stdout))
        print(f"{name:14} {sparsity:8.0%} batch {size}: dense {found[0]:.0f} MB, sparse {found[1]:.0f} MB")


def one_memory(name: str, sparsity: float, options: argparse.Namespace) -> None:
    model, mask = network(name, sparsity)
    x, y = images(options.batch_size[0])
    run: Callable[[Tensor], Tensor] = model
    if options.kind == "sparse":
        run = SparseTraining(model, mask, x[:1], host())
    else:
        model, x = (
            model.to(memory_format=torch.channels_last),
            x.contiguous(memory_format=torch.channels_last),
        )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        model.zero_grad()
        F.cross_entropy(run(x), y).backward()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)


TITLES = {
    "surface": f"{'network':14} {'sparsity':>8} {'left':>6} {'dense ms':>9} {'sparse ms':>9} {'ratio':>7} "
    f"{'fastest':>7} {'rel.diff.':>9} {'auto':>7}   per example",
    "step": f"{'network':14} {'sparsity':>8} {'left':>6} {'batch':>5} {'last ms':>9} {'cont. ms':>9} "
    f"{'sparse ms':>9} {'ratio':>7} {'fastest':>7}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["surface", "step", "steps", "memory", "one-memory"])
    parser.add_argument("--network", nargs="+", default=["resnet20"])
    parser.add_argument("--sparsity", type=float, nargs="+", default=SPARSITIES)
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--processor-time", action="store_true", help="not the time of the clock on the wall")
    parser.add_argument("--kind", default="sparse")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    run = {"surface": surface, "step": step, "steps": steps, "memory": memory, "one-memory": one_memory}
    if options.what != "one-memory":
        print(
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, {host().cpu}, "
            f"{host().vector_bytes * 8} bits, {torch.backends.cpu.get_cpu_capability()}"
        )
        print(TITLES.get(options.what, ""))
    for name in options.network:
        for sparsity in options.sparsity:
            run[options.what](name, sparsity, options)


if __name__ == "__main__":
    main()
