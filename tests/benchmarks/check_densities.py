"""Kept fractions of every layer before training: ours beside those that Synaptic-Flow's authors published.

Theirs are three seeds of VGG-16 with batch norm for CIFAR-100, pruned by SNIP, GraSP, SynFlow, magnitude and
at random, in a table of the columns set, method, log10_compression, seed, module, size, kept. Ours are drawn
by seeds of our own, with the initialisation of their code (normal, fan-in; biases 0), in evaluation mode,
on 1,000 training images, global ranking over all convolutions and the linear layer. A layer agrees when a
t test on the seeds' logarithms tells no difference at 5 %, divided among the layers; a spread is at least
that of as many weights drawn at random.

    python tests/benchmarks/check_densities.py layer-densities.csv
    python tests/benchmarks/check_densities.py layer-densities.csv --methods snip --data npz:cifar100.npz

`--augment` shifts and mirrors the images, as Synaptic-Flow's loader does with the training split; their GraSP
numbers are those of `--temperature 1`, though its authors divide the logits by 200.
`--rounds 10` prunes SNIP and GraSP iteratively, on an exponential schedule, scoring anew in every round;
`--grasp authors` scores GraSP as its own authors do: batch statistics, a classifier drawn anew, balanced
images. `--record densities.csv` writes down what was computed as it comes, and takes from there what is
there already, so a long comparison can be stopped, and two be read from one file.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from training import masks
from training.data import Images, augment, generator_for, load_splits
from training.masks import Mask
from training.sparsity.grasp import GraSP, grasp_scores
from training.sparsity.magnitude import Magnitude
from training.sparsity.random import Random
from training.sparsity.scoring import batch_losses, scored_copy
from training.sparsity.shrinking import shrink
from training.sparsity.snip import snip_scores
from training.sparsity.synflow import SynFlow

SET = "vgg16_bn-cifar100"
STAGES = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
METHODS = ("random", "magnitude", "synflow", "snip", "grasp")
BATCH = 50  # in evaluation mode it decides nothing but memory
DOUBT = 0.05

Scores = dict[str, Tensor]


def vgg16_bn(num_classes: int, seed: int) -> nn.Sequential:
    """VGG-16 of biased convolutions with batch norm for 32×32 images, one linear layer, normal fan-in."""
    layers: list[nn.Module] = []
    channels = 3
    for number, stage in enumerate(STAGES):
        layers += [nn.MaxPool2d(2)] if number else []
        for width in stage:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
    model = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(channels, num_classes))
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model.eval()


def published(path: Path, method: str) -> dict[float, np.ndarray]:
    """Kept fractions ``[seed, layer]`` by log10 of the compression, the layers in the network's order."""
    found: dict[float, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["set"], row["method"]) == (SET, method):
                found[float(row["log10_compression"])][row["seed"]].append(float(row["kept"]))
    return {level: np.array(list(seeds.values())) for level, seeds in sorted(found.items())}


