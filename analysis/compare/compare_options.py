"""The options of ``python -m analysis.compare``, in the groups in which its help shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from analysis.sharpness.sharpness_options import ChosenMeasures, SharpnessOptions
from landscape.commandline.options import (
    Flag,
    Int,
    OutputOptions,
    PreciseOptions,
    SubjectOptions,
    Text,
    own_group,
    shown,
)
from landscape.commandline.outputs import check_text_outputs
from landscape.errors import UserError

_COMPARE = own_group("Comparison", 0)


@dataclass(frozen=True)
class CompareOutput(OutputOptions):
    """What to write, and where. `-` is standard output, without the table."""

    csv: Text = None
    """Write a line per network here."""

    latex: Text = None
    """Write the tables for LaTeX (with booktabs) here."""

    json: Text = None
    """Write everything here."""

    output: Annotated[Path | None, shown("none", name=["--output", "-o"])] = None
    """Folder that keeps what --hessian and --sharpness computed, so that the same command goes on."""


@Parameter(name="*", group=_COMPARE)
@dataclass(frozen=True)
class ComparisonOptions:
    """What to compare, and what to compute for it."""

    pair: Annotated[tuple[str, str] | None, shown("none", negative=())] = None
    """Two words: networks whose names differ only in them are paired, and the second is tested against the
    first."""

    hessian: Flag = False
    """Compute λmax and trace of the checkpoints."""

    sharpness: Flag = False
    """Compute the sharpness of the checkpoints."""

    test_seed: Int = 0
    """Of the permutations that are drawn for more than 16 pairs."""


@Parameter(name="*")
@dataclass(frozen=True)
class CompareOptions(SubjectOptions):
    """Everything that the command can be told."""

    comparison: ComparisonOptions = field(default_factory=ComparisonOptions)
    chosen: ChosenMeasures = field(default_factory=ChosenMeasures)
    computation: PreciseOptions = field(default_factory=PreciseOptions)
    output: CompareOutput = field(default_factory=CompareOutput)

    def check(self, inputs: Sequence[Path] = ()) -> None:
        """As `SubjectOptions.check`."""
        super().check(inputs)
        self.chosen.check()
        if self.data.split == "both":
            raise UserError("--split both: a comparison measures on one split; choose train or test")
        if self.comparison.test_seed < 0:
            raise UserError(f"--test-seed {self.comparison.test_seed}: expected at least 0")
        output = self.output
        texts = {"--csv": output.csv, "--latex": output.latex, "--json": output.json}
        check_text_outputs(texts, self.read(inputs))

    def sharpness_options(self) -> SharpnessOptions:
        """What ``analysis.sharpness`` has too, in its form."""
        return SharpnessOptions(self.network, self.data, self.computation, chosen=self.chosen)
