"""The report of a reproduction: what was run, what each claim came to, every cell, what is missing. No torch.

``python -m figures.report RESULTS`` writes ``RESULTS/report.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path

from analysis.roughness.conventions import differences
from figures import accuracy, caption, dependence, prediction, registered, sensitivity
from figures.claims import LEVEL, Claim, claims
from figures.measures import MASK, NAMES, Measured, unlike
from figures.panels import ra_text
from figures.recipe import recipe
from figures.results import DENSE, Cell, Results, Run, accuracy_in
from figures.spent import HEADS, spent
from figures.studies import studies_of
from figures.style import METHOD_NAMES, OPTIMIZER_NAMES
from figures.tables import TABLES
from landscape.errors import UserError
from landscape.escaping import markdown
from landscape.files import atomic_path
from landscape.intervals import listed

TITLE = "Ra, sparsity and S2-SAM: report"


@dataclass(frozen=True)
class ReportProduct:
    """As `figures.product.Product`, for the report: in RESULTS itself, or in a folder that is asked for."""

    name: str
    title: str

    def write(self, results: Results, folder: Path) -> list[Path]:
        """One Markdown file in one step."""
        usual = folder == results.root / "figures"
        path = (results.root if usual else folder) / "report.md"
        with atomic_path(path) as temporary:
            temporary.write_text(
                report(results, "figures/" if usual else ""), encoding="utf-8", errors="backslashreplace"
            )
        return [path]

    def unlike(self, results: Results) -> list[str]:
        """The report says it itself."""
        return []


PRODUCT = ReportProduct("report", TITLE)


def report(results: Results, figures: str = "figures/") -> str:
    """The whole text; `figures` leads from it to the pictures."""
    cells = results.cells
    parts = [
        f"# {TITLE}",
        *_registered(results),
        _what(results, cells),
        "## Claims, explored over all pairs" if results.registered else "## Claims",
        _claims(claims(results), explored=results.registered),
        "## Cells",
        _cells(results, [*results.dense, *cells]),
        *_tables(results, figures),
        "## Does Ra predict test accuracy?",
        _prediction(results),
        f"![Ra against accuracy]({figures}accuracy.png)",
        "## What Ra depends on",
        _dependence(results, figures),
        "## Missing",
        _missing([*results.dense, *cells]),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _registered(results: Results) -> list[str]:
    """What the registered tests say, in words and as a table, before anything else."""
    if not results.registered:
        return []
    found = registered.registered(results)
    plan = (
        "Networks, measures and tests were laid down before the first run (docs/preregistration.md, with "
        "what departed from it). The unit is the training seed; with networks so far, in part or whole: "
        f"{listed(results.seeds)}."
    )
    beside = (
        "The same numbers for other measures and spans, exploratory: factors over training seeds with 95 % "
        "intervals, no verdicts."
    )
    return [
        "## What came out",
        registered.in_words(found),
        registered.table(found),
        plan,
        "## Whatever is measured",
        beside,
        sensitivity.table(results),
    ]


def _what(results: Results, cells: Sequence[Cell]) -> str:
    """Network, recipe and how the surfaces were made."""
    runs = caption.runs_of(cells)
    lines = [
        "Written by `python -m figures.reproduce`; every number below is computed from the files beside it. "
        "Claims are those of Ji et al., “A Single-Step, Sharpness-Aware Minimization is All You Need to "
        "Achieve Efficient and Accurate Sparse Training” (2024).",
        "",
        f"- network: {markdown(results.network)}",
        *recipe(results),
    ]
    seeds = ", ".join(map(str, results.seeds))
    alone = "; with one nothing below covers the chance of training" if len(results.seeds) == 1 else ""
    lines.append(f"- training seeds: {seeds}{alone}")
    if runs:
        ways = caption.made(runs)
        values = differences(ways)
        known = [name for name in caption.SHOWN if any(name in way for way in ways)]
        words = [f"{name} {markdown(caption.text_of(name, ways, values))}" for name in known]
        lines.append(f"- surfaces: {', '.join(words)}")
        different = ", ".join(
            f"{name} ({markdown('; '.join(values[name]))})" for name in caption.unlike(cells)
        )
        lines += [f"- **not made alike**: surfaces differ in {different}"] if different else []
        lines.append(f"- software: {_software(runs)}")
    lines.append("- intervals: 95 %; of Ra over examples, direction seeds and interpolation")
    return "\n".join(lines)


def _software(runs: Sequence[Run]) -> str:
    """Every version that computed a surface."""
    found: dict[str, list[str]] = {}
    for run in runs:
        versions = run.surface.about.get("versions")
        for name, version in versions.items() if isinstance(versions, Mapping) else ():
            known = found.setdefault(name, [])
            known += [] if str(version) in known else [str(version)]
    words = [markdown(f"{name} {' and '.join(known)}") for name, known in found.items()]
    return ", ".join(words) or "not told by the surface files"


def _claims(found: Sequence[Claim], explored: bool) -> str:
    """With verdicts, but where other tests are registered: pairs of one training seed share its chance."""
    verdict = "" if explored else " verdict |"
    lines = [
        f"| claim | of |{verdict} effect, 95 % interval | p | n |",
        "| --- | --- | --- | --- | --- |" + " --- |" * (not explored),
    ]
    for claim in found:
        p = "–" if isnan(claim.p_value) else f"{claim.p_value:.2g}"
        verdict = "" if explored else f" **{claim.verdict}** |"
        lines.append(
            f"| {claim.statement} | {claim.source} |{verdict} {claim.effect or '–'} | {p} | "
            f"{claim.n} {claim.of} |"
        )
    meaning = (
        "Intervals and p, two-sided and uncorrected, take methods, sparsities and seeds for independent, "
        "which those of one training seed aren't: nothing here counts as found."
        if explored
        else f"“Found” and “the opposite was found” mean p < {LEVEL:g}, two-sided, without correction for "
        f"{len(found)} tests; “not found” means that these runs don't show it, not that it is false."
    )
    lines += [
        "",
        f"{meaning} Sparsity: sign flips over methods and seeds of the slope of log Ra. Pairs: sign flips of "
        "the differences, of logarithms for Ra and eigenvalues. “Of: ours” are questions that the paper "
        "doesn't raise.",
    ]
    left_out = [text for claim in found for text in claim.left_out]
    lines += (
        ["", "Left out of these tests:", "", *(f"- {markdown(text)}" for text in left_out)]
        if left_out
        else []
    )
    return "\n".join(lines)


def _cells(results: Results, cells: Sequence[Cell]) -> str:
    keys = tuple(NAMES)
    lines = [
        f"| method | sparsity | optimizer | {caption.ra_name(cells)} [95 %] | test accuracy (%) "
        f"| {' | '.join(NAMES.values())} | kept weights | {' | '.join(HEADS)} |",
        "| --- | --- | --- | --- | --- |" + " --- |" * (len(keys) + 1 + len(HEADS)),
    ]
    measured: dict[str, list[tuple[bool, Measured]]] = {key: [] for key in keys}
    for cell in cells:
        for run in cell.runs:
            found = results.measures(run.name)
            for key in found.keys() & measured.keys():
                measured[key].append((cell.method == DENSE, found[key]))
            shown = " | ".join(_measured(found.get(key), key) for key in keys)
            lines.append(
                f"| {_names(cell)} | {_ra(run)} | {_accuracy(run)} | {shown} | {_kept(run)} | "
                f"{' | '.join(spent([run.row]).cells())} |"
            )
        for name, why in cell.missing.items():
            empty = " | ".join("–" for _ in keys)
            lines.append(
                f"| {_names(cell)} | {markdown(why)} | {_from_table(results, name)} | {empty} | – "
                + "| – " * len(HEADS)
                + "|"
            )
    told = [_settings(key, [one for _, one in found]) for key, found in measured.items()]
    settings = "; ".join(text for text in told if text)
    wrong = [_not_alike(key, found) for key, found in measured.items()]
    ending = [
        "",
        "λmax and trace are those of the Hessian of the mean training loss over the kept weights; λmax ± the "
        "norm of its residual, everything else with 95 % intervals. SAM's and ASAM's are one-step ascents, "
        f"so lower bounds. {settings + '.' if settings else ''}".strip(),
    ]
    ending += [line for text in wrong if text for line in ("", text)]
    return "\n".join(lines + ending)


def _settings(key: str, found: Sequence[Measured]) -> str:
    """What sharpness is of, where all values are of the same."""
    notes = {one.note for one in found}
    (note,) = notes if len(notes) == 1 else ("",)
    return f"{NAMES[key]}: {markdown(note)}" if note and key != "lambda_max" else ""


def _not_alike(key: str, found: Sequence[tuple[bool, Measured]]) -> str:
    """That values of one measure can't be compared; masks may differ between dense and sparse networks."""
    groups = [[one for dense, one in found if dense is kind] for kind in (True, False)]
    whole = [
        replace(one, made={name: text for name, text in one.made.items() if name != MASK}) for _, one in found
    ]
    words = list(dict.fromkeys(text for part in (*groups, whole) for text in unlike(part)))
    return f"**Not measured alike**: {NAMES[key]} of {markdown(', '.join(words))}." if words else ""


