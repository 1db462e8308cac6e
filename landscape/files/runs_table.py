"""``results.csv``, the table of a sweep's runs, as everything that reads it may take it for granted."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Mapping
from math import isfinite, isnan
from pathlib import Path

from landscape.errors import UserError
from landscape.files import check_regular

LARGEST = 64 << 20  # bytes
LONGEST_NAME = 255  # bytes
STATES = ("finished", "failed", "interrupted", "missing")
_SHARES = (
    "test_accuracy",
    "validation_accuracy",
    "sparsity",
    "sparsity_overall",
    "sparsity_asked",
    "channels_share",
)
_NOT_NEGATIVE = (
    "test_accuracy_error",
    "seconds",
    "exploration",
    "flops_share",
    "training_flops_share",
    "shrunk_flops_share",
)
_COUNTS = (
    *("seed", "epochs", "epochs_trained", "examples_trained", "kept_weights", "flops", "training_flops"),
    *("shrunk_parameters", "dead_filters", "classes_without_input"),
)
_LOSSES = ("test_loss", "validation_loss", "train_loss")

Row = dict[str, str]


def read_runs(path: Path, remedy: str) -> dict[str, Row]:
    """The rows by run; empty when there is no file.

    Parameters
    ----------
    path
        The table.
    remedy
        What to do about one that can't be read, for messages.

    Raises
    ------
    UserError
        When it is no such table, or a row holds what none can.
    """
    try:
        if check_regular(path) > LARGEST:
            raise UserError(f"{path}: larger than {LARGEST >> 20} MiB, no table of a sweep; {remedy}")
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            names = list(reader.fieldnames or ())
            if not {"run", "state"} <= set(names) or len(set(names)) < len(names):
                raise UserError(
                    f"{path} is no table of a sweep; expected columns run and state, and more; {remedy}"
                )
            found: dict[str, Row] = {}
            for row in reader:
                check_row(row)
                if row["run"] in found:
                    raise ValueError(f"the run {row['run']} is there twice")
                found[row["run"]] = row
            return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} can't be read: {error}; {remedy}") from error


def is_name(run: str) -> bool:
    """Whether a run may be called that: a folder's name of visible letters, as long as one may be."""
    bad = any(letter in "/\\" or unicodedata.category(letter).startswith("C") for letter in run)
    return bool(run) and not bad and run not in (".", "..") and len(os.fsencode(run)) <= LONGEST_NAME


def check_row(row: Mapping[str, object] | Mapping[str | None, object]) -> None:
    """Raise ValueError for a row that no sweep writes."""
    name = row.get("run")
    if None in row or any(not isinstance(value, str) for value in row.values()):
        raise ValueError(f"the row of {name} has more cells than the head")
    texts = {str(key): str(value) for key, value in row.items()}
    run = texts["run"]
    if not is_name(run):
        raise ValueError(f"{run[:60]!r} is no name of a run")
    if texts["state"] not in STATES:
        raise ValueError(f"{run}: the state {texts['state'][:40]!r} is none of {', '.join(STATES)}")
    for key in (*_SHARES, *_NOT_NEGATIVE, *_COUNTS, *_LOSSES):
        if texts.get(key):
            _check_number(f"{run}: {key}", key, texts[key])


def _check_number(name: str, key: str, text: str) -> None:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text[:40]!r}, not a number") from None
    if isnan(value) or (key not in _LOSSES and not isfinite(value)):
        raise ValueError(f"{name} is {text}")
    if key in _SHARES and not 0 <= value <= 1:
        raise ValueError(f"{name} is {text}, outside 0 to 1")
    if key in (*_NOT_NEGATIVE, *_COUNTS) and value < 0:
        raise ValueError(f"{name} is {text}, negative")
    if key in _COUNTS and (value != int(value) or not text.isascii() or not text.isdecimal()):
        raise ValueError(f"{name} is {text}, not a whole number")
