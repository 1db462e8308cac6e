"""What a network counts for in the registered tests: its number, or why it has none. Needs no torch.

docs/preregistration.md says which surfaces count, and what becomes of networks that diverge or hardly learn.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite, isnan, log, nan

import numpy as np

from analysis.roughness import roughness_by_plane
from analysis.roughness.conventions import conventions
from figures.results import Name, Results, Run, accuracy_in
from landscape.errors import UserError
from landscape.surface import Surface

SPAN = 0.25
SPLIT = "train"
PLAN = {
    "span": f"±{SPAN:g}",
    "examples": "512",
    "directions": "random, seeds 0 to 9",
    "normalization": "filter",
    "mask": "checkpoint",
    "batch norm": "fixed",
}
"""How the primary measure's surfaces are made, in the words of `analysis.roughness.conventions`."""
DIVERGED = "diverged in training"
LEARNED = 0.25  # held-out accuracy below which comparisons are also given without a network's pair
_DIVERGED = re.compile(r"\b(became|is) -?(inf|nan)\b")  # what training says when it stops for that

Key = tuple[str, float, str]  # method, sparsity, optimizer


@dataclass(frozen=True)
class Counted:
    """One network of one training seed.

    Attributes
    ----------
    name
        Of the run.
    value
        Its number; inf or NaN where the network diverged, NaN where there is none yet.
    absent
        Why there is none yet; empty otherwise.
    apart
        Why comparisons are also given without its pair; empty for most.
    """

    name: str
    value: float = nan
    absent: str = ""
    apart: str = ""

    def __str__(self) -> str:
        """The name, and what is the matter."""
        return f"{self.name} ({self.absent or self.apart})"


def begun(results: Results, networks: Collection[Key]) -> list[int]:
    """Training seeds of which one of these networks was trained, in part or whole; others are plans."""
    return sorted(
        {
            one.seed
            for one, name in results.names.items()
            if (one.method, one.sparsity, one.optimizer) in networks and results.begun(name)
        }
    )


def roughnesses(results: Results, networks: Collection[Key], seed: int) -> dict[Key, Counted]:
    """The primary measure of each: the mean over planes of log Ra of log loss."""
    runs = {key: _run(results, key, seed) for key in networks}
    images = next((text for run in runs.values() if run is not None and (text := _images(run.surface))), "")
    return {key: _roughness(results, key, seed, run, images) for key, run in runs.items()}


def accuracies(results: Results, networks: Collection[Key], seed: int) -> dict[Key, Counted]:
    """Test accuracy of each in percent."""
    return {key: _accuracy(results, key, seed) for key in networks}


def primary(run: Run, split: str | None = None) -> list[float]:
    """The primary measure by plane: log Ra of log loss over the square of half-width 0.25.

    Raises
    ------
    UserError
        When the surface doesn't reach so far, or a loss isn't positive.
    """
    values = roughness_by_plane(run.surface, split=split, log=True, span=SPAN)
    return [log(one) if one > 0 else nan for one in values]


def _roughness(results: Results, key: Key, seed: int, run: Run | None, images: str) -> Counted:
    found = _known(results, key, seed)
    if run is None:
        if found.apart == DIVERGED:  # it has no surface, and won't
            return replace(found, value=inf)
        return replace(found, absent=results.cell(*key).missing.get(found.name, "not trained"))
    unlike = unlike_plan(run.surface, images)
    if unlike:
        return replace(found, absent=unlike)
    try:
        value = float(np.mean(primary(run, SPLIT)))
    except UserError as error:
        return replace(found, absent=str(error))
    if isnan(value):
        return replace(found, absent="a plane has no roughness")
    diverged = "" if isfinite(value) else f"its loss isn't finite within ±{SPAN:g}"
    return replace(found, value=value, apart=diverged or found.apart)


def _accuracy(results: Results, key: Key, seed: int) -> Counted:
    found = _known(results, key, seed)
    row = results.row(found.name)
    accuracy = accuracy_in(row)
    if accuracy is not None:
        return replace(found, value=100 * accuracy)
    unfinished = row.get("test_accuracy") and row["state"] != "finished"
    why = f"training {row['state']}" if unfinished else "no test accuracy"
    return found if found.apart == DIVERGED else replace(found, absent=why)


def _known(results: Results, key: Key, seed: int) -> Counted:
    """Its name, and what its row says against it."""
    name = results.name_of(Name(results.network, *key, seed))
    return Counted(name, apart=_apart(results.row(name)))


def _apart(row: Mapping[str, str]) -> str:
    losses = [float(row[key]) for key in ("test_loss", "train_loss") if row.get(key)]
    failed = row.get("state") == "failed" and _DIVERGED.search(row.get("error", ""))
    if failed or not all(map(isfinite, losses)):
        return DIVERGED
    held_out = row.get("validation_accuracy")
    low = held_out and float(held_out) < LEARNED
    return f"{100 * float(held_out):.1f} % held-out accuracy" if held_out and low else ""


def _run(results: Results, key: Key, seed: int) -> Run | None:
    return next((run for run in results.cell(*key).runs if run.seed == seed), None)


def _images(surface: Surface) -> str:
    """Digest of the images that it was computed on; empty where the file doesn't say."""
    if SPLIT not in surface.splits:
        return ""
    return conventions(surface, SPLIT).get("example set", "")


def unlike_plan(surface: Surface, images: str = "") -> str:
    """In what a surface isn't one of the plan's; empty where it is. `images`: those of the seed's first."""
    if SPLIT not in surface.splits:
        return f"surface over {', '.join(surface.splits)}, not {SPLIT}"
    found = conventions(surface, SPLIT)
    wrong = [
        f"{name} {found.get(name, 'unknown')} instead of {text}"
        for name, text in PLAN.items()
        if found.get(name) != text
    ]
    wrong += (
        ["other images than the seed's first surface"]
        if images and _images(surface) not in ("", images)
        else []
    )
    return f"not the plan's surface: {'; '.join(wrong)}" if wrong else ""
