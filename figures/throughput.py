"""Images per second that a benchmark measured, turn by turn: ``RESULTS/throughput/NAME.json``. No torch.

Written by ``tests/benchmarks/bench_optimizers.py --record``. A file holds the seconds themselves, so that
rates, ratios and their intervals are computed where they are shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from analysis.statistics.median import median_interval
from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.files.json_files import number_or_none, read_json, sealed

FORMAT, VERSION = "sharpscape.throughput", 1
FIRST = "sgd"  # what every other optimizer is compared with
_LARGEST = 10**15  # of a count
MAKE = "make it anew with tests/benchmarks/bench_optimizers.py --record"


@dataclass(frozen=True)
class Race:
    """Turns of several optimizers with one method, one after the other.

    Attributes
    ----------
    method, sparsity
        As runs are named; sparsity 0 for dense.
    kernels
        What the forward passes computed with: "dense", or "sparse" for kept weights only.
    seconds
        Of every turn, by optimizer; turn number k of one stands beside turn number k of the others.
    change_seconds
        Of two steps, one in which the mask changes and the next, for each turn; empty where it never does. No
        turn holds such a step.
    change_every
        Steps from one such step to the next; None where there is none.
    """

    method: str
    sparsity: float
    kernels: str
    seconds: Mapping[str, Sequence[float]]
    change_seconds: Sequence[float] = ()
    change_every: int | None = None

    def ratio(self, optimizer: str) -> tuple[float, float, float]:
        """Images per second over those of SGD in the same turn: median and its 95 % interval."""
        pairs = zip(self.seconds[FIRST], self.seconds[optimizer], strict=True)
        return median_interval([first / own for first, own in pairs])

    def change_ratio(self, steps: int) -> float:
        """What a step in which the mask changes takes, in other steps with SGD; `steps` make a turn.

        The step after it, which has new lists of weights to make, counts for what it takes beyond another.
        """
        return median(self.change_seconds) * steps / median(self.seconds[FIRST]) - 1


@dataclass(frozen=True)
class Throughput:
    """All races of one network on one machine.

    Attributes
    ----------
    network, side
        Name of the architecture, and pixels of its images by side.
    batch_size, steps
        Images in a step, and steps in a turn.
    precision, device, threads
        What computed.
    clock
        What the seconds are of: "processor" time, where others use the machine too, or "wall" clock.
    load
        Processes that wanted to run, before and after (the average of a minute).
    versions
        By name.
    races
        One for each method.
    """

    network: str
    side: int
    batch_size: int
    steps: int
    precision: str
    device: str
    threads: int
    clock: str
    load: Sequence[float]
    versions: Mapping[str, str]
    races: Sequence[Race]

    def rate(self, race: Race, optimizer: str) -> float:
        """Images per second in the median turn."""
        return self.batch_size * self.steps / median(race.seconds[optimizer])

    def save(self, path: Path) -> None:
        """One file in one step."""
        content = sealed({"format": FORMAT, "version": VERSION, **asdict(self)})
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def throughputs(root: Path) -> list[Throughput]:
    """Every file of a folder of results, by name.

    Raises
    ------
    UserError
        When one is something else.
    """
    return [load_throughput(path) for path in sorted((root / "throughput").glob("*.json"))]


def load_throughput(path: Path) -> Throughput:
    """What `Throughput.save` wrote.

    Raises
    ------
    UserError
        When the file is missing, damaged or something else.
    """
    content = read_json(path, "a file of bench_optimizers.py --record")
    try:
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
        races = tuple(_race(one) for one in content["races"])
        plain = {one.name: content[one.name] for one in fields(Throughput) if one.name != "races"}
        for name in ("network", "precision", "device", "clock"):
            _text(plain[name], name)
        for name in ("side", "batch_size", "steps", "threads"):
            plain[name] = _count(plain[name], name)
        plain["load"] = _numbers(plain["load"], "load", 0)
        versions = {_text(key, "versions"): _text(one, key) for key, one in plain["versions"].items()}
        return Throughput(**{**plain, "versions": versions}, races=races)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: can't be read ({type(error).__name__}: {error}); {MAKE}") from error


def _race(content: Any) -> Race:
    seconds = {_text(key, "seconds"): _numbers(one, key, 1e-9) for key, one in content["seconds"].items()}
    lengths = {len(one) for one in seconds.values()}
    if FIRST not in seconds or len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"turns of {', '.join(seconds) or 'nothing'}, {sorted(lengths)}")
    sparsity = number_or_none(content["sparsity"], "sparsity", 0)
    if sparsity is None or sparsity >= 1:
        raise ValueError(f"sparsity is {sparsity}")
    every = content["change_every"]
    return Race(
        _text(content["method"], "method"),
        float(sparsity),
        _text(content["kernels"], "kernels"),
        seconds,
        _numbers(content["change_seconds"], "change_seconds", 0),
        None if every is None else _count(every, "change_every"),
    )


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {str(value)[:40]!r}, not a text")
    return value


def _count(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a count")
    return value


def _numbers(values: Any, name: str, least: float) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{name} is {str(values)[:40]!r}, not a list")
    found = tuple(number_or_none(one, name, least) for one in values)
    if None in found:
        raise ValueError(f"{name} has an unknown number")
    return tuple(float(one) for one in found if one is not None)
