"""Groups of options that commands share: each option, its help and its check stand here alone.

A command's own options inherit from these. Annotations are objects here (no ``from __future__``), so that
what inherits them needs none of the names in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter, Token

from landscape.commandline.gpus import check_device
from landscape.commandline.outputs import DATA_FILES, RESULTS, check_unread
from landscape.errors import UserError

NETWORK, DATA = Group("Network", sort_key=1), Group("Data", sort_key=2)
COMPUTATION, OUTPUT = Group("Computation", sort_key=8), Group("Output", sort_key=9)

GIB = 1 << 30
# What a surface file may hold (`landscape.surface.schema`), and what no option is meant to count to.
_MOST = {
    "--planes": 10_000,
    "--threads": 4_096,
    "--workers": 1_024,
    "--points": 4_000,
    "--example-seed": 2**63 - 1,
}
_MOST_OF_ANYTHING = 10**9


def own_group(name: str, place: int = 3) -> Group:
    """A command's own group in its help: between the data (2) and the computation (8)."""
    return Group(name, sort_key=place)


def shown(default: str, **more: Any) -> Parameter:
    """What help shows as the default where the value itself doesn't say it."""
    return Parameter(show_default=default, **more)


def whole(_: Any, tokens: Sequence[Token]) -> int:
    """An integer as it stands; the parser's own conversion would round 1.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"expected a whole number, got {tokens[0].value!r}") from None


def at_least(name: str, value: int | None, least: int) -> None:
    """Refuse a count that is too small, or too large for anybody; UserError names the option."""
    if value is not None and value < least:
        raise UserError(f"{name} {value}: expected at least {least}")
    most = _MOST.get(name, _MOST_OF_ANYTHING)
    if value is not None and value > most:
        raise UserError(f"{name} {value}: expected at most {most}")


def option(field: str) -> str:
    """How a field is called on the command line."""
    return "--" + field.replace("_", "-")


Int: TypeAlias = Annotated[int, Parameter(converter=whole)]
Flag: TypeAlias = Annotated[bool, Parameter(negative=(), show_default="off")]
Switch: TypeAlias = Annotated[bool, Parameter(show_default="on")]
SEVERAL: dict[str, Any] = {"consume_multiple": True, "negative": ()}
"""Of an option that takes all words that follow."""
Several: TypeAlias = Annotated[tuple[Path, ...], shown("none", **SEVERAL)]
Text: TypeAlias = Annotated[str | None, shown("none", allow_leading_hyphen=True)]
"""A file to write a text to; ``-``, or nothing, is standard output."""


@Parameter(name="*", group=NETWORK)
@dataclass(frozen=True)
class CheckpointOptions:
    """How to read a checkpoint."""

    model: Annotated[str | None, shown("told by the checkpoint, or by its shapes")] = None
    """Architecture: one of ours (`resnet20`), `torchvision:NAME`, `timm:NAME` or `package.module:factory`;
    arguments go in brackets, as in `"resnet20(num_classes=100)"`."""

    params: Annotated[tuple[str, ...], shown("trainable", **SEVERAL)] = ("trainable",)
    """Which parameters move: `trainable` ones, `all`, or names and patterns such as `'layer3.*'`;
    `'!PATTERN'` leaves out. The others stay where they are."""

    trust_checkpoint: Flag = False
    """Unpickle whole modules and run TorchScript as it is. This runs code that is in the file: only for files
    of your own."""

    weights: Annotated[str | None, shown("those of the network, not averaged ones")] = None
    """Of a file with several sets of weights, the one under this key (`ema`) or this first part of names
    (`ema_model`)."""


@dataclass(frozen=True)
class NetworkOptions(CheckpointOptions):
    """Which network the weights belong to."""

    mask: Literal["auto", "checkpoint", "zeros", "none"] = "auto"
    """Weights that stay at zero whatever moves. `checkpoint`: those pruned by its mask; `zeros`: those that
    are exactly zero; `auto`: the first of these two that is there; `none`: no weights, the space is whole."""


@Parameter(name="*", group=DATA)
@dataclass(frozen=True)
class SourceOptions:
    """Where examples come from, and what loss they have."""

    data: Annotated[str | None, shown("what the checkpoint names, else what is on disk, else sample")] = None
    """`cifar10`, `cifar100`, `imagefolder:PATH`, `npz:PATH` (`train_x`, `train_y`, `test_x`, `test_y`),
    `sample` (CIFAR-10 images that come with this program) or `package.module:factory`."""

    data_root: Annotated[Path | None, shown("$SHARPSCAPE_DATA, else ./data")] = None
    """Folder of the data sets, in torchvision's layout."""

    download: Flag = False
    """Fetch CIFAR into the data root where it isn't there."""

    skip_broken: Flag = False
    """Leave pictures of an image folder out that can't be decoded; how many and which are stated. Without it
    one of them is refused."""

    loss: Annotated[str | None, shown("classification of labelled examples")] = None
    """`classification` (integer targets of any shape: texts, segmentation), `binary_classification`,
    `regression`, or `package.module:function`, called with a model and a batch. With it a factory's targets
    may be anything that the loss takes."""

    @property
    def sources(self) -> list[Path]:
        """Files and folders of data that options name."""
        return paths_of(self.data)


