"""The options of ``python -m analysis.robustness``, in the groups in which its help shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from analysis.robustness.corruption_names import CORRUPTIONS, check_corruptions
from landscape.commandline.options import (
    DATA,
    SEVERAL,
    DataOptions,
    Flag,
    Int,
    OutputOptions,
    PreciseOptions,
    SubjectOptions,
    Text,
    at_least,
    own_group,
    paths_of,
    shown,
)
from landscape.commandline.outputs import check_text_outputs
from landscape.errors import UserError

_CORRUPTIONS = own_group("Corruptions")

FILES = ("cifar10c:", "cifar100c:", "imagenetc:")


@Parameter(name="*", group=DATA)
@dataclass(frozen=True)
class RobustnessData(DataOptions):
    """Which images."""

    data: Annotated[str | None, shown("what the checkpoint names, else what is on disk, else sample")] = None
    """`cifar10c:PATH`, `cifar100c:PATH` or `imagenetc:PATH`: a data set of corrupted images as it is
    published. Or clean images, which are then corrupted here: `cifar10`, `cifar100`, `imagefolder:PATH`,
    `npz:PATH`, `sample` or `package.module:factory`. Only the former give numbers that can be compared with
    published ones."""

    clean: Annotated[str | None, shown("CIFAR's test split where it is on disk, else none")] = None
    """For published corrupted images: where the clean ones are, as for `--data`."""

    split: Literal["test", "validation", "train"] = "test"
    """Clean images to use."""

    examples: Int = 0
    """Images: a fixed, seeded, class-balanced subset. 0 takes all."""

    @property
    def sources(self) -> list[Path]:
        """As `SourceOptions.sources`, and where the clean images are."""
        return [*super().sources, *paths_of(self.clean)]

    @property
    def kind(self) -> str:
        """Of published data "cifar10c", "cifar100c" or "imagenetc"; "" for clean images."""
        name = (self.data or "").partition(":")[0]
        return name if f"{name}:" in FILES else ""

    def check(self) -> None:
        """As `DataOptions.check`, and paths that are missing."""
        super().check()
        name, _, path = (self.data or "").partition(":")
        if f"{name}:" in FILES and not path:
            raise UserError(f"--data {self.data}: expected {name}:PATH, the folder in which its files lie")
        if self.clean is not None and not self.kind:
            raise UserError(
                "--clean goes with published corrupted images; others are made from those of --data"
            )
        if self.clean is not None and self.clean.startswith(FILES):
            raise UserError(f"--clean {self.clean}: expected images without corruption")
        prepared = ("image_size", "crop", "interpolation", "skip_broken")
        given = [f"--{one.replace('_', '-')}" for one in prepared if self.kind and getattr(self, one)]
        if given:
            raise UserError(
                f"{' and '.join(given)}: published corrupted images are taken as they are, and clean ones as "
                "those were made; leave it out"
            )
        if self.loss is not None:
            raise UserError("--loss: robustness counts right answers and has no loss; leave it out")


@Parameter(name="*", group=_CORRUPTIONS)
@dataclass(frozen=True)
class ChosenCorruptions:
    """Which corruptions, and what their errors are divided by."""

    corruptions: Annotated[tuple[str, ...], shown("all 19", **SEVERAL)] = ()
    """Names of corruptions, each at five severities. Mean accuracy and mean corruption error need the 15 of
    the benchmark."""

    generate_missing: Flag = False
    """Make corruptions that have no file from the clean images. They are named generated in every result."""

    corruption_seed: Int = 0
    """Of corruptions that are made here."""

    reference: Annotated[Path | None, shown("AlexNet for published ImageNet-C, else none")] = None
    """A result of this command for another network on the same images, by whose errors the mean corruption
    error is divided. Without one, CIFAR's is the plain mean error."""

    def names(self) -> tuple[str, ...]:
        """Each once, in the order of the table."""
        return check_corruptions(self.corruptions or CORRUPTIONS)

    def check(self) -> None:
        """Refuse unknown names and seeds; UserError."""
        self.names()
        at_least("--corruption-seed", self.corruption_seed, 0)


@dataclass(frozen=True)
class RobustnessOutput(OutputOptions):
    """What to write, and where. `-` is standard output, without the table."""

    output: Annotated[Path | None, shown("the folder robustness", name=["--output", "-o"])] = None
    """A folder, or for one checkpoint a file `NAME.robustness.h5`. Every finished corruption and severity is
    kept there, so that the same command goes on after a stop."""

    json: Text = None
    """Write results as JSON here."""

    csv: Text = None
    """Write a line per checkpoint, corruption and severity here."""


@Parameter(name="*")
@dataclass(frozen=True)
class RobustnessOptions(SubjectOptions):
    """Everything that the command can be told."""

    data: RobustnessData = field(default_factory=RobustnessData)
    chosen: ChosenCorruptions = field(default_factory=ChosenCorruptions)
    computation: PreciseOptions = field(default_factory=PreciseOptions)
    output: RobustnessOutput = field(default_factory=RobustnessOutput)

    def check(self, inputs: Sequence[Path] = ()) -> None:
        """As `SubjectOptions.check`."""
        super().check(inputs)
        self.chosen.check()
        output = self.output
        check_text_outputs({"--json": output.json, "--csv": output.csv}, self.read(inputs))
        if self.chosen.generate_missing and not self.data.kind:
            raise UserError(
                "--generate-missing goes with published files; of clean images all are made anyway"
            )

    def read(self, inputs: Sequence[Path]) -> list[Path]:
        """As `SubjectOptions.read`, and the reference."""
        reference = self.chosen.reference
        return [*super().read(inputs), *([] if reference is None else [reference])]
