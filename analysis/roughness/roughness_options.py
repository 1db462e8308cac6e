"""The options of ``python -m analysis.roughness``, in the groups in which its help shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from cyclopts import Parameter

from landscape.commandline.options import OUTPUT, Flag, Text, own_group, shown


@Parameter(name="*", group=own_group("What to measure"))
@dataclass(frozen=True)
class MeasureOptions:
    """Of which part of the surfaces, and how."""

    split: Annotated[str | None, shown("every one in the files")] = None
    """Only this set of examples."""

    span: Annotated[float | None, shown("the whole grid")] = None
    """Only the square |α|, |β| ≤ SPAN."""

    reference: Literal["mean", "plane"] = "mean"
    """Heights above the mean or the least-squares plane."""

    log: Flag = False
    """Show log loss in the table, in place of the loss."""


@Parameter(name="*", group=OUTPUT)
@dataclass(frozen=True)
class TextOutput:
    """What to write in place of a table on the terminal."""

    json: Text = None
    """Write JSON to a file, or print it where no file is named."""

    csv: Text = None
    """Write CSV to a file, or print it where no file is named."""


@Parameter(name="*")
@dataclass(frozen=True)
class RoughnessOptions:
    """Everything that the command can be told."""

    measure: MeasureOptions = field(default_factory=MeasureOptions)
    output: TextOutput = field(default_factory=TextOutput)
