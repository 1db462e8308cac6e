"""The command ``analysis.curvature``: a surface file and its checkpoint in, the map in that file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.curvature.curvature_options import CurvatureOptions
from landscape.commandline.cluster_options import working
from landscape.commandline.command import run_command
from landscape.commandline.console import note
from landscape.commandline.options import DataOptions, NetworkOptions, SubjectOptions
from landscape.commandline.results import prepare_folder
from landscape.commandline.subject import Subject, computing, load_network, subject_of
from landscape.errors import UserError
from landscape.keeping.lock import owned
from landscape.progress import terminal_bar
from landscape.surface import Surface, load_surface

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.checkpoint import LoadedCheckpoint

SUFFIX = ".surface.h5"
PRODUCTS_PER_POINT = 20  # seen on ResNet-20; more where λmin lies close to others

ABOUT = """Map λmax, λmin and |λmin/λmax| of the Hessian over a loss surface.

Li et al. 2018, section 6: where the ratio is small, the surface's convexity isn't an accident of its plane.
The Hessian is that of the mean loss, at the weights of each point, on the kept weights. The map becomes part
of the surface file, and so of pages and pictures.
"""

EPILOGUE = """Examples:

- The map of a surface, on the examples that it was computed from:\\
  `python -m analysis.curvature surfaces/net.surface.h5 net.pt`
- Coarser and on a tenth of 1,000 examples, in a fifteenth of the time:\\
  `python -m analysis.curvature surfaces/net.surface.h5 net.pt --examples 100 --max-points 40`
- The first of several planes, finer:\\
  `python -m analysis.curvature surfaces/net.surface.h5 net.pt --planes 0 --max-points 200 --tolerance 0.01`

A point costs some 20 Hessian products, each about five passes over the examples: 0.7 s for a ResNet-20
and 256 examples on one core, so 60 points take a quarter of an hour. The command says its estimate first.\\
With ReLU networks curvature is rough far from the checkpoint; the stated error says how far to trust it.\\
A run that was stopped, by Ctrl-C or by force, goes on when the same command is given again.\\
Exit codes: 0 done, 2 bad input (one line says what), 130 stopped (Ctrl-C; 143 SIGTERM, 129 SIGHUP).
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compute, print; bad input is one line and exit code 2."""

    def command(
        surface: Path,
        checkpoint: Path,
        /,
        *,
        options: CurvatureOptions = CurvatureOptions(),  # noqa: B008
    ) -> None:
        """Compute a map.

        Parameters
        ----------
        surface
            A finished surface file. The map is written into it.
        checkpoint
            The network that it belongs to.
        """
        map_curvature(surface, checkpoint, options)

    run_command("analysis.curvature", ABOUT, EPILOGUE, command, arguments)


def map_curvature(path: Path, checkpoint: Path, options: CurvatureOptions) -> Surface:
    """What the command does, without its command line.

    Raises
    ------
    UserError
        For any bad input.
    """
    options.check()
    with owned(path if path.is_file() else None), computing(options.computation.threads, options.output):
        surface = load_surface(path)
        split = options.data.split or surface.splits[0]
        if split not in surface.splits:
            raise UserError(f"--split {split}: {path} has {', '.join(surface.splits)}")
        prepare_folder(path)
        loaded = load_network(checkpoint, options.network)
        _check_checkpoint(surface, loaded, path)
        subject = subject_of(checkpoint, surface.label, loaded, _as_the_surface(surface, split, options))
        found = _compute(surface, path, subject, split, options)
        from analysis.curvature.map_report import report_map

        report_map(found, path, split, options.map.planes, options.output)
    return found


def _as_the_surface(surface: Surface, split: str, options: CurvatureOptions) -> SubjectOptions:
    """The options with which the surface's command saw this checkpoint, as far as the file tells them."""
    from landscape.parameters import ALL

    if split not in ("train", "validation", "test"):
        raise UserError(
            f"the surface's split is {split!r}; expected train, validation or test, see curvature_map"
        )
    network, source = options.network, options.data
    mask = surface.settings.get("mask", {}).get("source")
    known = mask in ("checkpoint", "zeros", "none")  # a mask of a caller's own may be the checkpoint's
    return SubjectOptions(
        NetworkOptions(
            network.model,
            surface.settings.get("params", {}).get("rule", ALL),
            network.trust_checkpoint,
            network.weights,
            mask if known else "auto",
        ),
        DataOptions(
            source.data,
            source.data_root,
            source.download,
            source.skip_broken,
            source.loss,
            split=split,  # type: ignore[arg-type]
            examples=surface.planes[0].splits[split].examples,
            example_seed=int(_told(surface, "data").get("seed", 0)),
        ),
        options.computation,
    )


def _compute(
    surface: Surface, path: Path, subject: Subject, split: str, options: CurvatureOptions
) -> Surface:
    from analysis.curvature.map import curvature_map

    data, _ = subject.examples(like=_told(surface, "data"))
    with (
        working(options.cluster, options.computation.threads) as cluster,
        terminal_bar(surface.label) as bar,
    ):
        return curvature_map(
            surface,
            subject.model,
            data,
            **subject.machine,
            mask=subject.mask,
            params=options.network.params or None,
            planes=options.map.planes or None,
            split=split,
            examples=options.data.examples,
            plan=options.map.plan(),
            eigenvectors=_eigenvectors(surface, path),
            memory=options.computation.memory_bytes,
            path=path,
            overwrite=options.output.overwrite,
            executor=cluster,
            progress=bar,
            announce=_announce,
        )


def _check_checkpoint(surface: Surface, loaded: LoadedCheckpoint, path: Path) -> None:
    stored = _told(surface, "checkpoint")
    if stored.get("sha256") not in (None, loaded.sha256):
        raise UserError(
            f"{path} was computed from another checkpoint ({stored.get('file')}, SHA-256 "
            f"{stored['sha256'][:12]}…), not from this one ({loaded.sha256[:12]}…)"
        )


def _told(surface: Surface, key: str) -> Mapping[str, Any]:
    """What the file says about checkpoint or data; a caller of the library may have written anything."""
    found = surface.about.get(key)
    return found if isinstance(found, Mapping) else {}


def _eigenvectors(surface: Surface, path: Path) -> Sequence[Mapping[str, Tensor]]:
    """Of a Hessian plane, from the file beside the surface, if it is needed and there."""
    from analysis.hessian.spectrum_file import load_spectrum
    from landscape.surface.hessian_plane import spectrum_path

    beside = spectrum_path(path)
    needed = any(plane.about.get("kind") == "hessian" and not plane.directions for plane in surface.planes)
    return load_spectrum(beside).top.directions if needed and beside.is_file() else ()


def _announce(points: int, seconds: float) -> None:
    """The estimate: a plain line, so that a log has it, too."""
    whole = points * PRODUCTS_PER_POINT * seconds
    text = (
        f"{whole / 3600:.1f} h"
        if whole >= 5400
        else f"{whole / 60:.0f} min"
        if whole >= 90
        else f"{whole:.0f} s"
    )
    each = f"about {PRODUCTS_PER_POINT} products, {seconds:.2g} s each"
    note(f"at most {points} points of {each}: about {text}")


if __name__ == "__main__":
    main()
