"""The options of ``python -m landscape.surface``, in the groups in which its help shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from landscape.commandline.cluster_options import ClusterOptions
from landscape.commandline.options import (
    ComputationOptions,
    Flag,
    Int,
    NetworkOptions,
    OutputOptions,
    Several,
    SubjectOptions,
    Switch,
    Text,
    at_least,
    own_group,
    shown,
    whole,
)
from landscape.commandline.outputs import check_text_outputs
from landscape.errors import UserError
from landscape.surface.spans import SPANS

_PLANE, _SAMPLING = own_group("Plane", 3), own_group("Sampling", 4)

LEAST_POINTS = 50  # with fewer, next to nothing is known about the error of what lies between


@dataclass(frozen=True)
class SurfaceNetwork(NetworkOptions):
    """Which network the weights belong to."""

    batch_norm: Annotated[
        Literal["fixed", "recalibrate"] | None, shown("fixed; recalibrate with --between, --trajectory")
    ] = None
    """Running statistics of batch norm: the checkpoint's everywhere, or estimated anew at each point."""


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

    plane: Annotated[Literal["random", "hessian"] | None, shown("random")] = None
    """`random` directions, or `hessian`: eigenvectors of the two largest eigenvalues of the loss's Hessian on
    the steering examples and kept weights. They have length 1, so α, β and SPAN are distances between
    weights. Takes some dozen Hessian products first, kept in `NAME.plane.hessian.h5` beside the surface."""

    seed: Int = 0
    """Of random directions, or the search for eigenvectors. One seed, the same directions everywhere."""

    planes: Int = 1
    """How many planes, with seeds SEED, SEED+1, and so on. Their spread enters Ra's interval."""

    normalize: Annotated[
        Literal["filter", "layer", "weight", "none"] | None,
        shown("filter; none with --directions, --plane hessian, --trajectory"),
    ] = None
    """What gets the norm of the weights in a direction: each filter (Li et al. 2018), layer or weight."""

    between: Several = ()
    """One or two other checkpoints of the same architecture: α = 1 is the first of them, β = 1 the second.
    With one, β is a random direction."""

    trajectory: Several = ()
    """The way of the checkpoint's training: the folder `trajectory` of its run, or several checkpoint files
    in order. Several such folders: a path for each run, all on one plane. α and β are the first two principal
    components (Li et al. 2018), at length 1: coordinates are
    distances between weights. The grid holds the whole way and SPAN/4 of its extent on each side. Where a
    mask changed in training, only weights that the final mask keeps are shown; `--mask none` shows all."""

    directions: Annotated[Path | None, shown("none")] = None
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

    max_points: Annotated[int | None, shown("no limit", converter=whole)] = None
    """Stop after so many evaluated points per plane (50 or more), whatever the error."""

    at_a_time: Int = 5
    """Points to choose at a time, at least. With more of them more workers are busy: their number, say. They
    are other points, so the file's settings have it."""


@dataclass(frozen=True)
class SurfaceComputation(ComputationOptions):
    """On what, and how precisely."""

    sparse: Literal["auto", "on", "off"] = "auto"
    """Compute with kept weights only, on a CPU: where that is faster (`auto`), always, or never. What is
    resumed goes on as it began."""


@dataclass(frozen=True)
class SurfaceOutput(OutputOptions):
    """What to write, and where."""

    output: Annotated[Path | None, shown("the folder surfaces", name=["--output", "-o"])] = None
    """A folder, or for one checkpoint a surface file `NAME.surface.h5`. Page and picture lie beside it."""

    keep_directions: Flag = False
    """Store the directions in the surface file."""

    page: Switch = True
    """Write the interactive page (HTML)."""

    plot: Switch = True
    """Write the picture (PNG)."""

    json: Text = None
    """Write what the table says as JSON here; `-` is standard output, without the table."""

    live: Flag = False
    """Serve the page on this machine (127.0.0.1) while computing, at the address that is printed: it refines
    itself and keeps camera and settings. The command ends as it does without."""

    open: Flag = False
    """Show the page in the browser: with --live from the start, else at the end."""


@Parameter(name="*")
@dataclass(frozen=True)
class SurfaceOptions(SubjectOptions):
    """Everything that the command can be told."""

    network: SurfaceNetwork = field(default_factory=SurfaceNetwork)
    plane: PlaneOptions = field(default_factory=PlaneOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    computation: SurfaceComputation = field(default_factory=SurfaceComputation)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    output: SurfaceOutput = field(default_factory=SurfaceOutput)

    @property
    def batch_norm(self) -> Literal["fixed", "recalibrate"]:
        """What the command does: far away, where other networks are, running statistics fit nothing."""
        others = self.plane.between or self.plane.trajectory
        return self.network.batch_norm or ("recalibrate" if others else "fixed")

    def check(self, inputs: Sequence[Path] = ()) -> None:
        """As `SubjectOptions.check`."""
        super().check(inputs)
        self.cluster.check(self.computation.device)
        self._check_numbers()
        self._check_plane()
        if self.sampling.exact and self.sampling.max_points is not None:
            raise UserError("--exact evaluates every point; leave out --max-points, or --exact")
        if self.output.open and not (self.output.page or self.output.live):
            raise UserError("--open shows the page that --no-page leaves out; leave out one of them")
        check_text_outputs({"--json": self.output.json}, self.read(inputs))

    def read(self, inputs: Sequence[Path]) -> list[Path]:
        """As `SubjectOptions.read`, and other checkpoints and directions."""
        plane = self.plane
        own = [] if plane.directions is None else [plane.directions]
        return [*super().read(inputs), *plane.between, *plane.trajectory, *own]

    def _check_numbers(self) -> None:
        at_least("--points", self.plane.points, 2)
        at_least("--planes", self.plane.planes, 1)
        at_least("--max-points", self.sampling.max_points, LEAST_POINTS)
        at_least("--at-a-time", self.sampling.at_a_time, 1)
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
