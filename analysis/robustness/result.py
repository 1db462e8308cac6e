"""What is known of one network's robustness: which images it answered right, by corruption and severity.

Needs no torch, so that figures can be drawn without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analysis.robustness.corruption_names import BENCHMARK, SEVERITIES
from analysis.robustness.images_interval import FloatArray, over_images, wilson
from analysis.robustness.reference_errors import Reference
from analysis.statistics.uncertainty import Estimate
from landscape.errors import UserError

COMMON = ("lr", "momentum", "nesterov", "weight_decay", "decay_all")  # settings of every optimizer
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Source = Literal["files", "generated"]


@dataclass(frozen=True, eq=False)
class Robustness:
    """One network's answers on clean and corrupted versions of the same N images.

    Attributes
    ----------
    name, file, sha256
        The checkpoint's.
    corruptions
        Names of the K corruptions, in the order of the arrays.
    sources
        By corruption: "files" for images of a data set in the published layout, "generated" for images made
        here from the clean ones. Only the former can be compared with published numbers.
    places
        int64 ``[N]``: where the images stand in their data set.
    labels
        int64 ``[N]``: their classes.
    clean
        bool ``[N]``: answered right without corruption; None where the clean images weren't at hand.
    correct
        bool ``[K, 5, N]``: answered right, by corruption and severity.
    done
        bool ``[K, 5]``: which of these were computed.
    settings
        Everything that determines the answers; JSON types.
    about
        What is known besides: ``checkpoint``, ``architecture``, ``data``, and ``run`` (``method``,
        ``sparsity``, ``optimizer``, ``seed``; as ``own`` settings that only this optimizer has, as ``recipe``
        all others; None where the checkpoint doesn't say); ``deviations``, by corruption what of a generated
        one isn't as published.
    """

    name: str
    file: str
    sha256: str
    corruptions: tuple[str, ...]
    sources: tuple[Source, ...]
    places: IntArray
    labels: IntArray
    clean: BoolArray | None
    correct: BoolArray
    done: BoolArray
    settings: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def finished(self) -> bool:
        """Whether every corruption was computed at every severity."""
        return bool(self.done.all())

    @property
    def generated(self) -> tuple[str, ...]:
        """Corruptions whose images were made here: no published number can be compared with these."""
        pairs = zip(self.corruptions, self.sources, strict=True)
        return tuple(name for name, source in pairs if source == "generated")

    @property
    def source(self) -> str:
        """In a word, for tables: "files", "generated", or "files, 3 generated"."""
        made = len(self.generated)
        if not made:
            return "files"
        return "generated" if made == len(self.corruptions) else f"files, {made} generated"

    def clean_accuracy(self) -> Estimate:
        """Without corruption; Wilson's interval, NaN where the clean images weren't at hand."""
        return wilson(0, 0) if self.clean is None else wilson(int(self.clean.sum()), len(self))

    def accuracy(self, corruption: str, severity: int) -> Estimate:
        """On one corruption at one severity (1 to 5); Wilson's interval, NaN where it wasn't computed."""
        place = self._place(corruption)
        if severity not in SEVERITIES:
            raise UserError(f"severity {severity}: expected 1 to {len(SEVERITIES)}")
        if place is None or not self.done[place, severity - 1]:
            return wilson(0, 0)
        return wilson(int(self.correct[place, severity - 1].sum()), len(self))

    def mean_accuracy(self, corruptions: Sequence[str] | None = None) -> Estimate:
        """Mean over corruptions and the five severities; t interval over images.

        Parameters
        ----------
        corruptions
            By default the 15 of the benchmark. NaN unless all of them were computed: a mean over fewer is
            another number.
        """
        shares = self.per_image(BENCHMARK if corruptions is None else corruptions)
        return wilson(0, 0) if shares is None else over_images(shares, 0.0, 1.0)

    def per_image(self, corruptions: Sequence[str] = BENCHMARK) -> FloatArray | None:
        """Of each image, ``[N]``, the share of its corrupted versions that were answered right.

        Without corruptions, ``()``, whether the clean image was. None where something wasn't computed.
        """
        if not len(corruptions):
            return None if self.clean is None else self.clean.astype(np.float64)
        places = self._complete(corruptions)
        if places is None:
            return None
        shares: FloatArray = self.correct[places].mean(axis=(0, 1))
        return shares

    def mce(self, reference: Reference) -> Estimate:
        """Mean corruption error as a fraction (1 is the reference network's); t interval over images.

        ``mean over the 15 of (mean error over severities / the reference's mean error over severities)``
        (Hendrycks and Dietterich 2019, section 4.2). The reference's errors count as known exactly. NaN
        unless all 15 were computed.
        """
        places = self._complete(BENCHMARK)
        if places is None:
            return wilson(0, 0)
        errors = 1.0 - self.correct[places].mean(axis=1)  # [15, N]
        weights = np.array([1.0 / reference.errors[name] for name in BENCHMARK])
        return over_images(weights @ errors / len(BENCHMARK), 0.0)

    def corruption_errors(self, corruptions: Sequence[str] = BENCHMARK) -> dict[str, float]:
        """Mean error over the severities by corruption, where all five were computed: a fraction."""
        places = {name: self._place(name) for name in corruptions}
        return {
            name: 1.0 - float(self.correct[place].mean())
            for name, place in places.items()
            if place is not None and self.done[place].all()
        }

    def falls(self, corruption: str) -> bool:
        """Whether accuracy is lower at severity 5 than at 1, and so does a line through all five."""
        shares = [self.accuracy(corruption, one).value for one in SEVERITIES]
        return bool(shares[-1] < shares[0] and np.polyfit(SEVERITIES, shares, 1)[0] < 0)

    def _place(self, corruption: str) -> int | None:
        return self.corruptions.index(corruption) if corruption in self.corruptions else None

    def _complete(self, names: Sequence[str]) -> list[int] | None:
        """Places of these corruptions, or None where one wasn't computed at every severity."""
        places = [place for name in names if (place := self._place(name)) is not None]
        complete = len(places) == len(names) > 0 and bool(self.done[places].all())
        return places if complete else None


def difference(first: Robustness, second: Robustness, corruptions: Sequence[str] | None = None) -> Estimate:
    """Mean accuracy of the second network minus the first one's, paired by image; t interval over images.

    Parameters
    ----------
    first, second
        Of the same images, corrupted alike.
    corruptions
        By default the 15 of the benchmark; an empty sequence compares the clean accuracies.

    Raises
    ------
    UserError
        When the images or their corruptions differ, or one of the two lacks them.
    """
    check_same_images(first, second)
    names = BENCHMARK if corruptions is None else corruptions
    shares = []
    for one in (first, second):
        found = one.per_image(names)
        if found is None:
            raise UserError(f"{one.name} lacks what is to be compared; compute it for both networks")
        shares.append(found)
    return over_images(shares[1] - shares[0], -1.0, 1.0)


def check_same_images(first: Robustness, second: Robustness) -> None:
    """Refuse two results that aren't of the same images; UserError says what differs."""
    same = np.array_equal(first.places, second.places) and np.array_equal(first.labels, second.labels)
    if not same:
        raise UserError(f"{first.name} and {second.name} were measured on other images; choose them alike")
    for key in ("images", "names", "recipe", "clean"):
        here, there = first.settings.get(key), second.settings.get(key)
        if here != there:
            raise UserError(
                f"{first.name} and {second.name} differ in {key} ({here} and {there}); measure both alike"
            )
    before = dict(zip(first.corruptions, first.sources, strict=True))
    for name, source in zip(second.corruptions, second.sources, strict=True):
        if before.get(name, source) != source:
            raise UserError(
                f"{name} is {before[name]} for {first.name}, {source} for {second.name}; measure both alike"
            )


def run_facts(result: Robustness) -> Mapping[str, Any]:
    """What the checkpoint says of its training: method, sparsity, optimizer, seed; None where it doesn't."""
    return _mapping(result.about.get("run"))


def recipe(result: Robustness) -> dict[str, Any]:
    """How the network was trained, besides `run_facts`: what has to be equal where networks are compared.

    Without settings that are off, which earlier versions hadn't. Where none were kept, the number of epochs.
    """
    told = dict(_mapping(run_facts(result).get("recipe")))
    if not told:
        metrics = _mapping(_mapping(result.about.get("checkpoint")).get("metrics"))
        told = {"epochs": metrics.get("epochs_trained")}
    if not told.get("milestones"):
        told.pop("lr_drop", None)
    numbers = {key: one for key, one in told.items() if type(one) in (int, float)}
    return {key: one for key, one in (told | {key: float(n) for key, n in numbers.items()}).items() if one}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
