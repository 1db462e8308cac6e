"""The options of ``python -m landscape.surface``, in the groups in which its help shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from landscape.errors import UserError

_NETWORK = Group.create_ordered("Network")
_DATA = Group.create_ordered("Data")
_PLANE = Group.create_ordered("Plane")
_SAMPLING = Group.create_ordered("Sampling")
_COMPUTATION = Group.create_ordered("Computation")
_OUTPUT = Group.create_ordered("Output")


@Parameter(name="*", group=_NETWORK)
@dataclass(frozen=True)
class NetworkOptions:
    """Which network the weights belong to."""

    model: str | None = None
    """Architecture: a name of ours (`resnet20`), `torchvision:NAME`, `timm:NAME` or `package.module:factory`.
    By default from the checkpoint, or from the tensor shapes where exactly one known architecture fits."""

    mask: Literal["auto", "checkpoint", "zeros", "none"] = "auto"
    """Which weights the plane leaves at zero. `auto`: the checkpoint's mask, else weights that are exactly
    zero. `none`: dense directions, as earlier tools draw them."""

    batch_norm: Literal["fixed", "recalibrate"] | None = None
    """Running statistics at each point: those of the checkpoint, or re-estimated there. By default `fixed`;
    `recalibrate` on a plane between checkpoints."""

    trust_checkpoint: Annotated[bool, Parameter(negative=())] = False
    """Also unpickle whole modules. This runs code from the file: only for files of your own."""


@Parameter(name="*", group=_DATA)
@dataclass(frozen=True)
class DataOptions:
    """Which examples the loss is averaged over."""

    data: str | None = None
    """`cifar10`, `cifar100`, `imagefolder:PATH`, `npz:PATH`, `sample` (shipped CIFAR-10 images) or
    `package.module:factory`. By default what the checkpoint says, else what is on disk, else the sample."""

    data_root: Path | None = None
    """Folder with the data sets, in torchvision's layout. By default `$SHARPSCAPE_DATA` or `./data`."""

    download: Annotated[bool, Parameter(negative=())] = False
    """Fetch CIFAR into the data root when it isn't there."""

    split: Literal["train", "test", "both"] = "train"
    """Examples to use. With `both`, the training examples steer the sampling."""

    examples: int = 1000
    """Examples per split: a fixed, seeded, class-balanced subset; 0 takes all."""

    example_seed: int = 0
    """Seed of that subset."""


@Parameter(name="*", group=_PLANE)
@dataclass(frozen=True)
class PlaneOptions:
    """Where in weight space to look."""

    points: int = 51
    """Grid points per axis."""

    span: float = 1.0
    """Half-width of the grid, in units of the normalized directions."""

    dim: Literal[1, 2] = 2
    """A line or a plane."""

    seed: int = 0
    """Seed of the random directions. Same seed, same directions, on every machine."""

    planes: int = 1
    """How many direction seeds: SEED, SEED+1, …; their spread enters Ra's interval."""

    normalize: Literal["filter", "layer", "weight", "none"] | None = None
    """Scale of the directions relative to the weights. By default `filter` for random ones (Li et al. 2018)
    and `none` for given ones."""

    between: tuple[Path, ...] = ()
    """One or two other checkpoints of the same architecture: α = 1 is the first, β = 1 the second."""

    directions: Path | None = None
    """Directions of your own: a surface file that kept its directions, or a `.pt` file with a list of dicts
    of tensors by parameter name."""


@Parameter(name="*", group=_SAMPLING)
@dataclass(frozen=True)
class SamplingOptions:
    """How many grid points to evaluate."""

    exact: Annotated[bool, Parameter(negative=())] = False
    """Evaluate every grid point instead of sampling adaptively and interpolating."""

    tolerance: float = 0.005
    """Adaptive sampling stops when the stated error is this share of the loss range."""

    max_points: int | None = None
    """Stop after this many evaluated points per plane, whatever the error."""


@Parameter(name="*", group=_COMPUTATION)
@dataclass(frozen=True)
class ComputationOptions:
    """On what, and how precisely."""

    device: str = "auto"
    """`auto` (CUDA when there is one), `cpu`, `cuda`, `cuda:N`."""

    dtype: Literal["float32", "tf32", "bfloat16", "float64"] = "float32"
    """`bfloat16` is for previews: about 1 % error in the loss."""

    batch_size: int | None = None
    """By default what suits the caches or the device."""

    threads: int | None = None
    """CPU threads. By default all cores."""


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class OutputOptions:
    """What to write, and where."""

    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
    """Surface file for one checkpoint (`NAME.surface.h5`; page and picture lie beside it), or a folder. By
    default the folder `surfaces`."""

    overwrite: Annotated[bool, Parameter(negative=())] = False
    """Replace a surface file that was made with other settings."""

    keep_directions: Annotated[bool, Parameter(negative=())] = False
    """Store the directions in the surface file."""

    page: bool = True
    """Write the interactive page (HTML)."""

    plot: bool = True
    """Write the picture (PNG)."""


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

    def check(self) -> None:
        """Refuse what can't work, before any file is read.

        Raises
        ------
        UserError
            Naming the option, what came and what is expected.
        """
        _at_least("--points", self.plane.points, 1)
        _at_least("--planes", self.plane.planes, 1)
        _at_least("--examples", self.data.examples, 0)
        _at_least("--max-points", self.sampling.max_points, 1)
        _at_least("--batch-size", self.computation.batch_size, 1)
        _at_least("--threads", self.computation.threads, 1)
        if not 0 < self.plane.span < float("inf"):
            raise UserError(f"--span {self.plane.span}: expected a positive, finite number such as 1.0")
        if not 0 < self.sampling.tolerance < 1:
            raise UserError(
                f"--tolerance {self.sampling.tolerance}: expected a share of the loss range between 0 and 1"
            )
        if len(self.plane.between) > 2:
            raise UserError(f"--between takes one or two checkpoints, got {len(self.plane.between)}")
        if self.plane.between and self.plane.directions:
            raise UserError("--between and --directions exclude each other; give one of them")
        if self.plane.planes > 1 and (self.plane.between or self.plane.directions):
            raise UserError(
                "--planes is about random directions; leave it out with --between or --directions"
            )


def _at_least(name: str, value: Any, least: int) -> None:
    if value is not None and value < least:
        raise UserError(f"{name} {value}: expected at least {least}")
