"""``--plane hessian``: the Hessian's top eigenvectors as a plane, found once and kept beside the surface."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from landscape.commandline.command import say
from landscape.errors import UserError
from landscape.progress import terminal_bar

if TYPE_CHECKING:
    from landscape.examples import Examples
    from landscape.planes import GivenPlane
    from landscape.surface.surface_options import Options

SUFFIX = ".plane.hessian.h5"
TOLERANCE = 1e-3  # residual over λ₁; the vectors are off by about this over the relative gap


def spectrum_path(surface: Path) -> Path:
    """Where the eigenvectors behind a surface file are kept."""
    return surface.with_name(surface.name.removesuffix(".h5").removesuffix(".surface") + SUFFIX)


def hessian_plane(
    model: nn.Module,
    examples: Examples,
    mask: Mapping[str, Tensor] | None,
    mask_source: str,
    target: Path,
    options: Options,
    about: Mapping[str, Any],
) -> GivenPlane:
    """The plane that the command's options describe.

    The search keeps its state beside the surface, as ``python -m analysis.hessian`` does, so a stopped run
    goes on, and a repeated one reads the eigenvectors. The file is a whole spectrum file, trace included.

    Parameters
    ----------
    model, examples
        Whose mean loss it is, in evaluation mode.
    mask, mask_source
        Kept weights, whose space the Hessian is restricted to, and where the mask comes from.
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
    search = partial(_spectrum, model, examples, mask, mask_source, target, options, about)
    try:
        spectrum = search(overwrite=False)
    except UserError:
        if not (options.output.overwrite and path.exists()):
            raise
        spectrum = search(overwrite=True)  # of other settings; one of these would have served
    if not spectrum.converged:
        say(f"{path}: the eigenvectors have residuals of {max(spectrum.top.residuals):.2g}: not converged")
    which: tuple[Which, ...] = (("top", 0), ("top", 1))[:dim]
    norm = sum(float(one.detach().double().square().sum()) for one in model.parameters()) ** 0.5
    return eigenvector_plane(
        spectrum,
        *which,
        normalize=options.plane.normalize or "none",
        extra={"examples": spectrum.examples, "weights_norm": norm},
    )


def _spectrum(
    model: nn.Module,
    examples: Examples,
    mask: Mapping[str, Tensor] | None,
    mask_source: str,
    target: Path,
    options: Options,
    about: Mapping[str, Any],
    *,
    overwrite: bool,
) -> Any:
    """The spectrum with the top eigenpairs, found or read from the file beside the surface."""
    from analysis.hessian.spectrum import hessian_spectrum

    computation, path = options.computation, spectrum_path(target)
    with terminal_bar(f"{path.name.removesuffix(SUFFIX)}: eigenvectors") as bar, torch.enable_grad():
        return hessian_spectrum(
            model,
            examples,
            mask=mask if mask is not None else "none",
            mask_source=mask_source,
            params=options.network.params,
            top=options.plane.dim,
            bottom=0,
            tolerance=TOLERANCE,
            trace_tolerance=0.99,  # the trace of the fewest probes, by the way
            max_probes=8,
            density_probes=0,
            seed=options.plane.seed,
            device=computation.device,
            dtype="float64" if computation.dtype == "float64" else "float32",
            batch_size=computation.batch_size,
            path=path,
            overwrite=overwrite,
            keep_vectors=True,
            label=target.name,
            about=about,
            progress=bar,
        )