class Scorer:
    """Makes the masks of one seed's network.

    Attributes
    ----------
    rounds
        Of SNIP and GraSP.
    authors
        Whether GraSP is scored as its authors do, and not as Synaptic-Flow does.
    augmented, temperature
        Whether the images are shifted and mirrored, and what GraSP divides the logits by.
    """

    def __init__(self, data: Images | None, seed: int, classes: int, options: argparse.Namespace) -> None:
        self.data, self.seed, self.count = data, seed, options.images
        self.rounds, self.authors = options.rounds, options.grasp == "authors"
        self.augmented, self.temperature = options.augment, options.temperature
        self.model = vgg16_bn(classes, seed)

    def masks(self, method: str, levels: Sequence[float]) -> Iterator[Mask]:
        """One mask for each log10 of the compression."""
        if method not in ("snip", "grasp"):
            for level in levels:
                yield self._without_data(method, 1 - 10**-level)
            return
        if method == "grasp" and self.authors:
            for level in levels:
                yield GraSP(1 - 10**-level, keep_dense=()).init_mask(
                    self.model, self._images(), self._draws()
                )
            return
        first = self._scores(method, None)  # the same for all levels, and computed once
        for level in levels:
            mask: Mask = {name: torch.ones_like(one, dtype=torch.bool) for name, one in first.items()}
            for number in range(1, self.rounds + 1):
                scores = first if number == 1 else self._scores(method, mask)
                mask = shrink(mask, scores, 1 - 10 ** (-level * number / self.rounds))
            yield mask

    def _without_data(self, method: str, sparsity: float) -> Mask:
        if method == "random":
            chosen: Random | Magnitude | SynFlow = Random(sparsity, "uniform", keep_dense=())
        elif method == "magnitude":
            chosen = Magnitude(sparsity, begin=0, end=0, keep_dense=())
        else:
            chosen = SynFlow(sparsity, keep_dense=())
        return chosen.init_mask(self.model, Shape(), self._draws())

    def _scores(self, method: str, mask: Mask | None) -> Scores:
        """With batch norm's first statistics, of weights outside `mask` set to 0; the largest are kept."""
        images, labels = self._drawn()
        with scored_copy(self.model, self._draws(), training=False) as copied:
            masks.apply_to_weights(copied, mask or {})
            temperature = self.temperature if method == "grasp" else 1.0
            losses = batch_losses(copied, images, labels, BATCH, temperature)
            weights = masks.prunable(copied)
            if method == "snip":
                return snip_scores(weights, losses)
            return {name: -score for name, score in grasp_scores(weights, losses).items()}

    def _drawn(self) -> tuple[Tensor, Tensor]:
        """The same for all rounds; theirs shift and mirror them anew every time."""
        data, draws = self._images(), self._draws()
        if not self.augmented:
            return data.draw(self.count, draws)
        index = torch.randperm(len(data), generator=draws)[: self.count]
        return data.normalized(augment(data.pixels[index], draws)), data.labels[index]

    def _images(self) -> Images:
        if self.data is None:
            raise SystemExit("--data: SNIP and GraSP look at images of CIFAR-100")
        return self.data

    def _draws(self) -> torch.Generator:
        return generator_for(self.seed, "mask")


class Shape:
    """Images for methods that look at their shape alone."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Zeros."""
        return torch.zeros(count, 3, 32, 32), torch.zeros(count, dtype=torch.long)

    draw_balanced = draw


class Record:
    """Kept fractions that were computed, one line per layer, in a file that grows seed by seed.

    Without a file it keeps nothing.
    """

    COLUMNS = ("set", "method", "scoring", "rounds", "images", "log10_compression", "seed", "module", "size")

    def __init__(self, path: Path | None, options: argparse.Namespace) -> None:
        self.path, self.options = path, options
        self.found: dict[tuple[str, ...], dict[str, tuple[int, float]]] = defaultdict(dict)
        if path is not None and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    key = tuple(row[name] for name in self.COLUMNS[:-2])
                    self.found[key][row["module"]] = int(row["size"]), float(row["kept"])

    def key(self, method: str, level: float, seed: int) -> tuple[str, ...]:
        """What the numbers depend on."""
        looks = method in ("snip", "grasp")
        scoring = "augmented" if looks and self.options.augment else ""
        if method == "grasp" and self.options.temperature != 200:
            scoring = f"{scoring} temperature {self.options.temperature:g}".strip()
        scoring = "authors" if method == "grasp" and self.options.grasp == "authors" else scoring
        rounds = self.options.rounds if looks and scoring != "authors" else 100 if method == "synflow" else 1
        images = self.options.images if looks and scoring != "authors" else ""
        return SET, method, scoring, str(rounds), str(images), f"{level:g}", str(seed)

    def add(self, key: tuple[str, ...], layers: Mapping[str, tuple[int, float]]) -> None:
        """One mask's."""
        self.found[key] = dict(layers)
        if self.path is None:
            return
        fresh = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow([*self.COLUMNS, "kept"])
            writer.writerows([*key, name, size, f"{share:.7f}"] for name, (size, share) in layers.items())


