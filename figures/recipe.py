"""How the runs of a folder were trained: what they have in common, and what they don't. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.robustness.result import COMMON
from figures.results import Name, Results
from landscape.errors import UserError
from landscape.escaping import markdown
from landscape.files.json_files import read_json

SHOWN = ("model", "data", "examples", "epochs", "batch_size", "precision", "validation", "augment", "lr")
OWN = ("method", "optimizer", "seed")  # in these runs are meant to differ
Settings = Mapping[str, Any]


def recipe(results: Results) -> list[str]:
    """Lines of Markdown: the settings that people ask for, and every one that isn't the same in all runs.

    Settings of a method are compared among its runs, but for the sparsity. Of an optimizer's those that every
    one has, such as the learning rate, are compared among all runs; others, such as rho, among its own.
    """
    begun = {one: name for one, name in results.names.items() if results.begun(name)}
    settings = [_settings(results, one, name) for one, name in begun.items()]
    found = [one for one in settings if one is not None]
    told: dict[str, list[str]] = {}
    for one in found:
        for name, value in one.items():
            told.setdefault(name, []).append(str(value))
    values = {name: list(dict.fromkeys(texts)) for name, texts in told.items()}
    shared = [
        f"{_words(name)} {values[name][0]}"
        for name in SHOWN
        if len(values.get(name, ())) == 1 and values[name] != ["None"]
    ]
    different = [f"{_words(name)} {'; '.join(one)}" for name, one in values.items() if len(one) > 1]
    silent = f" ({len(begun) - len(found)} of {len(begun)} runs don't say)" if len(found) < len(begun) else ""
    lines = [f"- training: {markdown(', '.join(shared))}{silent}"] if shared else []
    return lines + ([f"- **not trained alike**: {markdown(', '.join(different))}"] if different else [])


def _settings(results: Results, one: Name, name: str) -> Settings | None:
    """Of one run, by what they are called here; None where it didn't leave any."""
    path = results.root / "runs" / name / "run.json"
    if not path.is_file():
        return None
    settings = read_json(path, "the settings of a run")
    optimizer = settings.get("optimizer") if isinstance(settings, Mapping) else None
    if not isinstance(optimizer, Mapping):
        raise UserError(f"{path}: not the settings of a run; train it anew")
    method = settings.get("method")
    found = {key: value for key, value in settings.items() if key not in OWN}
    for key, value in optimizer.items():
        if key != "name":
            found[key if key in COMMON else f"{one.optimizer}'s {key}"] = value
    for key, value in method.items() if isinstance(method, Mapping) else ():
        if key not in ("name", "sparsity"):
            found[f"{one.method}'s {key}"] = value
    return found


def _words(name: str) -> str:
    return name.replace("_", " ")
