"""The table of a sweep: one row per run in ``results.csv``, always whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from landscape.errors import UserError
from landscape.escaping import SafeWriter
from landscape.files import atomic_path
from landscape.files.runs_table import Row, check_row, read_runs
from training.sweep.planned import PlannedRun
from training.sweep.status import Runs, Status

COLUMNS = (
    "run",
    "state",
    "model",
    "data",
    "method",
    "sparsity_asked",
    "optimizer",
    "seed",
    "epochs",
    "epochs_trained",
    "examples_trained",
    "flops",
    "flops_share",
    "training_flops",
    "training_flops_share",
    "test_accuracy",
    "test_accuracy_error",
    "test_loss",
    "validation_accuracy",
    "sparsity",
    "sparsity_overall",
    "kept_weights",
    "channels_share",
    "shrunk_parameters",
    "shrunk_flops_share",
    "exploration",
    "dead_filters",
    "classes_without_input",
    "seconds",
    "checkpoint",
    "error",
)
"""``sparsity_asked`` is empty for dense runs; ``test_accuracy_error`` is the standard error over the test
images; ``epochs`` is what was asked for, ``epochs_trained`` and ``examples_trained`` (images in all steps)
are what the run spent over all its rounds; ``flops`` are those of one image through the result, charged for
kept weights only, ``training_flops`` those of all steps' passes forward and back, and the shares those of the
dense network and of one dense training of ``epochs``; ``sparsity`` is the pruned share of the masked weights,
as the method's authors count, ``sparsity_overall`` of all parameters; ``channels_share`` is the kept share of
the channels that a method may remove, ``shrunk_parameters`` and ``shrunk_flops_share`` are the smaller
network's, computed densely (methods that remove channels only); ``exploration`` is the share of the
masked tensors' weights that were ever kept; ``dead_filters`` and ``classes_without_input`` are counts;
``seconds`` are the training's own; ``checkpoint`` is relative to the table's folder. What a run doesn't
know is empty."""

_FROM_METRICS = (
    "test_accuracy",
    "test_loss",
    "validation_accuracy",
    "sparsity",
    "sparsity_overall",
    "kept_weights",
    "shrunk_parameters",
    "exploration",
    "seconds",
    "epochs_trained",
    "examples_trained",
    "flops",
    "training_flops",
)


def table_path(root: Path) -> Path:
    """Where the table of a folder of runs is."""
    return root / "results.csv"


def write_table(
    runs: Runs, planned: Sequence[PlannedRun] = (), errors: Mapping[str, str] | None = None
) -> None:
    """Rewrite ``results.csv``: the planned runs, and those that other sweeps have in the same folder.

    `errors` are those of this process' runs by name, empty for one that hasn't failed; of runs that aren't
    named there, the table's own are taken over.
    """
    found = rows(runs, planned, errors or {})
    with (
        atomic_path(table_path(runs.root)) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = SafeWriter(file)
        for cells in ([*COLUMNS], *([row[name] for name in COLUMNS] for row in found)):
            writer.writerow(cells)


def rows(runs: Runs, planned: Sequence[PlannedRun], errors: Mapping[str, str]) -> list[Row]:
    """The table's rows, in the order of model, data, method, optimizer, sparsity and seed."""
    before = read_table(runs.root)
    by_name = {run.name: run for run in planned}
    found = []
    for name in {*by_name, *before, *runs.names()}:
        settings = by_name[name].settings if name in by_name else None
        status = current(runs.status(name, settings), before.get(name, {}), errors.get(name))
        found.append(_sound_row(name, settings or _settings(runs, name), status, before.get(name, {})))
    return sorted(found, key=_order)


def current(status: Status, before: Row, error: str | None) -> Status:
    """The folder's status, or the failure that this process or the table remembers of an unfinished run."""
    if status.state in ("finished", "failed"):
        return status
    if error is None and before.get("state") == "failed":
        error = before.get("error", "")
    return Status("failed", error, status.epochs) if error else status


def read_table(root: Path) -> dict[str, Row]:
    """The rows of ``results.csv`` by run; empty when there is none.

    Raises
    ------
    UserError
        When the file is something else, which a sweep mustn't replace.
    """
    return read_runs(table_path(root), "move it away or choose another --output")


def _settings(runs: Runs, name: str) -> Mapping[str, Any]:
    try:
        return runs.settings(name) or {}
    except UserError:
        return {}  # the row's error says it


def _sound_row(name: str, settings: Mapping[str, Any], status: Status, before: Row) -> Row:
    """The run's row, or that of a failed one: a table with a row that can't be read is lost whole."""
    row = _row(name, settings, status, before)
    try:
        check_row(row)
    except ValueError as error:
        told = "; remove its folder, or train it again"
        return dict.fromkeys(COLUMNS, "") | {"run": name, "state": "failed", "error": f"{error}{told}"}
    return row


