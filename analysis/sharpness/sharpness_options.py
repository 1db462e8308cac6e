"""The options of ``python -m analysis.sharpness``, in the groups in which its help shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from analysis.sharpness import MEASURES, Settings, check_names
from landscape.commandline.options import (
    BatchSize,
    Device,
    Flag,
    Int,
    Mask,
    Model,
    ParamsOption,
    Threads,
    TrustCheckpoint,
    Weights,
)
from landscape.commandline.outputs import check_text_outputs
from landscape.errors import UserError
from landscape.surface.surface_options import DataOptions, check_computation, check_data

_NETWORK = Group.create_ordered("Network")
_MEASURES = Group.create_ordered("Measures")
_COMPUTATION = Group.create_ordered("Computation")
_OUTPUT = Group.create_ordered("Output")


@Parameter(name="*", group=_NETWORK)
@dataclass(frozen=True)
class Network:
    """Which network the weights belong to."""

    model: Model = None

    mask: Mask = "auto"
    """Weights that no perturbation moves. `checkpoint`: those pruned by its mask; `zeros`: those that are
    exactly zero; `auto`: the first of these two that is there; `none`: every weight may move."""

    params: ParamsOption = ("trainable",)

    trust_checkpoint: TrustCheckpoint = False

    weights: Weights = None


@Parameter(name="*", group=_MEASURES)
@dataclass(frozen=True)
class Chosen:
    """Which measures, and their radii."""

    measures: Annotated[
        tuple[str, ...],
        Parameter(show_default="all", consume_multiple=True, negative=()),
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
        self.settings().check(_option)


@Parameter(name="*", group=_COMPUTATION)
@dataclass(frozen=True)
class Computation:
    """On what, and how precisely."""

    device: Device = "auto"

    dtype: Literal["float32", "float64"] = "float32"
    """Arithmetic."""

    batch_size: BatchSize = None

    threads: Threads = None


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class Output:
    """What to write, and where. `-` is standard output, without the table."""

    output: Annotated[Path | None, Parameter(show_default="none", name=["--output", "-o"])] = None
    """JSON that keeps every finished measure, so that the same command goes on after a stop. Results of other
    checkpoints that it holds stay there."""

    overwrite: Flag = False
    """Compute anew what the output file holds of these checkpoints, with whatever settings."""

    json: Annotated[str | None, Parameter(show_default="none", allow_leading_hyphen=True)] = None
    """Write the finished JSON here."""

    csv: Annotated[str | None, Parameter(show_default="none", allow_leading_hyphen=True)] = None
    """Write a line per checkpoint, split and measure here."""


@Parameter(name="*")
@dataclass(frozen=True)
class SharpnessOptions:
    """Everything that the command can be told."""

    network: Network = field(default_factory=Network)
    data: DataOptions = field(default_factory=DataOptions)
    chosen: Chosen = field(default_factory=Chosen)
    computation: Computation = field(default_factory=Computation)
    output: Output = field(default_factory=Output)

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
        self.chosen.check()
        check_data(self.data)
        computation = self.computation
        check_computation(computation.device, computation.batch_size, computation.threads)
        if self.output.output is not None and self.output.output.suffix != ".json":
            raise UserError(f"--output {self.output.output}: expected a name that ends in .json")
        output = self.output
        check_text_outputs({"--output": output.output, "--json": output.json, "--csv": output.csv}, inputs)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