def paths_of(data: str | None) -> list[Path]:
    """What ``KIND:PATH`` names; of a callable nothing is known."""
    kind, _, path = (data or "").partition(":")
    return [Path(path)] if path and kind in DATA_FILES else []


@dataclass(frozen=True)
class DataOptions(SourceOptions):
    """Which examples the loss is averaged over."""

    split: Literal["train", "validation", "test", "both"] = "train"
    """Examples to use. `train`: those that the network was trained on, where the checkpoint says which, else
    all of the train split; `validation`: those of it that the run held out; `both`: train and test, of
    which the training examples steer the sampling."""

    mean: Annotated[tuple[float, ...], shown("the checkpoint's, else what is usual", **SEVERAL)] = ()
    """Mean of each channel by which pixels are normalized, as (pixel / 255 - MEAN) / STD; one number holds
    for all channels. Where neither this nor the checkpoint says it, the usual ones are tried on some images
    and the one with the lowest loss is taken."""

    std: Annotated[tuple[float, ...], shown("the checkpoint's, else what is usual", **SEVERAL)] = ()
    """Standard deviation of each channel, with --mean."""

    image_size: Annotated[int | None, shown("the model's, else that of most images", converter=whole)] = None
    """Side in pixels to which images are brought. By default timm's and torchvision's models get their own
    size, crop and interpolation for image folders; others the size that most images have, or 224 for
    photographs; data of one file stay as they are."""

    crop: Annotated[float | None, shown("the model's, else 1, for photographs 0.875")] = None
    """Share of the resized short side that is cut out of the middle."""

    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None,
        shown("the model's, else bilinear"),
    ] = None
    """Of resizing images."""

    image_memory: float = 1.0
    """GiB that pictures of a folder may take, decoded and normalized; more of them are decoded anew for each
    pass, by threads, and give the same bits."""

    examples: Int = 1000
    """Examples per split: a fixed, seeded, class-balanced subset. 0 takes all."""

    example_seed: Int = 0
    """Seed of that subset."""

    @property
    def image_bytes(self) -> float:
        """For decoded pictures."""
        return self.image_memory * GIB

    @property
    def splits(self) -> tuple[str, ...]:
        """Their names; the first one steers."""
        return ("train", "test") if self.split == "both" else (self.split,)

    def check(self) -> None:
        """Refuse counts below zero and half a normalization; UserError names the option."""
        at_least("--examples", self.examples, 0)
        at_least("--example-seed", self.example_seed, 0)
        if self.image_size is not None and not 1 <= self.image_size <= 4096:
            raise UserError(f"--image-size {self.image_size}: expected pixels, 1 to 4096")
        if not 0 <= self.image_memory < inf:
            raise UserError(f"--image-memory {self.image_memory}: expected GiB, 0 or more")
        if self.crop is not None and not 0.05 <= self.crop <= 1:
            raise UserError(f"--crop {self.crop:g}: expected a share, 0.05 to 1")
        if bool(self.mean) != bool(self.std):
            raise UserError("--mean and --std go together; give both")
        if len(self.mean) != len(self.std):
            raise UserError(
                f"--mean has {len(self.mean)} numbers, --std {len(self.std)}; expected as many of each"
            )
        if any(abs(one) > 1 for one in self.mean) or any(one > 2 for one in self.std):
            words = [" ".join(f"{one:g}" for one in numbers) for numbers in (self.mean, self.std)]
            raise UserError(
                f"--mean {words[0]} --std {words[1]}: pixels are scaled to 0..1 first; divide both by 255"
            )