def _names(cell: Cell) -> str:
    method = markdown(METHOD_NAMES.get(cell.method, cell.method))
    return f"{method} | {cell.sparsity:g} | {OPTIMIZER_NAMES.get(cell.optimizer, cell.optimizer)}"


def _ra(run: Run) -> str:
    if run.ra.diverged_radius is not None:
        return f"not finite (diverged from radius {run.ra.diverged_radius:.2g})"
    value, interval = ra_text(run.ra.ra)
    return f"{value} [{interval}]"


def _accuracy(run: Run) -> str:
    return _percent(run.row)


def _percent(row: Mapping[str, str]) -> str:
    accuracy = accuracy_in(row)
    if accuracy is None:
        return "–"
    error = row.get("test_accuracy_error")
    return f"{100 * accuracy:.2f}" + (f" ± {100 * float(error):.2f}" if error else "")


def _from_table(results: Results, name: str) -> str:
    return next((_percent(row) for row in results.rows.values() if row["run"] == name), "–")


def _measured(found: Measured | None, key: str) -> str:
    if found is None:
        return "not computed"
    if isnan(found.low):
        return f"{found.value:.3g}"
    if key in ("lambda_max", "trace"):  # their intervals are symmetric
        note = f" ({found.note})" if found.note else ""
        return f"{found.value:.4g}" + (note or f" ± {float(f'{found.high - found.value:.1g}'):g}")
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"


