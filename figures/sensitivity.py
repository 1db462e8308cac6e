"""Does a claim hold whatever is measured? Figures 1 and 3's numbers for many measures, spans. Needs no torch.

Everything here is exploratory beside the one registered measure (`figures.registered`): each row is one
measure, with the change over sparsity and with S2-SAM, their intervals over training seeds, and no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, isfinite, log, nan

import numpy as np

from analysis.roughness.heights import FloatArray, heights, trapezoid_weights
from analysis.roughness.metrics import METRICS
from analysis.statistics.directed import Directed, directed_test
from figures.measures import unlike
from figures.registered import growth, mean_over_pairs
from figures.results import Name, Results, Run
from figures.studies import PlaneKey, plane_key, planes_of, studies_of
from landscape.escaping import markdown
from landscape.surface import Surface

CLIP = 10.0  # nats: min(loss, 10) takes the corners' weight away
DOUBLED = 2.0

Values = Callable[[FloatArray, FloatArray, FloatArray], float]  # of alpha, beta, loss


@dataclass(frozen=True)
class Row:
    """One measure.

    Attributes
    ----------
    name, where
        What is measured; on which span and examples.
    growth, change
        Logarithms over seeds: of the factor over sparsity (Figure 1), and with S2-SAM (Figure 3); None
        without a complete seed.
    """

    name: str
    where: str
    growth: Directed | None
    change: Directed | None


def rows(results: Results) -> list[Row]:
    """Every measure for which some seed is complete."""
    surfaces = surfaces_by_span(results)
    spans = sorted({span for found in surfaces.values() for span in found})
    splits = list(
        dict.fromkeys(split for found in surfaces.values() for one in found.values() for split in one.splits)
    )
    made = [
        _row(results, name, f"span {span:g}, {split}", on_surface(surfaces, span, split, values))
        for name, values in MEASURES.items()
        for span in spans
        for split in splits
    ]
    made += [_row(results, name, f"{split}", where_doubled(surfaces, split, values))
             for name, values in BY_LOSS.items() for split in splits]  # fmt: skip
    for key, name in (("lambda_max", "λmax"), ("trace", "trace"), ("sam", "SAM sharpness")):
        where = "; ".join(["train", *_settings(results, key)])
        made.append(_row(results, name, where, partial(_measured, results, key)))
    return [row for row in made if row.growth is not None or row.change is not None]


def table(results: Results) -> str:
    """Markdown; empty where there is nothing."""
    found = rows(results)
    if not found:
        return ""
    lines = [
        "| measure | where | over sparsity (SGD), 80 to 98 % | seeds | with S2-SAM | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in found:
        lines.append(
            f"| {row.name} | {markdown(row.where)} | {_factor(row.growth)} | {_seeds(row.growth)} | "
            f"{_factor(row.change)} | {_seeds(row.change)} |"
        )
    return "\n".join(lines)


def ra(alpha: FloatArray, beta: FloatArray, loss: FloatArray) -> float:
    """Ra of the loss."""
    return METRICS["ra"].compute(heights(alpha, beta, loss, "mean"))


def ra_clipped(alpha: FloatArray, beta: FloatArray, loss: FloatArray) -> float:
    """Ra of min(loss, 10)."""
    return ra(alpha, beta, np.minimum(loss, CLIP))


def ra_of_log(alpha: FloatArray, beta: FloatArray, loss: FloatArray) -> float:
    """Ra of log loss."""
    return ra(alpha, beta, np.log(loss))


def ra_without_form(alpha: FloatArray, beta: FloatArray, loss: FloatArray) -> float:
    """Ra of log loss with its least-squares quadratic removed (weights: each point's share of the area)."""
    a, b = np.meshgrid(alpha, beta, indexing="ij")
    terms = np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], axis=-1).reshape(-1, 6)
    root = np.sqrt(np.outer(trapezoid_weights(alpha), trapezoid_weights(beta))).reshape(-1)
    z = np.log(loss).reshape(-1)
    found, *_ = np.linalg.lstsq(terms * root[:, None], z * root, rcond=None)
    return ra(alpha, beta, (z - terms @ found).reshape(a.shape))


def slope_of_log(alpha: FloatArray, beta: FloatArray, loss: FloatArray) -> float:
    """RMS slope of log loss."""
    return METRICS["sdq"].compute(heights(alpha, beta, np.log(loss), "mean"))


def curvature_of_log(alpha: FloatArray, beta: FloatArray, loss: FloatArray) -> float:
    """RMS curvature of log loss."""
    return METRICS["sdc"].compute(heights(alpha, beta, np.log(loss), "mean"))


MEASURES: dict[str, Values] = {
    "Ra of log loss": ra_of_log,
    "Ra of the loss": ra,
    "Ra of min(loss, 10)": ra_clipped,
    "Ra of log loss, quadratic removed": ra_without_form,
    "Sdq of log loss": slope_of_log,
    "Sdc of log loss": curvature_of_log,
}


