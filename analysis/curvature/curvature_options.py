"""The options of ``python -m analysis.curvature``, in the groups in which its help shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from cyclopts import Parameter

from analysis.curvature.plan import Plan
from landscape.commandline.cluster_options import ClusterOptions
from landscape.commandline.options import (
    SEVERAL,
    CheckpointOptions,
    GraphOptions,
    Int,
    OutputOptions,
    SourceOptions,
    Switch,
    at_least,
    own_group,
    shown,
    whole,
)
from landscape.errors import UserError

_MAP = own_group("Map")


@dataclass(frozen=True)
class CurvatureNetwork(CheckpointOptions):
    """Which network the weights belong to. The mask is that of the surface."""

    params: Annotated[tuple[str, ...], shown("those that the surface moved", **SEVERAL)] = ()
    """Which parameters span the Hessian's space: `trainable` ones, `all`, or names and patterns such as
    `'layer3.*'`; `'!PATTERN'` leaves out."""


@dataclass(frozen=True)
class CurvatureData(SourceOptions):
    """Which examples the Hessian is of: those of the surface, or some of them."""

    split: Annotated[str | None, shown("the surface's first")] = None
    """Which of the surface's splits."""

    examples: Annotated[int | None, shown("all of the surface", converter=whole)] = None
    """Only so many of its examples, in its class-balanced order. The time grows with their number."""


@Parameter(name="*", group=_MAP)
@dataclass(frozen=True)
class Map:
    """Where eigenvalues are computed, and how well."""

    planes: Annotated[tuple[Int, ...], shown("all", **SEVERAL)] = ()
    """Which planes of the surface, counted from 0."""

    max_points: Int = Plan.max_points
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
            self.max_points,
            self.tolerance,
            self.eigenvalue_tolerance,
            self.max_products,
            self.seed,
        )


@dataclass(frozen=True)
class CurvatureOutput(OutputOptions):
    """The map goes into the surface file; page and pictures lie beside it."""

    output: Annotated[None, Parameter(parse=False)] = None
    """Nowhere else."""

    page: Switch = True
    """Write the interactive page of the surface (HTML) anew, with the map."""

    plot: Switch = True
    """Draw λmax and the ratio (PNG)."""


@Parameter(name="*")
@dataclass(frozen=True)
class CurvatureOptions:
    """Everything that the command can be told."""

    network: CurvatureNetwork = field(default_factory=CurvatureNetwork)
    data: CurvatureData = field(default_factory=CurvatureData)
    map: Map = field(default_factory=Map)
    computation: GraphOptions = field(default_factory=GraphOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    output: CurvatureOutput = field(default_factory=CurvatureOutput)

    def check(self) -> None:
        """Refuse what can't work, before any file is read.

        Raises
        ------
        UserError
            Naming the option, what came and what is expected.
        """
        self.computation.check()
        self.cluster.check(self.computation.device)
        chosen = self.map
        for name, number, least in (
            ("--examples", self.data.examples, 1),
            ("--max-points", chosen.max_points, 1),
            ("--max-products", chosen.max_products, 1),
            ("--seed", chosen.seed, 0),
        ):
            at_least(name, number, least)
        for name, share in (
            ("--tolerance", chosen.tolerance),
            ("--eigenvalue-tolerance", chosen.eigenvalue_tolerance),
        ):
            if not 0 < share < 1:
                raise UserError(f"{name} {share}: expected a number between 0 and 1, such as 0.01")
