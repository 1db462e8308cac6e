"""The options of ``python -m analysis.curvature``, in the groups in which its help shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from analysis.curvature.plan import Plan
from landscape.commandline.options import (
    BatchSize,
    Device,
    Flag,
    GraphMemory,
    Int,
    Model,
    ParamsOption,
    Threads,
    TrustCheckpoint,
    Weights,
    memory_bytes,
    whole,
)
from landscape.errors import UserError
from landscape.surface.surface_options import check_computation

_NETWORK = Group.create_ordered("Network")
_DATA = Group.create_ordered("Data")
_MAP = Group.create_ordered("Map")
_COMPUTATION = Group.create_ordered("Computation")
_OUTPUT = Group.create_ordered("Output")


@Parameter(name="*", group=_NETWORK)
@dataclass(frozen=True)
class Network:
    """Which network the weights belong to. The mask is that of the surface."""

    model: Model = None

    params: Annotated[ParamsOption, Parameter(show_default="those that the surface moved")] = ()

    trust_checkpoint: TrustCheckpoint = False

    weights: Weights = None


@Parameter(name="*", group=_DATA)
@dataclass(frozen=True)
class Data:
    """Which examples the Hessian is of: those of the surface, or some of them."""

    data: Annotated[
        str | None, Parameter(show_default="what the checkpoint names, else what is on disk, else sample")
    ] = None
    """As for the surface: `cifar10`, `cifar100`, `imagefolder:PATH`, `npz:PATH`, `sample` or
    `package.module:factory`."""

    data_root: Annotated[Path | None, Parameter(show_default="$SHARPSCAPE_DATA, else ./data")] = None
    """Folder of the data sets, in torchvision's layout."""

    download: Flag = False
    """Fetch CIFAR into the data root where it isn't there."""

    split: Annotated[str | None, Parameter(show_default="the surface's first")] = None
    """Which of the surface's splits."""

    examples: Annotated[int | None, Parameter(show_default="all of the surface", converter=whole)] = None
    """Only so many of its examples, in its class-balanced order. The time grows with their number."""


@Parameter(name="*", group=_MAP)
@dataclass(frozen=True)
class Map:
    """Where eigenvalues are computed, and how well."""

    planes: Annotated[tuple[Int, ...], Parameter(show_default="all", consume_multiple=True, negative=())] = ()
    """Which planes of the surface, counted from 0."""

    points_limit: Int = Plan.points_limit
    """Points per plane at most. On a line, or below 26, they are evenly spaced."""

    tolerance: float = Plan.tolerance
    """Stop choosing points when the stated error of log λmax is this share of its range."""

    eigenvalue_tolerance: float = Plan.eigenvalue_tolerance
    """Relative error to which λmax and λmin are computed at a point, each of its own size."""

    max_products: Int = Plan.max_products
    """Hessian products per point at most; what didn't converge is said."""

    seed: Int = Plan.seed
    """Of the search's start vector."""

    def plan(self) -> Plan:
        """For `curvature_map`."""
        return Plan(
            self.points_limit,
            self.tolerance,
            self.eigenvalue_tolerance,
            self.max_products,
            self.seed,
        )


@Parameter(name="*", group=_COMPUTATION)
@dataclass(frozen=True)
class Computation:
    """On what, and how precisely."""

    device: Device = "auto"

    dtype: Literal["float32", "float64"] = "float32"
    """Arithmetic of the products."""

    batch_size: BatchSize = None

    memory: GraphMemory = 4.0

    threads: Threads = None


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class Output:
    """The map goes into the surface file; page and pictures lie beside it."""

    overwrite: Flag = False
    """Replace a map that was made with other settings."""

    page: Annotated[bool, Parameter(show_default="on")] = True
    """Write the interactive page of the surface (HTML) anew, with the map."""

    plot: Annotated[bool, Parameter(show_default="on")] = True
    """Draw λmax and the ratio (PNG)."""


@Parameter(name="*")
@dataclass(frozen=True)
class CurvatureOptions:
    """Everything that the command can be told."""

    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    map: Map = field(default_factory=Map)
    computation: Computation = field(default_factory=Computation)
    output: Output = field(default_factory=Output)

    def check(self) -> None:
        """Refuse what can't work, before any file is read.

        Raises
        ------
        UserError
            Naming the option, what came and what is expected.
        """
        computation, chosen = self.computation, self.map
        check_computation(computation.device, computation.batch_size, computation.threads)
        memory_bytes(computation.memory)
        for name, number, least in (
            ("--examples", self.data.examples, 1),
            ("--points-limit", chosen.points_limit, 1),
            ("--max-products", chosen.max_products, 1),
            ("--seed", chosen.seed, 0),
        ):
            if number is not None and number < least:
                raise UserError(f"{name} {number}: expected at least {least}")
        for name, share in (
            ("--tolerance", chosen.tolerance),
            ("--eigenvalue-tolerance", chosen.eigenvalue_tolerance),
        ):
            if not 0 < share < 1:
                raise UserError(f"{name} {share}: expected a number between 0 and 1, such as 0.01")

    @property
    def memory_bytes(self) -> float:
        """For the graphs."""
        return memory_bytes(self.computation.memory)
