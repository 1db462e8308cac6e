"""The options of ``python -m landscape.surface``, in the groups in which its help shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from landscape.commandline.options import (
    BatchSize,
    Device,
    Flag,
    Int,
    Mask,
    Model,
    ParamsOption,
    SparseChoice,
    Threads,
    TrustCheckpoint,
    Weights,
    whole,
)
from landscape.errors import UserError
from landscape.surface.spans import SPANS

_NETWORK = Group.create_ordered("Network")
_DATA = Group.create_ordered("Data")
_PLANE = Group.create_ordered("Plane")
_SAMPLING = Group.create_ordered("Sampling")
_COMPUTATION = Group.create_ordered("Computation")
_OUTPUT = Group.create_ordered("Output")

LEAST_POINTS = 50  # with fewer, next to nothing is known about the error of what lies between


def _default(text: str, **more: Any) -> Parameter:
    """What help shows as the default where the value itself doesn't say it."""
    return Parameter(show_default=text, **more)


@Parameter(name="*", group=_NETWORK)
@dataclass(frozen=True)
class NetworkOptions:
    """Which network the weights belong to."""

    model: Model = None

    mask: Mask = "auto"
    """Weights that the plane leaves at zero. `checkpoint`: those pruned by its mask; `zeros`: those that are
    exactly zero; `auto`: the first of these two that is there; `none`: no weights, the plane is dense."""

    params: ParamsOption = ("trainable",)

    batch_norm: Annotated[
        Literal["fixed", "recalibrate"] | None, _default("fixed; recalibrate with --between, --trajectory")
    ] = None
    """Running statistics of batch norm: the checkpoint's everywhere, or estimated anew at each point."""

    trust_checkpoint: TrustCheckpoint = False

    weights: Weights = None


@Parameter(name="*", group=_DATA)
@dataclass(frozen=True)
class DataOptions:
    """Which examples the loss is averaged over."""

    data: Annotated[str | None, _default("what the checkpoint names, else what is on disk, else sample")] = (
        None
    )
    """`cifar10`, `cifar100`, `imagefolder:PATH`, `npz:PATH` (`train_x`, `train_y`, `test_x`, `test_y`),
    `sample` (CIFAR-10 images that come with this program) or `package.module:factory`."""

    data_root: Annotated[Path | None, _default("$SHARPSCAPE_DATA, else ./data")] = None
    """Folder of the data sets, in torchvision's layout."""

    download: Flag = False
    """Fetch CIFAR into the data root where it isn't there."""

    split: Literal["train", "validation", "test", "both"] = "train"
    """Examples to use. `train`: those that the network was trained on, where the checkpoint says which, else
    all of the train split; `validation`: those of it that the run held out; `both`: train and test, of
    which the training examples steer the sampling."""

    mean: Annotated[
        tuple[float, ...],
        _default("the checkpoint's, else what is usual", consume_multiple=True, negative=()),
    ] = ()
    """Mean of each channel by which pixels are normalized, as (pixel / 255 - MEAN) / STD; one number holds
    for all channels. Where neither this nor the checkpoint says it, the usual ones are tried on some images
    and the one with the lowest loss is taken."""

    std: Annotated[
        tuple[float, ...],
        _default("the checkpoint's, else what is usual", consume_multiple=True, negative=()),
    ] = ()
    """Standard deviation of each channel, with --mean."""

    image_size: Annotated[int | None, _default("the model's, else that of most images", converter=whole)] = (
        None
    )
    """Side in pixels to which images are brought. By default timm's and torchvision's models get their own
    size, crop and interpolation for image folders; others the size that most images have, or 224 for
    photographs; data of one file stay as they are."""

    crop: Annotated[float | None, _default("the model's, else 1, for photographs 0.875")] = None
    """Share of the resized short side that is cut out of the middle."""

    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None,
        _default("the model's, else bilinear"),
    ] = None
    """Of resizing images."""

    examples: Int = 1000
    """Examples per split: a fixed, seeded, class-balanced subset. 0 takes all."""

    example_seed: Int = 0
    """Seed of that subset."""


