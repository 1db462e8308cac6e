"""Table 1: test accuracy of every method by sparsity, with and without S2-SAM, as CSV, LaTeX and Markdown.

``python -m figures.table1 RESULTS [--output DIR]``. In the layout of Table 1 of Ji et al., "A Single-Step,
Sharpness-Aware Minimization is All You Need to Achieve Efficient and Accurate Sparse Training" (2024), for
the runs in ``runs/results.csv``. Needs no torch.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

from figures.results import Results
from figures.spent import HEADS, Spent, spent, together
from figures.style import METHOD_NAMES, OPTIMIZER_NAMES
from landscape.errors import UserError
from landscape.escaping import SafeWriter
from landscape.files import atomic_path

TITLE = "Table 1: test accuracy by method, sparsity and optimizer"
ORDER = ("dense", *(name for name in METHOD_NAMES if name != "dense"))
OPTIMIZERS = ("sgd", "s2sam", "sam")


@dataclass(frozen=True)
class Entry:
    """Test accuracies of one kind of run, as fractions.

    Attributes
    ----------
    values
        One per training seed.
    examples_error
        Standard error over the test examples, of one run; 0 where the table doesn't say.
    spent
        How sparse the runs are by both countings, and the epochs and examples of one.
    """

    values: tuple[float, ...]
    examples_error: float
    spent: Spent

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return mean(self.values)

    @property
    def error(self) -> float:
        """Standard error of the mean over the seeds; of one seed, over test examples."""
        return stdev(self.values) / sqrt(len(self.values)) if len(self.values) > 1 else self.examples_error


@dataclass(frozen=True)
class Table:
    """Entries by (method, sparsity, optimizer); dense runs have sparsity 0."""

    network: str
    entries: Mapping[tuple[str, float, str], Entry]
    unfinished: tuple[str, ...]

    @property
    def methods(self) -> list[str]:
        """In the paper's order, unknown ones last."""
        found = {method for method, _, _ in self.entries}
        return [name for name in ORDER if name in found] + sorted(found - set(ORDER))

    @property
    def sparsities(self) -> list[float]:
        """Ascending, without that of dense runs."""
        return sorted({sparsity for _, sparsity, _ in self.entries if sparsity > 0})

    @property
    def optimizers(self) -> list[str]:
        """Those with any entry."""
        found = {optimizer for _, _, optimizer in self.entries}
        return [name for name in OPTIMIZERS if name in found] + sorted(found - set(OPTIMIZERS))


def table(results: Results) -> Table:
    """From ``results.csv``.

    Raises
    ------
    UserError
        When no run of it is finished.
    """
    found: dict[tuple[str, float, str], list[Mapping[str, str]]] = {}
    unfinished = []
    for row in results.rows:
        if not {"method", "sparsity_asked", "optimizer"} <= row.keys():
            raise UserError(
                f"{results.root}/runs/results.csv lacks method, sparsity_asked or optimizer; write it anew "
                "with python -m training.sweep --table"
            )
        if row.get("state") != "finished" or not row.get("test_accuracy"):
            unfinished.append(row["run"])
            continue
        key = (row["method"], float(row.get("sparsity_asked") or 0.0), row["optimizer"])
        found.setdefault(key, []).append(row)
    if not found:
        raise UserError(f"{results.root}/runs/results.csv: no finished run of {results.network}; train first")
    return Table(results.network, {key: _entry(group) for key, group in found.items()}, tuple(unfinished))


def _entry(group: Sequence[Mapping[str, str]]) -> Entry:
    return Entry(
        tuple(float(row["test_accuracy"]) for row in group),
        mean(float(row.get("test_accuracy_error") or 0.0) for row in group),
        spent(group),
    )


def rows(found: Table) -> list[tuple[str, list[tuple[float, list[Entry | None]]]]]:
    """Per method: per sparsity, an entry or None for every optimizer; dense runs stand under sparsity 0."""
    result = []
    for method in found.methods:
        sparsities = [0.0] if method == "dense" else found.sparsities
        result.append(
            (
                method,
                [
                    (sparsity, [found.entries.get((method, sparsity, name)) for name in found.optimizers])
                    for sparsity in sparsities
                ],
            )
        )
    return result


def to_csv(found: Table) -> str:
    """One line per method, sparsity and optimizer; fractions."""
    text = io.StringIO()
    writer = SafeWriter(text)
    writer.writerow(
        [
            "network",
            "method",
            "sparsity",
            "optimizer",
            "seeds",
            "test_accuracy",
            "standard_error",
            "error_over",
            "sparsity_masked",
            "sparsity_overall",
            "epochs_trained",
            "examples_trained",
        ]
    )
    for method, groups in rows(found):
        for sparsity, entries in groups:
            for optimizer, entry in zip(found.optimizers, entries, strict=True):
                if entry is not None:
                    over = "seeds" if len(entry.values) > 1 else "examples"
                    numbers = [len(entry.values), f"{entry.mean:.6f}", f"{entry.error:.6f}", over]
                    writer.writerow(
                        [found.network, method, f"{sparsity:g}", optimizer, *numbers, *_spent_cells(entry)]
                    )
    return text.getvalue()


def _spent_cells(entry: Entry) -> list[str]:
    """Means of smallest and largest, which agree over the seeds; empty where the table doesn't say."""
    ranges = (entry.spent.masked, entry.spent.overall, entry.spent.epochs, entry.spent.examples)
    return ["" if one is None else f"{mean(one):.6g}" for one in ranges]


def spent_by_method(found: Table) -> list[tuple[str, float, Spent]]:
    """Of each method and sparsity, over optimizers and seeds."""
    return [
        (method, sparsity, together([entry.spent for entry in entries if entry is not None]))
        for method, groups in rows(found)
        for sparsity, entries in groups
        if any(entry is not None for entry in entries)
    ]


