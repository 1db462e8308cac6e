"""One training of a sweep: its name, its settings and its command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.images import KINDS
from training.config import RunConfig
from training.sweep.settings import check_known


@dataclass(frozen=True)
class PlannedRun:
    """One training of a sweep.

    Attributes
    ----------
    name
        Of the run and its folder.
    config, settings
        What it will be, and the same as ``run.json`` holds it.
    epochs
        Of all its rounds; see :func:`training.sweep.length.planned_epochs`.
    arguments
        The command line of ``python -m training`` that gives these settings.
    """

    name: str
    config: RunConfig = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    epochs: int = field(repr=False)
    arguments: tuple[str, ...] = field(repr=False)


def data_name(data: str) -> str:
    """What a run's settings call the data: free of paths.

    >>> data_name("npz:images/cifar10.npz")
    'cifar10'
    """
    kind, _, path = data.partition(":")
    kinds = [known.partition(":")[0] for known in KINDS]
    check_known([kind], kinds, f"data {data}", "kind")
    if (f"{kind}:PATH" in KINDS) != bool(path):
        raise UserError(f"data {data!r}: expected one of {', '.join(KINDS)}")
    if not path:
        return data
    return Path(path).stem if kind == "npz" else Path(path).resolve().name
