"""The engine against the plain loop that a competent user writes, and against a matrix product.

Both evaluate the same points on the same examples in turn, in one process: tensors in memory, evaluation and
inference mode, batches of 256, weights copied in for the loop; the engine as it sets itself up. Beside them,
in the same turns, a 1024 × 1024 × 1024 float32 matrix product. The rate of the engine counts two operations
per multiply-add of convolutions and linear layers.

    python tests/benchmarks/bench_engine.py
    python tests/benchmarks/bench_engine.py --network vgg19 --examples 250 --rounds 5
"""

from __future__ import annotations

import argparse
import copy
import statistics
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
from training.models.cifar_resnet import resnet20, resnet32_wide
from training.models.vgg import vgg19

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": resnet20,
    "resnet32_wide": resnet32_wide,
    "vgg19": vgg19,
}
SIDE = 1024


def network(name: str) -> nn.Module:
    """With running statistics as after training: those of the data's own activations."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(32, 3, 32, 32))
    return model.eval()


def directions(model: nn.Module) -> list[dict[str, Tensor]]:
    """Two Gaussian ones of the size of each tensor."""
    return [
        {name: torch.randn_like(one) * one.std().nan_to_num() for name, one in model.named_parameters()}
        for _ in range(2)
    ]


class PlainLoop:
    """What a competent user writes."""

    def __init__(
        self, model: nn.Module, along: list[dict[str, Tensor]], inputs: Tensor, labels: Tensor
    ) -> None:
        self.model = copy.deepcopy(model).eval()
        self.start = {name: one.detach().clone() for name, one in self.model.named_parameters()}
        self.along, self.inputs, self.labels = along, inputs, labels

    @torch.inference_mode()
    def evaluate(self, alpha: float, beta: float) -> tuple[float, float]:
        first, second = self.along
        for name, param in self.model.named_parameters():
            param.copy_(self.start[name] + alpha * first[name] + beta * second[name])
        loss = correct = 0.0
        for x, y in zip(self.inputs.split(256), self.labels.split(256), strict=True):
            scores = self.model(x)
            loss += F.cross_entropy(scores, y, reduction="sum").item()
            correct += (scores.argmax(1) == y).sum().item()
        return loss / len(self.labels), correct / len(self.labels)


def in_turn(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, one after the other, `rounds` times."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return times


def compare(name: str, count: int, rounds: int) -> None:
    model = network(name)
    along = directions(model)
    inputs, labels = torch.randn(count, 3, 32, 32), torch.randint(0, 10, (count,))
    plain = PlainLoop(model, along, inputs, labels)
    engine = Engine(model, {"test": Examples.from_tensors(inputs, labels)}, classification, along)
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    points = [(0.0, 0.0), (0.1, -0.05), (-0.2, 0.15)]
    worst = 0.0
    for point in points:
        expected = plain.evaluate(*point)[0]
        worst = max(worst, abs(engine.evaluate(point)["test"].mean("loss") / expected - 1))
    times = in_turn(
        {
            "plain": lambda: plain.evaluate(*points[1]),
            "engine": lambda: engine.evaluate(points[1]),
            "product": lambda: [torch.mm(a, b) for _ in range(5)],
        },
        rounds,
    )
    flops = engine.about["flops_per_example"] * count
    ratios = [slow / fast for slow, fast in zip(times["plain"], times["engine"], strict=True)]
    product = 5 * 2 * SIDE**3
    shares = [
        flops / mine * other / product for mine, other in zip(times["engine"], times["product"], strict=True)
    ]
    best = flops / min(times["engine"]) * min(times["product"]) / product
    print(
        f"{name:14} {engine.about['batch_size']:5d} "
        f"{1e3 * statistics.median(times['plain']) / count:9.3f} "
        f"{1e3 * statistics.median(times['engine']) / count:9.3f} "
        f"{statistics.median(ratios):7.2f} {min(times['plain']) / min(times['engine']):7.2f} "
        f"{flops / statistics.median(times['engine']) / 1e9:8.1f} "
        f"{product / statistics.median(times['product']) / 1e9:8.1f} "
        f"{statistics.median(shares):7.0%} {best:7.0%} {worst:9.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=["resnet20", "resnet32_wide"])
    parser.add_argument("--examples", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.examples} examples, float32"
    )
    print("plain, engine: median ms per example; ratio and share: median over the turns, then of the fastest")
    print(
        f"{'network':14} {'batch':>5} {'plain':>9} {'engine':>9} {'ratio':>7} {'fastest':>7} "
        f"{'GFLOP/s':>8} {'product':>8} {'share':>7} {'fastest':>7} {'rel.diff.':>9}"
    )
    for name in options.network:
        compare(name, options.examples, options.rounds)


if __name__ == "__main__":
    main()