def to_latex(found: Table) -> str:
    """A tabular for booktabs: percent, the best optimizer of a sparsity in bold."""
    width = len(found.optimizers)
    columns = "l" + ("r" * width) * len(found.sparsities)
    heads = " & ".join(
        rf"\multicolumn{{{width}}}{{c}}{{{100 * sparsity:g}\,\%}}" for sparsity in found.sparsities
    )
    rules = " ".join(
        rf"\cmidrule(lr){{{2 + width * number}-{1 + width * (number + 1)}}}"
        for number in range(len(found.sparsities))
    )
    names = " & ".join(_latex(OPTIMIZER_NAMES.get(name, name)) for name in found.optimizers)
    lines = [
        rf"% {found.network}; test accuracy (\%), standard error over seeds or, for one seed, over examples",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf"Sparsity & {heads} \\",
        rules,
        rf"Method & {' & '.join([names] * len(found.sparsities))} \\",
        r"\midrule",
    ]
    for method, groups in rows(found):
        name = _latex(METHOD_NAMES.get(method, method))
        if method == "dense":
            inside = ", ".join(
                f"{_latex(OPTIMIZER_NAMES.get(optimizer, optimizer))} {_number(entry, best=False)}"
                for optimizer, entry in zip(found.optimizers, groups[0][1], strict=True)
                if entry is not None
            )
            lines += [
                rf"{name} & \multicolumn{{{width * len(found.sparsities)}}}{{c}}{{{inside}}} \\", r"\midrule"
            ]  # fmt: skip
            continue
        cells = [_number(entry, best=entry is _best(entries)) for _, entries in groups for entry in entries]
        lines.append(rf"{name} & {' & '.join(cells)} \\")
    lines += [r"\bottomrule", r"\end{tabular}", "", *_latex_spent(found)]
    return "\n".join(lines) + "\n"


def _latex_spent(found: Table) -> list[str]:
    """A second tabular: both countings of sparsity, epochs and examples."""
    lines = [
        "% of one run, over all its rounds",
        r"\begin{tabular}{lrrrrr}",
        r"\toprule",
        rf"Method & Sparsity & {' & '.join(_latex(head) for head in HEADS)} \\",
        r"\midrule",
    ]
    for method, sparsity, one in spent_by_method(found):
        cells = [_latex(cell).replace("–", "--") for cell in (f"{100 * sparsity:g} %", *one.cells())]
        lines.append(rf"{_latex(METHOD_NAMES.get(method, method))} & {' & '.join(cells)} \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def to_markdown(found: Table) -> str:
    """For the report: percent ± standard error."""
    heads = [
        f"{sparsity:g} {OPTIMIZER_NAMES.get(name, name)}"
        for sparsity in found.sparsities
        for name in found.optimizers
    ]
    lines = [f"| method | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    for method, groups in rows(found):
        if method != "dense":
            cells = [_plain(entry) for _, entries in groups for entry in entries]
            lines.append(f"| {METHOD_NAMES.get(method, method)} | {' | '.join(cells)} |")
    for optimizer in found.optimizers:
        entry = found.entries.get(("dense", 0.0, optimizer))
        if entry is not None:
            lines += ["", f"Dense, {OPTIMIZER_NAMES.get(optimizer, optimizer)}: {_plain(entry)} %."]
    lines += ["", f"| method | sparsity | {' | '.join(HEADS)} |", "| --- " * (len(HEADS) + 2) + "|"]
    for method, sparsity, one in spent_by_method(found):
        lines.append(f"| {METHOD_NAMES.get(method, method)} | {sparsity:g} | {' | '.join(one.cells())} |")
    over = "over seeds, or of one seed over test examples"
    lines += ["", "Epochs and examples are those of one run, over all its rounds."]
    lines += ["", f"Percent ± standard error {over}; {found.network}."]
    if found.unfinished:
        lines.append(f"Not finished, {len(found.unfinished)} runs: {', '.join(found.unfinished)}.")
    return "\n".join(lines) + "\n"


def _best(entries: Sequence[Entry | None]) -> Entry | None:
    """The one with the highest mean, where there is something to compare."""
    known = [entry for entry in entries if entry is not None]
    return max(known, key=lambda entry: entry.mean) if len(known) > 1 else None


def _number(entry: Entry | None, *, best: bool) -> str:
    if entry is None:
        return "--"
    text = f"{100 * entry.mean:.2f}"
    text = rf"\textbf{{{text}}}" if best else text
    return rf"{text}\,{{\scriptsize$\pm${100 * entry.error:.2f}}}"


def _plain(entry: Entry | None) -> str:
    return "–" if entry is None else f"{100 * entry.mean:.2f} ± {100 * entry.error:.2f}"


def _latex(text: str) -> str:
    """Escaped; names come from files."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in text)


@dataclass(frozen=True)
class TableProduct:
    """As `figures.product.Product`, for a table."""

    name: str
    title: str

    def write(self, results: Results, folder: Path) -> list[Path]:
        """CSV, LaTeX and Markdown, each in one step."""
        found = table(results)
        texts = {"csv": to_csv(found), "tex": to_latex(found), "md": f"# {TITLE}\n\n{to_markdown(found)}"}
        paths = []
        for form, text in texts.items():
            paths.append(folder / f"{self.name}.{form}")
            with atomic_path(paths[-1]) as temporary:
                temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        return paths

    def unlike(self, results: Results) -> list[str]:
        """Nothing: accuracies are all over the same test set."""
        return []


PRODUCT = TableProduct("table1", TITLE)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