def _kept(run: Run) -> str:
    kept = int(run.row.get("kept_weights") or 0)
    return f"{kept:,}" if kept else "all" if f"-{DENSE}-" in run.name else "–"


def _tables(results: Results, figures: str) -> list[str]:
    """Every table of the paper; one that can't be read says why and keeps no other back."""
    parts = []
    for one in TABLES:
        parts.append(f"## {one.title}")
        try:
            parts.append(one.markdown(one.grids(results)))
        except UserError as error:
            parts.append(f"None: {markdown(str(error))}.")
            continue
        parts.append(", ".join(f"[{form}]({figures}{one.name}.{form})" for form in ("csv", "tex")))
    return parts


def _prediction(results: Results) -> str:
    every, pairs = accuracy.dots(results), accuracy.changes(results)
    lines = [f"Spearman's rank correlation of Ra and test accuracy over {len(every)} runs: "
             f"{accuracy.correlation_text(accuracy.correlation(every))}."]  # fmt: skip
    for level, one in accuracy.within_sparsity(every).items():
        count = sum(dot.sparsity == level for dot in every)
        lines.append(f"- at sparsity {level:g}, {count} runs: {accuracy.correlation_text(one)}")
    lines += ["", f"Changes within {len(pairs)} pairs (from SGD to S2-SAM or SAM, log₂ Ra and accuracy): "
                  f"{accuracy.correlation_text(accuracy.correlation(pairs))}."]  # fmt: skip
    others = prediction.table(results)
    if others:
        lines += ["", "Other measures beside it (ρ with test accuracy, 95 % bootstrap interval, permutation "
                      "p-value; runs that share a method aren't independent):", "", others]  # fmt: skip
    return "\n".join(lines)


def _dependence(results: Results, figures: str) -> str:
    studies = studies_of(results)
    lines = []
    for one in studies.agreements:
        verdict = "they agree within the stated error" if one.agree else "**they differ by more than stated**"
        lines.append(
            f"- Every point against adaptive, first plane of {markdown(one.run)}: "
            f"Ra {one.exact:.6g} from all {one.points:,} points, {one.adaptive:.6g} from {one.computed:,}; "
            f"stated error {one.stated:.2g}, difference {one.difference:.2g}: {verdict}."
        )
    if not studies.agreements:
        lines.append("- Every point against adaptive: not computed.")
    try:
        lines += ["", *dependence.tables(results), "", f"![Dependence]({figures}dependence.png)"]
    except UserError as error:
        lines.append(f"- {markdown(str(error))}")
    return "\n".join(lines)


def _missing(cells: Sequence[Cell]) -> str:
    gone = {name: why for cell in cells for name, why in cell.missing.items()}
    total = len(gone) + len(caption.runs_of(cells))
    if not gone:
        return f"Nothing: all {total} runs have a surface."
    return "\n".join(
        [
            f"{len(gone)} of {total} runs:",
            "",
            *(f"- {markdown(name)}: {markdown(why)}" for name, why in gone.items()),
        ]
    )


if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
