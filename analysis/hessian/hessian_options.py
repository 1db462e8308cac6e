"""The options of ``python -m analysis.hessian``, in the groups in which its help shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from landscape.commandline.options import (
    BatchSize,
    Device,
    Flag,
    GraphMemory,
    Int,
    Mask,
    Model,
    ParamsOption,
    Threads,
    TrustCheckpoint,
    Weights,
    memory_bytes,
)
from landscape.commandline.outputs import check_text_outputs
from landscape.errors import UserError
from landscape.surface.surface_options import DataOptions, check_computation, check_data

_NETWORK = Group.create_ordered("Network")
_SPECTRUM = Group.create_ordered("Spectrum")
_COMPUTATION = Group.create_ordered("Computation")
_OUTPUT = Group.create_ordered("Output")

MOST = 10**6  # of anything that is counted: a thousand times what anybody computes
PICTURES = (".png", ".pdf", ".svg")


@Parameter(name="*", group=_NETWORK)
@dataclass(frozen=True)
class Network:
    """Which network the weights belong to."""

    model: Model = None

    mask: Mask = "auto"
    """Weights that the Hessian leaves out. `checkpoint`: those pruned by its mask; `zeros`: those that are
    exactly zero; `auto`: the first of these two that is there; `none`: no weights, the full space."""

    params: ParamsOption = ("trainable",)

    trust_checkpoint: TrustCheckpoint = False

    weights: Weights = None


@Parameter(name="*", group=_SPECTRUM)
@dataclass(frozen=True)
class SpectrumOptions:
    """What to find out."""

    top: Int = 5
    """Largest eigenvalues."""

    bottom: Int = 1
    """Smallest eigenvalues, negative ones where there are any."""

    tolerance: float = 1e-3
    """Residual at which an eigenvalue counts as converged, as a share of the largest one."""

    max_products: Int = 300
    """Products after which the search for eigenvalues ends in any case; the table says what converged."""

    trace_tolerance: float = 0.05
    """Standard error of the trace at which to stop, as a share of the trace."""

    max_probes: Int = 100
    """Products for the trace at most (8 or more)."""

    density_probes: Int = 4
    """Probes of the spectral density and the effective rank. 0 leaves both out, and is fastest."""

    density_steps: Int = 30
    """Products for each of these probes: the density's resolution."""

    seed: Int = 0
    """Of all random vectors. One seed, the same vectors on every machine."""


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
    """What to write, and where."""

    output: Annotated[Path | None, Parameter(show_default="the folder hessians", name=["--output", "-o"])] = (
        None
    )
    """A folder, or for one checkpoint a file `NAME.hessian.h5`. An unfinished run's state lies beside."""

    overwrite: Flag = False
    """Compute anew where a file is there already, with whatever settings."""

    keep_vectors: Flag = False
    """Store the eigenvectors in the file, for planes through them."""

    json: Annotated[str | None, Parameter(show_default="none", allow_leading_hyphen=True)] = None
    """Write everything but vectors as JSON here; `-` is standard output, without the table."""

    plot: Annotated[Path | None, Parameter(show_default="none")] = None
    """Draw the densities here: `.png`, `.pdf` or `.svg`."""


@Parameter(name="*")
@dataclass(frozen=True)
class HessianOptions:
    """Everything that the command can be told."""

    network: Network = field(default_factory=Network)
    data: DataOptions = field(default_factory=DataOptions)
    spectrum: SpectrumOptions = field(default_factory=SpectrumOptions)
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
        check_data(self.data)
        computation = self.computation
        check_computation(computation.device, computation.batch_size, computation.threads)
        self._check_spectrum()
        memory_bytes(computation.memory)
        plot, json = self.output.plot, self.output.json
        if plot is not None and plot.suffix.lower() not in PICTURES:
            raise UserError(f"--plot {plot}: expected a name that ends in {', '.join(PICTURES)}")
        if plot is not None and not self.spectrum.density_probes:
            raise UserError("--plot draws the density; leave out --density-probes 0, or --plot")
        check_text_outputs({"--json": json, "--plot": plot}, inputs)

    @property
    def memory_bytes(self) -> float:
        """For the graphs."""
        return memory_bytes(self.computation.memory)

    def _check_spectrum(self) -> None:
        chosen = self.spectrum
        least = {
            "top": 0,
            "bottom": 0,
            "max_products": 1,
            "max_probes": 8,
            "density_probes": 0,
            "density_steps": 1,
            "seed": 0,
        }
        for name, number in least.items():
            if getattr(chosen, name) < number:
                raise UserError(f"{_option(name)} {getattr(chosen, name)}: expected at least {number}")
            if name != "seed" and getattr(chosen, name) > MOST:
                raise UserError(f"{_option(name)} {getattr(chosen, name)}: expected at most {MOST}")
        if not chosen.top + chosen.bottom:
            raise UserError("--top 0 --bottom 0: expected at least one eigenvalue")
        for name in ("tolerance", "trace_tolerance"):
            if not 0 < getattr(chosen, name) < 1:
                raise UserError(f"{_option(name)} {getattr(chosen, name)}: expected a share between 0 and 1")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
