"""``--plane hessian``: the Hessian's top eigenvectors as a plane, found once and kept beside the surface."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from landscape.commandline.console import note
from landscape.errors import UserError
from landscape.progress import terminal_bar

if TYPE_CHECKING:
    from landscape.commandline.subject import Subject
    from landscape.examples import Examples
    from landscape.planes import GivenPlane
    from landscape.surface.surface_options import SurfaceOptions

SUFFIX = ".plane.hessian.h5"
TOLERANCE = 1e-3  # residual over λ₁; the vectors are off by about this over the relative gap


def spectrum_path(surface: Path) -> Path:
    """Where the eigenvectors behind a surface file are kept."""
    return surface.with_name(surface.name.removesuffix(".h5").removesuffix(".surface") + SUFFIX)


def hessian_plane(
    subject: Subject, examples: Examples, target: Path, options: SurfaceOptions, about: Mapping[str, Any]
) -> GivenPlane:
    """The plane that the command's options describe.

    The search keeps its state beside the surface, as ``python -m analysis.hessian`` does, so a stopped run
    goes on, and a repeated one reads the eigenvectors. The file is a whole spectrum file, trace included.

    Parameters
    ----------
    subject, examples
        Whose mean loss it is, in evaluation mode, on the kept weights.
    target
        The surface file.
    options
        Of the command.
    about
        Provenance, for the spectrum's file.

    Raises
    ------
    UserError
        When the loss has no Hessian at the weights, or the file beside belongs to other settings and
        ``--overwrite`` isn't given.
    """
    from analysis.hessian.planes import Which, eigenvector_plane

    dim, path = options.plane.dim, spectrum_path(target)
    search = partial(_spectrum, subject, examples, target, options, about)
    try:
        spectrum = search(overwrite=False)
    except UserError:
        if not (options.output.overwrite and path.exists()):
            raise
        spectrum = search(overwrite=True)  # of other settings; one of these would have served
    if not spectrum.converged:
        note(f"{path}: the eigenvectors have residuals of {max(spectrum.top.residuals):.2g}: not converged")
    which: tuple[Which, ...] = (("top", 0), ("top", 1))[:dim]
    norm = sum(float(one.detach().double().square().sum()) for one in subject.model.parameters()) ** 0.5
    return eigenvector_plane(
        spectrum,
        *which,
        normalize=options.plane.normalize or "none",
        extra={"examples": spectrum.examples, "weights_norm": norm},
    )


def _spectrum(
    subject: Subject,
    examples: Examples,
    target: Path,
    options: SurfaceOptions,
    about: Mapping[str, Any],
    *,
    overwrite: bool,
) -> Any:
    """The spectrum with the top eigenpairs, found or read from the file beside the surface."""
    from analysis.hessian.spectrum import hessian_spectrum

    path, arguments = spectrum_path(target), subject.arguments
    arguments["dtype"] = "float64" if options.computation.dtype == "float64" else "float32"
    with terminal_bar(f"{path.name.removesuffix(SUFFIX)}: eigenvectors") as bar, torch.enable_grad():
        return hessian_spectrum(
            subject.model,
            examples,
            **arguments,
            mask_source=subject.mask_source,
            top=options.plane.dim,
            bottom=0,
            tolerance=TOLERANCE,
            trace_tolerance=0.99,  # the trace of the fewest probes, by the way
            max_probes=8,
            density_probes=0,
            seed=options.plane.seed,
            path=path,
            overwrite=overwrite,
            keep_vectors=True,
            label=target.name,
            about=about,
            progress=bar,
        )