def doubled_span(alpha: FloatArray, beta: FloatArray, loss: FloatArray) -> float:
    """Half-width of the square over which the mean loss is twice the centre's; NaN where it isn't reached."""
    limits = np.unique(np.round(np.abs(alpha[np.abs(alpha) > 0]), 12))
    center = float(loss[np.abs(alpha).argmin(), np.abs(beta).argmin()])
    before = (0.0, 1.0)
    for limit in limits:
        rows, columns = np.abs(alpha) <= limit * (1 + 1e-9), np.abs(beta) <= limit * (1 + 1e-9)
        inside = loss[rows][:, columns]
        mean = float(trapezoid_weights(alpha[rows]) @ inside @ trapezoid_weights(beta[columns])) / center
        if mean >= DOUBLED:
            (span, ratio) = before
            return float(span + (limit - span) * (DOUBLED - ratio) / (mean - ratio))
        before = (float(limit), mean)
    return nan


def ra_where_doubled(alpha: FloatArray, beta: FloatArray, loss: FloatArray) -> float:
    """Ra of log loss over that square, to the grid point beyond."""
    span = doubled_span(alpha, beta, loss)
    if not isfinite(span):
        return nan
    limit = np.abs(alpha)[np.abs(alpha) >= span * (1 - 1e-9)].min() * (1 + 1e-9)
    rows, columns = np.abs(alpha) <= limit, np.abs(beta) <= limit
    return ra_of_log(alpha[rows], beta[columns], loss[rows][:, columns])


BY_LOSS: dict[str, Values] = {
    "span at which the mean loss doubles": doubled_span,
    "Ra of log loss within it": ra_where_doubled,
}


def surfaces_by_span(results: Results) -> dict[str, dict[float, Surface]]:
    """Of every run, by span; a run's own surface before a study of the same span."""
    found: dict[str, dict[float, Surface]] = {
        run.name: {float(run.surface.alpha[-1]): run.surface} for run in results.runs
    }
    for study in studies_of(results).of("span"):
        found[study.run.name].setdefault(study.value, study.surface)
    return found


def _alike(surfaces: Collection[Surface]) -> list[PlaneKey]:
    """Planes that all of them have: what is compared has to be over the same ones; empty where none is."""
    keys = [[plane_key(plane) for plane in surface.planes] for surface in surfaces]
    return [one for one in keys[0] if all(one in other for other in keys)] if keys else []


def on_surface(
    surfaces: Mapping[str, Mapping[float, Surface]], span: float, split: str, values: Values
) -> Callable[[Run], float]:
    planes = _alike(
        [found[span] for found in surfaces.values() if span in found and split in found[span].splits]
    )

    def value(run: Run) -> float:
        surface = surfaces[run.name].get(span)
        known = surface is not None and split in surface.splits
        return _mean_log(surface, planes, split, values) if surface is not None and known else nan

    return value


def where_doubled(
    surfaces: Mapping[str, Mapping[float, Surface]], split: str, values: Values
) -> Callable[[Run], float]:
    """On the smallest surface that reaches so far: its points lie closest; over the planes that all have."""
    every = [one for found in surfaces.values() for one in found.values() if split in one.splits]
    planes = _alike(every)

    def value(run: Run) -> float:
        for _, surface in sorted(surfaces[run.name].items(), key=lambda item: item[0]):
            found = _mean_log(surface, planes, split, values) if split in surface.splits else nan
            if isfinite(found):
                return found
        return nan

    return value


def _mean_log(surface: Surface, planes: Sequence[PlaneKey], split: str, values: Values) -> float:
    """Mean over these planes of the logarithm; NaN where one has none, and without planes."""
    found = []
    for plane in [surface.planes[place] for place in planes_of(surface, planes)]:
        loss = plane.splits[split].metrics["loss"].values
        number = values(surface.alpha, surface.beta, loss) if np.isfinite(loss).all() else nan
        found.append(log(number) if number > 0 else nan)
    return float(np.mean(found)) if found else nan


def _measured(results: Results, key: str, run: Run) -> float:
    found = results.measures(run.name).get(key)
    return log(found.value) if found is not None and found.value > 0 else nan


def _settings(results: Results, key: str) -> list[str]:
    """That not all values were measured alike, and in what."""
    found = [results.measures(run.name).get(key) for run in results.runs]
    different = unlike([one for one in found if one is not None])
    return [f"not measured alike: {', '.join(different)}"] if different else []


def _row(results: Results, name: str, where: str, value: Callable[[Run], float]) -> Row:
    known = {run.name: value(run) for run in results.runs}

    def of(seed: int) -> Callable[[str, float, str], float]:
        return lambda method, sparsity, optimizer: known.get(
            results.name_of(Name(results.network, method, sparsity, optimizer, seed)), nan
        )

    grown = [growth(of(seed)) for seed in results.seeds]
    changed = [mean_over_pairs(of(seed)) for seed in results.seeds]
    return Row(name, where, _test(grown, +1), _test(changed, -1))


def _test(values: list[float], sign: int) -> Directed | None:
    complete = [value for value in values if isfinite(value)]
    return directed_test(complete, sign) if complete else None


def _factor(found: Directed | None) -> str:
    if found is None:
        return "–"
    text = f"× {exp(found.mean):.3f}"
    return text + (f" [{exp(found.low):.3f}, {exp(found.high):.3f}]" if isfinite(found.low) else "")


def _seeds(found: Directed | None) -> str:
    return "–" if found is None else f"{found.n}"