@Parameter(name="*", group=_PLANE)
@dataclass(frozen=True)
class PlaneOptions:
    """Where in weight space to look."""

    points: Int = 51
    """Grid points per axis. With an odd number the checkpoint itself is one of them."""

    span: float = 1.0
    """The grid reaches from -SPAN to SPAN, in lengths of the normalized directions."""

    dim: Literal[1, 2] = 2
    """A line (1) or a plane (2)."""

    plane: Annotated[Literal["random", "hessian"] | None, _default("random")] = None
    """`random` directions, or `hessian`: eigenvectors of the two largest eigenvalues of the loss's Hessian on
    the steering examples and kept weights. They have length 1, so α, β and SPAN are distances between
    weights. Takes some dozen Hessian products first, kept in `NAME.plane.hessian.h5` beside the surface."""

    seed: Int = 0
    """Of random directions, or the search for eigenvectors. One seed, the same directions everywhere."""

    planes: Int = 1
    """How many planes, with seeds SEED, SEED+1, and so on. Their spread enters Ra's interval."""

    normalize: Annotated[
        Literal["filter", "layer", "weight", "none"] | None,
        _default("filter; none with --directions, --plane hessian, --trajectory"),
    ] = None
    """What gets the norm of the weights in a direction: each filter (Li et al. 2018), layer or weight."""

    between: Annotated[tuple[Path, ...], _default("none", consume_multiple=True, negative=())] = ()
    """One or two other checkpoints of the same architecture: α = 1 is the first of them, β = 1 the second.
    With one, β is a random direction."""

    trajectory: Annotated[tuple[Path, ...], _default("none", consume_multiple=True, negative=())] = ()
    """The way of the checkpoint's training: the folder `trajectory` of its run, or several checkpoint files
    in order. Several such folders: a path for each run, all on one plane. α and β are the first two principal
    components (Li et al. 2018), at length 1: coordinates are
    distances between weights. The grid holds the whole way and SPAN/4 of its extent on each side. Where a
    mask changed in training, only weights that the final mask keeps are shown; `--mask none` shows all."""

    directions: Annotated[Path | None, _default("none")] = None
    """Directions of your own: a surface file that kept its directions, or a `.pt` file with a list of dicts
    of tensors by parameter name."""


@Parameter(name="*", group=_SAMPLING)
@dataclass(frozen=True)
class SamplingOptions:
    """How many grid points to evaluate."""

    exact: Flag = False
    """Evaluate every grid point, instead of choosing points adaptively and interpolating."""

    tolerance: float = 0.005
    """Stop choosing points when the stated error is this share of the loss range."""

    max_points: Annotated[int | None, _default("no limit", converter=whole)] = None
    """Stop after so many evaluated points per plane (50 or more), whatever the error."""


