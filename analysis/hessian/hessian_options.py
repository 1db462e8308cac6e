"""The options of ``python -m analysis.hessian``, in the groups in which its help shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from landscape.commandline.cluster_options import ClusterOptions
from landscape.commandline.options import (
    Flag,
    GraphOptions,
    Int,
    OutputOptions,
    SubjectOptions,
    Text,
    option,
    own_group,
    shown,
)
from landscape.commandline.outputs import check_text_outputs
from landscape.errors import UserError

_SPECTRUM = own_group("Spectrum")

MOST = 10**6  # of anything that is counted: a thousand times what anybody computes
PICTURES = (".png", ".pdf", ".svg")


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


@dataclass(frozen=True)
class HessianOutput(OutputOptions):
    """What to write, and where."""

    output: Annotated[Path | None, shown("the folder hessians", name=["--output", "-o"])] = None
    """A folder, or for one result a file `NAME.hessian.h5`. An unfinished run's state lies beside."""

    keep_vectors: Flag = False
    """Store the eigenvectors in the file, for planes through them."""

    json: Text = None
    """Write everything but vectors as JSON here; `-` is standard output, without the table."""

    plot: Annotated[Path | None, shown("none")] = None
    """Draw the densities here: `.png`, `.pdf` or `.svg`."""


@Parameter(name="*")
@dataclass(frozen=True)
class HessianOptions(SubjectOptions):
    """Everything that the command can be told."""

    spectrum: SpectrumOptions = field(default_factory=SpectrumOptions)
    computation: GraphOptions = field(default_factory=GraphOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    output: HessianOutput = field(default_factory=HessianOutput)

    def check(self, inputs: Sequence[Path] = ()) -> None:
        """As `SubjectOptions.check`."""
        super().check(inputs)
        self.cluster.check(self.computation.device)
        self._check_spectrum()
        plot, json = self.output.plot, self.output.json
        if plot is not None and plot.suffix.lower() not in PICTURES:
            raise UserError(f"--plot {plot}: expected a name that ends in {', '.join(PICTURES)}")
        if plot is not None and not self.spectrum.density_probes:
            raise UserError("--plot draws the density; leave out --density-probes 0, or --plot")
        check_text_outputs({"--json": json, "--plot": plot}, self.read(inputs))

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
                raise UserError(f"{option(name)} {getattr(chosen, name)}: expected at least {number}")
            if name != "seed" and getattr(chosen, name) > MOST:
                raise UserError(f"{option(name)} {getattr(chosen, name)}: expected at most {MOST}")
        if not chosen.top + chosen.bottom:
            raise UserError("--top 0 --bottom 0: expected at least one eigenvalue")
        for name in ("tolerance", "trace_tolerance"):
            if not 0 < getattr(chosen, name) < 1:
                raise UserError(f"{option(name)} {getattr(chosen, name)}: expected a share between 0 and 1")