def kept_of(mask: Mask) -> dict[str, tuple[int, float]]:
    """Size and kept fraction of every layer, by name."""
    return {
        name.removesuffix(".weight"): (part.numel(), float(part.double().mean()))
        for name, part in mask.items()
    }


def show(method: str, level: float, ours: np.ndarray, theirs: np.ndarray, layers: Mapping[str, int]) -> str:
    """Print layer by layer, and return the verdict in a line; `layers` are their names and sizes."""
    names, sizes = list(layers), list(layers.values())
    print(f"\n{method}, 10^-{level:g} kept: layer, theirs ± their spread, ours ± our spread, difference, t")
    logs = [np.log(np.maximum(one, 1e-9)) for one in (theirs, ours)]
    spread = np.sqrt(sum(one.var(axis=0, ddof=1) * (len(one) - 1) for one in logs) / _freedom(logs))
    share = theirs.mean(axis=0)
    least = np.sqrt((1 - share) / (share * np.array(sizes)))  # of drawn weights; three seeds may show less
    error = np.maximum(spread, least) * math.sqrt(sum(1 / len(one) for one in logs))
    t = np.abs(logs[1].mean(axis=0) - logs[0].mean(axis=0)) / error
    limit = stats.t.ppf(1 - DOUBT / len(names) / 2, _freedom(logs))
    off = ours.mean(axis=0) / theirs.mean(axis=0) - 1
    for at, name in enumerate(names):
        left, right = (f"{one[:, at].mean():.5f} ± {one[:, at].std(ddof=1):.5f}" for one in (theirs, ours))
        mark = " *" if t[at] > limit else ""
        print(f"  {name:10} {left}  {right}  {100 * off[at]:+6.2f} %  {t[at]:5.1f}{mark}")
    told = int((t > limit).sum())
    size = f"median {100 * np.median(abs(off)):.2f} %, at most {100 * abs(off).max():.2f} %"
    verdict = "agrees" if not told else f"differs in {told} of {len(names)} layers"
    return f"{method:10} 10^-{level:g}: {verdict}; {size} off; t at most {t.max():.1f} (limit {limit:.1f})"


def _freedom(logs: Sequence[np.ndarray]) -> int:
    return sum(len(one) - 1 for one in logs)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("reference", type=Path, help="the published table")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS[:3]))
    parser.add_argument("--levels", nargs="+", type=float, help="log10 of the compression; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--data", help="CIFAR-100, for SNIP and GraSP")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1, help="of SNIP and GraSP")
    parser.add_argument("--augment", action="store_true", help="shift and mirror the images")
    parser.add_argument("--temperature", type=float, default=200.0, help="of GraSP's logits")
    parser.add_argument("--grasp", choices=("as-published-here", "authors"), default="as-published-here")
    parser.add_argument("--record", type=Path, help="file of computed fractions, read and continued")
    options = parser.parse_args()
    if len(options.seeds) < 2:
        parser.error("two seeds at least: the spread is theirs and ours")
    data = load_splits(options.data, 0.0, 0, torch.device("cpu")).train if options.data else None
    record = Record(options.record, options)
    verdicts = []
    for method in options.methods:
        theirs = published(options.reference, method)
        levels = [level for level in theirs if not options.levels or level in options.levels]
        for seed in options.seeds:
            began = time.perf_counter()
            open_levels = [one for one in levels if record.key(method, one, seed) not in record.found]
            made = Scorer(data, seed, 100, options).masks(method, open_levels) if open_levels else ()
            for level, mask in zip(open_levels, made, strict=True):
                record.add(record.key(method, level, seed), kept_of(mask))
            print(f"{method}, seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
        for level in levels:
            found = [record.found[record.key(method, level, seed)] for seed in options.seeds]
            ours = np.array([[share for _, share in one.values()] for one in found])
            layers = {name: size for name, (size, _) in found[0].items()}
            verdicts.append(show(method, level, ours, theirs[level], layers))
    print("\n" + "\n".join(verdicts))


if __name__ == "__main__":
    main()