def _row(name: str, settings: Mapping[str, Any], status: Status, before: Row) -> Row:
    method, optimizer = settings.get("method", {}), settings.get("optimizer", {})
    asked = {
        "model": settings.get("model"),
        "data": settings.get("data"),
        "method": method.get("name"),
        "sparsity_asked": method.get("sparsity"),
        "optimizer": optimizer.get("name"),
        "seed": settings.get("seed"),
        "epochs": settings.get("epochs"),
    }
    row = {key: _cell(value) if settings else before.get(key, "") for key, value in asked.items()}
    row |= {key: _cell(status.metrics.get(key)) for key in _FROM_METRICS}
    row |= {f"{key}_share": _cell(_share(status.metrics, key)) for key in ("flops", "training_flops")}
    row |= _channels(status.metrics)
    row |= _unconnected(status.metrics)
    row |= {"run": name, "state": status.state, "error": status.error}
    row["test_accuracy_error"] = _cell(_standard_error(status.metrics))
    row["checkpoint"] = f"{name}/final.pt" if status.state == "finished" else ""
    return {column: row[column] for column in COLUMNS}


def _unconnected(metrics: Mapping[str, Any]) -> Row:
    """Counts of filters and classes that a mask has left without a weight; empty where it isn't known."""
    if "classes_without_input" not in metrics:
        return {"dead_filters": "", "classes_without_input": ""}
    dead = sum(layer["dead_filters"] for layer in metrics["layers"].values())
    return {"dead_filters": str(dead), "classes_without_input": str(len(metrics["classes_without_input"]))}


def _channels(metrics: Mapping[str, Any]) -> Row:
    """Of the network without its lost channels; empty for methods that remove none."""
    if "shrunk_flops" not in metrics:
        return {"channels_share": "", "shrunk_flops_share": ""}
    kept, before = (sum(metrics[key].values()) for key in ("channels", "channels_dense"))
    share = metrics["shrunk_flops"] / metrics["flops_dense"]
    return {"channels_share": _cell(kept / before), "shrunk_flops_share": _cell(share)}


def _share(metrics: Mapping[str, Any], key: str) -> float | None:
    """Of the dense network's."""
    value, dense = metrics.get(key), metrics.get(f"{key}_dense")
    return float(value / dense) if value is not None and dense else None


def _standard_error(metrics: Mapping[str, Any]) -> float | None:
    accuracy, examples = metrics.get("test_accuracy"), metrics.get("test_examples")
    if accuracy is None or not examples:
        return None
    return float((accuracy * (1 - accuracy) / examples) ** 0.5)


def _cell(value: Any) -> str:
    """Six significant digits; empty for what is missing or wasn't computed (NaN)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _order(row: Row) -> tuple[str, str, str, str, float, int, str]:
    return (
        row["model"],
        row["data"],
        row["method"],
        row["optimizer"],
        float(row["sparsity_asked"] or 0),
        int(row["seed"] or 0),
        row["run"],
    )


_COUNTED = ("dead_filters", "classes_without_input", "epochs_trained", "examples_trained")


def show_table(found: Sequence[Row], console: Console) -> None:
    """Print rows compactly: what was asked, and what came out or what is in the way."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "state"):
        table.add_column(title, no_wrap=True)
    for title in (
        "accuracy %",
        "sparsity %",
        "of all %",
        "dead filters",
        "empty classes",
        "epochs",
        "examples",
        "seconds",
    ):
        table.add_column(title, justify="right", no_wrap=True)
    colours = {"finished": "green", "failed": "red", "interrupted": "yellow"}
    for row in found:
        accuracy, error = _percent(row["test_accuracy"]), _percent(row["test_accuracy_error"])
        table.add_row(
            Text(row["run"]),  # not str: brackets are markup
            Text(row["state"], style=colours.get(row["state"], "dim")),
            f"{accuracy} ± {error}" if accuracy else "",
            _percent(row["sparsity"]),
            _percent(row["sparsity_overall"]),
            *(Text(row[name]) for name in _COUNTED),
            f"{float(row['seconds']):.0f}" if row["seconds"] else "",
        )
    console.width = max(console.width, 120 + max((len(row["run"]) for row in found), default=0))
    console.print(table)
    for row in found:
        if row["error"]:
            console.print(f"{row['run']}: {row['error']}", style="red", markup=False, soft_wrap=True)


def _percent(share: str) -> str:
    return f"{100 * float(share):.2f}" if share else ""
