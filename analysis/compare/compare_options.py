"""The options of ``python -m analysis.compare``, in the groups in which its help shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from analysis.sharpness.sharpness_options import Chosen, Computation, Network, Output, SharpnessOptions
from landscape.commandline.options import Flag, Int
from landscape.commandline.outputs import check_text_outputs
from landscape.errors import UserError
from landscape.surface.surface_options import DataOptions

_COMPARE = Group.create_ordered("Comparison")
_OUTPUT = Group.create_ordered("Output")


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class CompareOutput:
    """What to write, and where. `-` is standard output, without the table."""

    csv: Annotated[str | None, Parameter(show_default="none", allow_leading_hyphen=True)] = None
    """Write a line per network here."""

    latex: Annotated[str | None, Parameter(show_default="none", allow_leading_hyphen=True)] = None
    """Write the tables for LaTeX (with booktabs) here."""

    json: Annotated[str | None, Parameter(show_default="none", allow_leading_hyphen=True)] = None
    """Write everything here."""

    output: Annotated[Path | None, Parameter(show_default="none", name=["--output", "-o"])] = None
    """Folder that keeps what --hessian and --sharpness computed, so that the same command goes on."""

    overwrite: Flag = False
    """Compute anew what that folder holds."""


@Parameter(name="*")
@dataclass(frozen=True)
class CompareOptions:
    """Everything that the command can be told."""

    pair: Annotated[tuple[str, str] | None, Parameter(show_default="none", group=_COMPARE, negative=())] = (
        None
    )
    """Two words: networks whose names differ only in them are paired, and the second is tested against the
    first."""

    hessian: Annotated[Flag, Parameter(group=_COMPARE)] = False
    """Compute λmax and trace of the checkpoints."""

    sharpness: Annotated[Flag, Parameter(group=_COMPARE)] = False
    """Compute the sharpness of the checkpoints."""

    test_seed: Annotated[Int, Parameter(group=_COMPARE)] = 0
    """Of the permutations that are drawn for more than 16 pairs."""

    network: Network = field(default_factory=Network)
    data: DataOptions = field(default_factory=DataOptions)
    chosen: Chosen = field(default_factory=Chosen)
    computation: Computation = field(default_factory=Computation)
    output: CompareOutput = field(default_factory=CompareOutput)

    def check(self, inputs: Sequence[Path] = ()) -> None:
        """Refuse what can't work, before any file is read.

        Parameters
        ----------
        inputs
            Files that the command reads; nothing is written over them.

        Raises
        ------
        UserError
            Naming the option, what came and what is expected.
        """
        self.sharpness_options().check()
        if self.data.split == "both":
            raise UserError("--split both: a comparison measures on one split; choose train or test")
        if self.test_seed < 0:
            raise UserError(f"--test-seed {self.test_seed}: expected at least 0")
        output = self.output
        check_text_outputs({"--csv": output.csv, "--latex": output.latex, "--json": output.json}, inputs)

    def sharpness_options(self) -> SharpnessOptions:
        """What ``analysis.sharpness`` has too, in its form."""
        return SharpnessOptions(
            network=self.network,
            data=self.data,
            chosen=self.chosen,
            computation=self.computation,
            output=Output(overwrite=self.output.overwrite),
        )
