"""The options of ``python -m analysis.sharpness``, in the groups in which its help shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from analysis.sharpness import MEASURES, Settings, check_names
from landscape.commandline.cluster_options import ClusterOptions
from landscape.commandline.options import (
    SEVERAL,
    Int,
    OutputOptions,
    PreciseOptions,
    SubjectOptions,
    Text,
    option,
    own_group,
    shown,
)
from landscape.commandline.outputs import check_text_outputs

_MEASURES = own_group("Measures")


@Parameter(name="*", group=_MEASURES)
@dataclass(frozen=True)
class ChosenMeasures:
    """Which measures, and their radii."""

    measures: Annotated[
        tuple[str, ...],
        shown("all", **SEVERAL),
    ] = ()
    """Names of measures."""

    rho: float = Settings.rho
    """SAM: radius of the ball, in units of the weights."""

    adaptive_rho: float = Settings.adaptive_rho
    """ASAM: radius of the ball, relative to |w| + η."""

    eta: float = Settings.eta
    """ASAM: η."""

    epsilon: float = Settings.epsilon
    """Keskar: half-width of the box, relative to |w| + 1."""

    sigma: float = Settings.sigma
    """Gaussian: standard deviation of the perturbation, in units of the weights."""

    relative_sigma: float = Settings.relative_sigma
    """Gaussian by weight or by filter: the same, relative to them."""

    draws: Int = Settings.draws
    """Gaussian: antithetic pairs of perturbations."""

    steps: Int = Settings.steps
    """Ascent: steps from each start."""

    starts: Int = Settings.starts
    """Ascent: starts, the one-step solution and random ones."""

    seed: Int = Settings.seed
    """Of perturbations and starts."""

    def settings(self) -> Settings:
        """What determines the numbers."""
        return Settings(**{name: getattr(self, name) for name in Settings.__dataclass_fields__})

    def names(self) -> tuple[str, ...]:
        """The measures, each once, in the order of the table."""
        return tuple(name for name in MEASURES if name in (self.measures or MEASURES))

    def check(self) -> None:
        """Refuse what can't work.

        Raises
        ------
        UserError
            Naming the option, what came and what is expected.
        """
        check_names(self.measures)
        self.settings().check(option)


@dataclass(frozen=True)
class SharpnessOutput(OutputOptions):
    """What to write, and where. `-` is standard output, without the table."""

    output: Annotated[Path | None, shown("the folder sharpness", name=["--output", "-o"])] = None
    """A folder, or one file `NAME.json` for all checkpoints. Every finished measure is kept there, so that
    the same command goes on after a stop; results of other checkpoints in such a file stay."""

    json: Text = None
    """Write the finished JSON here."""

    csv: Text = None
    """Write a line per checkpoint, split and measure here."""


@Parameter(name="*")
@dataclass(frozen=True)
class SharpnessOptions(SubjectOptions):
    """Everything that the command can be told."""

    chosen: ChosenMeasures = field(default_factory=ChosenMeasures)
    computation: PreciseOptions = field(default_factory=PreciseOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    output: SharpnessOutput = field(default_factory=SharpnessOutput)

    def check(self, inputs: Sequence[Path] = ()) -> None:
        """As `SubjectOptions.check`."""
        super().check(inputs)
        self.chosen.check()
        self.cluster.check(self.computation.device)
        output = self.output
        one_file = output.output if output.output is not None and output.output.suffix == ".json" else None
        texts = {"--output": one_file, "--json": output.json, "--csv": output.csv}
        check_text_outputs(texts, self.read(inputs))
