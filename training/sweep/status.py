"""What the folder of a run says about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from landscape.checkpoint.format import is_checkpoint
from landscape.checkpoint.integrity import check_seal
from landscape.errors import UserError
from landscape.files import read_text
from landscape.files.runs_table import is_name
from training.checkpoint import check_result, load_dict
from training.config import difference
from training.metrics import check_metrics
from training.sweep.older import completed

State = Literal["finished", "failed", "interrupted", "missing"]


@dataclass(frozen=True)
class Status:
    """Where a run stands; `epochs` are saved, `metrics` and `data` are those of ``final.pt``."""

    state: State
    error: str = ""
    epochs: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict, repr=False)
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Runs:
    """The folder of a sweep's runs; results are read once, as loading many of them takes seconds.

    `refused` has the runs that are finished and not what the sweep means, and why.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused: dict[str, str] = {}
        self._results: dict[str, tuple[int, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]] = {}

    def status(self, name: str, settings: Mapping[str, Any] | None = None) -> Status:
        """Status of a run; "failed" when the folder holds another's settings or result, or a damaged one."""
        folder = self.root / name
        if name in self.refused:
            return Status("failed", self.refused[name])
        try:
            there = self.settings(name)
            if there is None:
                return Status("missing")
            differences = difference(there, settings) if settings is not None else []
            if differences:
                text = f"{folder} holds another run: {'; '.join(differences)}"
                return Status("failed", f"{text}; move it away or choose another --output")
            epochs = saved_epochs(folder)
            if not (folder / "final.pt").exists():
                return Status("interrupted", epochs=epochs)
            metrics, data = self._result(name, there if settings is None else settings)
            return Status("finished", epochs=epochs, metrics=metrics, data=data)
        except UserError as error:
            return Status("failed", str(error))

    def settings(self, name: str) -> dict[str, Any] | None:
        """What ``run.json`` says; None when there is none, UserError when no training wrote it."""
        file = self.root / name / "run.json"
        try:
            content = json.loads(read_text(file))
            if not isinstance(content, dict):
                raise ValueError(f"it holds a {type(content).__name__}, expected settings")
            _check_settings(content)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{file} can't be read: {error}; remove the run") from error
        return content

    def names(self) -> list[str]:
        """All runs of the folder, of this sweep or another; no others than a table can name."""
        return sorted(file.parent.name for file in self.root.glob("*/run.json") if is_name(file.parent.name))

    def _result(self, name: str, settings: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Metrics and data of ``final.pt``; UserError when it says that it is another run's."""
        file = self.root / name / "final.pt"
        changed = file.stat().st_mtime_ns
        known = self._results.get(name)
        if known is None or known[0] != changed:
            content = _checked(file)
            metrics = content.get("metrics")
            if not is_checkpoint(content) or not isinstance(metrics, dict):
                raise UserError(f"{file} is no checkpoint with metrics; remove it")
            config, data = (
                value if isinstance(value, Mapping) else {}
                for value in (content.get("config"), content.get("data"))
            )
            known = changed, config, completed(content), data
            self._results[name] = known
        _, config, metrics, data = known
        if config:
            check_result(file, config, settings)
        return metrics, data

    def tidy(self, name: str, keep_state: bool) -> None:
        """Remove what a finished run needs no more: its state, and what a kill has left half-written."""
        folder = self.root / name
        for file in folder.glob(".*.tmp"):
            file.unlink(missing_ok=True)
        if not keep_state:
            (folder / "last.pt").unlink(missing_ok=True)


def _checked(file: Path) -> dict[str, Any]:
    """What ``final.pt`` holds, as it was written and with metrics that a training leaves."""
    content = load_dict(file)
    check_seal(content, file)
    if isinstance(content.get("metrics"), Mapping):
        check_metrics(content["metrics"], file)
    return content


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ValueError where what a table says of a run isn't what a training's settings are."""
    for name in ("method", "optimizer"):
        part = settings.get(name, {})
        if not isinstance(part, Mapping) or not isinstance(part.get("name", ""), str):
            raise ValueError(f"{name} is {str(part)[:40]!r}, expected an object with a name")
    for name in ("model", "data"):
        if not isinstance(settings.get(name, ""), str):
            raise ValueError(f"{name} is {str(settings[name])[:40]!r}, expected a name")
    for name in ("seed", "epochs"):
        if type(settings.get(name, 0)) is not int or settings.get(name, 0) < 0:
            raise ValueError(f"{name} is {str(settings[name])[:40]!r}, expected a whole number, not negative")
    sparsity = settings.get("method", {}).get("sparsity")
    if sparsity is not None and not (type(sparsity) in (int, float) and 0 <= sparsity <= 1):
        raise ValueError(f"the method's sparsity is {str(sparsity)[:40]!r}, expected 0 to 1")


def saved_epochs(folder: Path) -> int:
    """Epochs that the log of a run has."""
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0