@Parameter(name="*", group=COMPUTATION)
@dataclass(frozen=True)
class ComputationOptions:
    """On what, and how precisely."""

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:N`, or `auto`: CUDA where there is a device."""

    dtype: Literal["float32", "tf32", "bfloat16", "float64"] = "float32"
    """Arithmetic of the forward passes. `bfloat16` is for previews: about 1 % error in the loss."""

    batch_size: Annotated[int | None, shown("what suits the caches or the device", converter=whole)] = None
    """Examples per pass."""

    threads: Annotated[int | None, shown("all cores", converter=whole)] = None
    """CPU threads; of each process with `--workers` and `--devices`, there one by default."""

    def check(self) -> None:
        """Refuse an unknown device, and counts below one; UserError names the option."""
        at_least("--batch-size", self.batch_size, 1)
        at_least("--threads", self.threads, 1)
        check_device(self.device)


@dataclass(frozen=True)
class PreciseOptions(ComputationOptions):
    """On what, and how precisely: what can't be had of rounded numbers."""

    dtype: Literal["float32", "float64"] = "float32"
    """Arithmetic."""


@dataclass(frozen=True)
class GraphOptions(PreciseOptions):
    """On what, how precisely, and how much memory for what is differentiated twice."""

    memory: Annotated[float | None, shown("4, or half of what is free on a GPU")] = None
    """GiB that the gradient's graph may take; what doesn't fit is computed again for each product."""

    @property
    def memory_bytes(self) -> float | None:
        """For the graphs; None for the default."""
        return None if self.memory is None else self.memory * GIB

    def check(self) -> None:
        """As `ComputationOptions.check`, and memory below 0 or that is no number."""
        super().check()
        if self.memory is not None and not 0 <= self.memory < inf:
            raise UserError(f"--memory {self.memory}: expected GiB, 0 or more")


@Parameter(name="*", group=OUTPUT)
@dataclass(frozen=True)
class OutputOptions:
    """What to write, and where."""

    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
    """A folder."""

    overwrite: Flag = False
    """Compute anew what is there already, with whatever settings."""

    quiet: Flag = False
    """Print results and errors only: no progress, and nothing of what was recognised and chosen."""


@Parameter(name="*")
@dataclass(frozen=True)
class SubjectOptions:
    """What every command of checkpoints can be told; see `landscape.commandline.subject`."""

    network: NetworkOptions = field(default_factory=NetworkOptions)
    data: DataOptions = field(default_factory=DataOptions)
    computation: ComputationOptions = field(default_factory=ComputationOptions)
    output: OutputOptions = field(default_factory=OutputOptions)

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
        self.data.check()
        self.computation.check()
        check_unread("--output", self.output.output, self.read(inputs), RESULTS)

    def read(self, inputs: Sequence[Path]) -> list[Path]:
        """Files and folders that the command reads: `inputs`, and what options name."""
        return [*inputs, *self.data.sources]
