"""The options of ``python -m analysis.connectivity``, in the groups in which its help shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from analysis.connectivity.recipe import Curve, Training
from landscape.commandline.duration import parse_duration
from landscape.commandline.options import (
    CheckpointOptions,
    DataOptions,
    Int,
    NetworkOptions,
    OutputOptions,
    PreciseOptions,
    SubjectOptions,
    Switch,
    Text,
    own_group,
    shown,
)
from landscape.commandline.options import option as option_of
from landscape.commandline.outputs import check_text_outputs
from landscape.errors import UserError

MOST_POINTS = 4_000
_CURVE, _TRAINING = own_group("Curve", 3), own_group("Training of the bend", 4)


@dataclass(frozen=True)
class ConnectivityNetwork(CheckpointOptions):
    """Which networks the weights belong to."""

    batch_norm: Literal["recalibrate", "interpolate"] = "recalibrate"
    """Running statistics of batch norm along a curve: estimated anew at each point on the training examples,
    or interpolated between the two checkpoints', so that the ends are evaluated as they are."""


@dataclass(frozen=True)
class ConnectivityData(DataOptions):
    """Which examples the loss is averaged over."""

    split: Literal["train", "validation", "test", "both"] = "both"
    """Examples to evaluate on. `train`: those that both networks were trained on, where their checkpoints
    say which, else all of the train split; `validation`: those of it that both held out; `both`: train and
    test."""


@Parameter(name="*", group=_CURVE)
@dataclass(frozen=True)
class CurveOptions:
    """Which way to go."""

    curve: Literal["linear", "bezier", "both"] = "both"
    """The straight line; a quadratic Bézier curve whose middle point is trained for a low loss along it
    (Garipov et al. 2018); or both."""

    points: Int = 21
    """Values of t, evenly spaced from 0 (first checkpoint) to 1 (second)."""

    mask: Literal["union", "none"] = "union"
    """Weights that the bend may use, where both networks are sparse: `union`, those that one of the two
    keeps, as on the straight line; `none`, all of them."""

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Which are asked for."""
        return ("linear", "bezier") if self.curve == "both" else (self.curve,)


@Parameter(name="*", group=_TRAINING)
@dataclass(frozen=True)
class TrainingOptions:
    """SGD on the middle point, at a random t and on a random batch in each step."""

    steps: Int = 1000
    """Steps. 0 leaves the bend half-way on the straight line."""

    step_size: Annotated[Int, Parameter(name="--train-batch-size")] = 128
    """Examples in a step."""

    train_examples: Int = 0
    """Training examples to use: a fixed, seeded, class-balanced subset. 0 takes all."""

    lr: float = 0.05
    """Learning rate at the start; it falls to 0 as a cosine."""

    momentum: float = 0.9
    """Of SGD."""

    weight_decay: float = 0.0
    """Of the middle point."""

    seed: Int = 0
    """Of the order of the examples and every t."""

    @property
    def training(self) -> Training:
        """For the library."""
        return Training(self.steps, self.step_size, self.lr, self.momentum, self.weight_decay, self.seed)


@dataclass(frozen=True)
class ConnectivityComputation(PreciseOptions):
    """On what, how precisely, how long."""

    time_budget: Annotated[str | None, shown("none")] = None
    """Stop after a time such as `30m` or `2h`, keeping what was computed; the same command goes on."""


@dataclass(frozen=True)
class ConnectivityOutput(OutputOptions):
    """What to write, and where."""

    output: Annotated[Path | None, shown("the folder connectivity", name=["--output", "-o"])] = None
    """A folder: for checkpoints A and B, `A--B.linear.surface.h5` and `A--B.bezier.surface.h5` (α is t),
    the bend as a checkpoint `A--B.bend.pt`, and the picture `A--B.png`."""

    json: Text = None
    """Write everything as JSON here; `-` is standard output, without the table."""

    plot: Switch = True
    """Write the picture (PNG)."""


@Parameter(name="*")
@dataclass(frozen=True)
class ConnectivityOptions:
    """Everything that the command can be told."""

    network: ConnectivityNetwork = field(default_factory=ConnectivityNetwork)
    data: ConnectivityData = field(default_factory=ConnectivityData)
    curve: CurveOptions = field(default_factory=CurveOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    computation: ConnectivityComputation = field(default_factory=ConnectivityComputation)
    output: ConnectivityOutput = field(default_factory=ConnectivityOutput)

    @property
    def subject(self) -> SubjectOptions:
        """What is common to both networks; each mask is what it is."""
        network = self.network
        read = NetworkOptions(network.model, network.params, network.trust_checkpoint, network.weights)
        return SubjectOptions(read, self.data, self.computation, self.output)

    def check(self, inputs: Sequence[Path] = ()) -> None:
        """As `SubjectOptions.check`."""
        output = self.output.output
        if output is not None and (output.is_file() or output.suffix in (".h5", ".pt", ".png", ".json")):
            raise UserError(f"--output {output} names a file; name a folder")
        self.subject.check(inputs)
        if self.curve.points < 3:
            raise UserError(f"--points {self.curve.points}: expected at least 3")
        if self.curve.points > MOST_POINTS:
            raise UserError(f"--points {self.curve.points}: expected at most {MOST_POINTS}")
        if self.training.train_examples < 0:
            raise UserError(f"--train-examples {self.training.train_examples}: expected at least 0")
        self.training.training.check(_option)
        if self.computation.time_budget is not None:
            parse_duration(self.computation.time_budget)
        check_text_outputs({"--json": self.output.json}, self.subject.read(inputs))

    @property
    def seconds(self) -> float | None:
        """The time budget."""
        budget = self.computation.time_budget
        return None if budget is None else parse_duration(budget)


def _option(field: str) -> str:
    return "--train-batch-size" if field == "batch_size" else option_of(field)