@Parameter(name="*", group=_COMPUTATION)
@dataclass(frozen=True)
class ComputationOptions:
    """On what, and how precisely."""

    device: Device = "auto"

    dtype: Literal["float32", "tf32", "bfloat16", "float64"] = "float32"
    """Arithmetic of the forward passes. `bfloat16` is for previews: about 1 % error in the loss."""

    batch_size: BatchSize = None

    threads: Threads = None

    sparse: SparseChoice = "auto"


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class OutputOptions:
    """What to write, and where."""

    output: Annotated[Path | None, _default("the folder surfaces", name=["--output", "-o"])] = None
    """A folder, or for one checkpoint a surface file `NAME.surface.h5`. Page and picture lie beside it."""

    overwrite: Flag = False
    """Compute anew where a surface file is there already, with whatever settings."""

    keep_directions: Flag = False
    """Store the directions in the surface file."""

    page: Annotated[bool, _default("on")] = True
    """Write the interactive page (HTML)."""

    plot: Annotated[bool, _default("on")] = True
    """Write the picture (PNG)."""

    live: Flag = False
    """Serve the page on this machine (127.0.0.1) while computing, at the address that is printed: it refines
    itself and keeps camera and settings. The command ends as it does without."""

    open: Flag = False
    """Show the page in the browser: with --live from the start, else at the end."""


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """Everything that the command can be told."""

    network: NetworkOptions = field(default_factory=NetworkOptions)
    data: DataOptions = field(default_factory=DataOptions)
    plane: PlaneOptions = field(default_factory=PlaneOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    computation: ComputationOptions = field(default_factory=ComputationOptions)
    output: OutputOptions = field(default_factory=OutputOptions)

    @property
    def batch_norm(self) -> Literal["fixed", "recalibrate"]:
        """What the command does: far away, where other networks are, running statistics fit nothing."""
        others = self.plane.between or self.plane.trajectory
        return self.network.batch_norm or ("recalibrate" if others else "fixed")

    def check(self) -> None:
        """Refuse what can't work, before any file is read.

        Raises
        ------
        UserError
            Naming the option, what came and what is expected.
        """
        self._check_numbers()
        self._check_plane()
        if self.sampling.exact and self.sampling.max_points is not None:
            raise UserError("--exact evaluates every point; leave out --max-points, or --exact")
        if self.output.open and not (self.output.page or self.output.live):
            raise UserError("--open shows the page that --no-page leaves out; leave out one of them")

    def _check_numbers(self) -> None:
        _at_least("--points", self.plane.points, 2)
        _at_least("--planes", self.plane.planes, 1)
        check_data(self.data)
        _at_least("--max-points", self.sampling.max_points, LEAST_POINTS)
        computation = self.computation
        check_computation(computation.device, computation.batch_size, computation.threads)
        if not SPANS[0] <= self.plane.span <= SPANS[1]:
            raise UserError(
                f"--span {self.plane.span}: expected a positive, finite number such as 1.0, "
                f"between {SPANS[0]:g} and {SPANS[1]:g}"
            )
        if not 0 < self.sampling.tolerance < 1:
            raise UserError(
                f"--tolerance {self.sampling.tolerance}: expected a share of the loss range between 0 and 1"
            )

    def _check_plane(self) -> None:
        plane = self.plane
        others = len(plane.between)
        if others > 2:
            raise UserError(f"--between takes one or two checkpoints, got {others}")
        if others == 2 and plane.dim == 1:
            raise UserError("--dim 1 is a line to one other checkpoint; name one with --between")
        if plane.between and plane.directions:
            raise UserError("--between and --directions exclude each other; give one of them")
        if plane.planes > 1 and (plane.between or plane.directions):
            raise UserError(
                "--planes is about random directions; leave it out with --between or --directions"
            )
        if plane.normalize is not None and (others == 2 or (others and plane.dim == 1)):
            raise UserError(
                "--normalize is about random directions; leave it out where all lead to other checkpoints"
            )
        if plane.trajectory:
            self._check_trajectory()
        self._check_kind()

    def _check_kind(self) -> None:
        plane = self.plane
        if plane.plane and (plane.between or plane.directions):
            given = "--between" if plane.between else "--directions"
            raise UserError(f"--plane {plane.plane} and {given} exclude each other; give one of them")
        if plane.plane == "hessian" and plane.planes > 1:
            raise UserError("--plane hessian is one plane; leave out --planes")
        if plane.plane == "hessian" and self.network.batch_norm == "recalibrate":
            raise UserError(
                "--plane hessian is about the loss with fixed batch norm; leave out --batch-norm recalibrate"
            )

    def _check_trajectory(self) -> None:
        plane = self.plane
        others = {
            "--between": plane.between,
            "--directions": plane.directions,
            "--plane": plane.plane,
            "--planes": plane.planes > 1,
            "--normalize": plane.normalize,
        }
        for name, given in others.items():
            if given:
                raise UserError(
                    f"--trajectory makes one plane, not rescaled; leave out {name}, or --trajectory"
                )


# What a surface file may hold (`landscape.surface.schema`), and what no option is meant to count to.
_MOST = {"--planes": 10_000, "--threads": 4_096, "--points": 4_000, "--example-seed": 2**63 - 1}
_MOST_OF_ANYTHING = 10**9


def check_data(data: DataOptions) -> None:
    """Refuse counts below zero and half a normalization; UserError names the option."""
    _at_least("--examples", data.examples, 0)
    _at_least("--example-seed", data.example_seed, 0)
    if data.image_size is not None and not 1 <= data.image_size <= 4096:
        raise UserError(f"--image-size {data.image_size}: expected pixels, 1 to 4096")
    if data.crop is not None and not 0.05 <= data.crop <= 1:
        raise UserError(f"--crop {data.crop:g}: expected a share, 0.05 to 1")
    if bool(data.mean) != bool(data.std):
        raise UserError("--mean and --std go together; give both")
    if len(data.mean) != len(data.std):
        raise UserError(
            f"--mean has {len(data.mean)} numbers, --std {len(data.std)}; expected as many of each"
        )
    if any(abs(one) > 1 for one in data.mean) or any(one > 2 for one in data.std):
        raise UserError(
            f"--mean {_words(data.mean)} --std {_words(data.std)}: pixels are scaled to 0..1 first; "
            "divide both by 255"
        )


def _words(numbers: Sequence[float]) -> str:
    return " ".join(f"{one:g}" for one in numbers)


def check_computation(device: str, batch_size: int | None, threads: int | None) -> None:
    """Refuse an unknown device, and counts below one; UserError names the option."""
    _at_least("--batch-size", batch_size, 1)
    _at_least("--threads", threads, 1)
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", device) is None:
        raise UserError(f"--device {device}: expected auto, cpu, cuda or cuda:N")


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UserError(f"{name} {value}: expected at least {least}")
    most = _MOST.get(name, _MOST_OF_ANYTHING)
    if value is not None and value > most:
        raise UserError(f"{name} {value}: expected at most {most}")
