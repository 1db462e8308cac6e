"""The command ``python -m landscape.surface``: checkpoints in; surface files, a page and a picture out."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.commandline.cluster_options import working
from landscape.commandline.command import run_command
from landscape.commandline.console import note
from landscape.commandline.results import both, distinct_names, prepare_folder, result_paths, resuming
from landscape.commandline.subject import Subject, computing, subjects
from landscape.errors import UserError
from landscape.progress import Listener, terminal_bar
from landscape.surface import Surface, load_surface
from landscape.surface.surface_options import SurfaceOptions, SurfaceOutput

if TYPE_CHECKING:  # torch is imported only when there is something to compute
    from concurrent.futures import Executor

    from landscape.examples import Examples
    from landscape.planes import PlaneSpec
    from landscape.viewer.live import LivePage

SUFFIX = ".surface.h5"

ABOUT = """Compute the loss surface around trained networks, with its roughness Ra.

Each checkpoint gives a surface file; for all of them together there is a page, a picture and a table.
"""

EPILOGUE = """Examples:

- The surface of the training loss around one network, page and picture beside it:\\
  `python -m landscape.surface net.pt`
- Two networks on the same examples and three planes each, train and test:\\
  `python -m landscape.surface a.pt b.pt --planes 3 --split both`
- Somebody else's checkpoint and images:\\
  `python -m landscape.surface c.pt --model mine:small --data imagefolder:dogs`
- The straight line from one network to another, every point computed:\\
  `python -m landscape.surface a.pt --between b.pt --dim 1 --exact`
- The plane of the Hessian's two top eigenvectors, whose coordinates are distances between weights:\\
  `python -m landscape.surface net.pt --plane hessian --span 0.5`
- The plane of a training, with its way: the snapshots of `python -m training --record-every 100`:\\
  `python -m landscape.surface runs/mine/final.pt --trajectory runs/mine/trajectory`
- Several trainings on one plane, each with a path of its own:\\
  `python -m landscape.surface runs/sgd/final.pt --trajectory runs/sgd runs/s2sam`
- The page in the browser while it is computed, refining itself:\\
  `python -m landscape.surface net.pt --live --open`
- On four processes of this machine, and on the workers of a Dask scheduler:\\
  `python -m landscape.surface net.pt --workers 4`\\
  `python -m landscape.surface net.pt --scheduler scheduler.json`
- A quick look, and the same finer:\\
  `python -m landscape.surface net.pt --examples 200 --points 21 -o quick`\\
  `python -m landscape.surface net.pt --examples 0 --points 101 -o fine`

A run that was stopped, by Ctrl-C or by force, goes on when the same command is given again.\\
Exit codes: 0 done, 2 bad input (one line says what), 130 stopped (Ctrl-C; 143 SIGTERM, 129 SIGHUP).
"""


@dataclass(frozen=True)
class Result:
    """One finished surface and where it is."""

    surface: Surface
    path: Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run, print the table; bad input is one line and exit code 2."""

    def command(checkpoints: list[Path], /, *, options: SurfaceOptions = SurfaceOptions()) -> None:  # noqa: B008
        """Compute surfaces.

        Parameters
        ----------
        checkpoints
            Ours, a state_dict (bare or wrapped), safetensors or TorchScript. Several are compared.
        """
        compute_surfaces(checkpoints, options)

    run_command("landscape.surface", ABOUT, EPILOGUE, command, arguments)


def compute_surfaces(checkpoints: Sequence[Path], options: SurfaceOptions) -> list[Result]:
    """What the command does, without its command line.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With 128 and the signal's number when stopped while computing; what was computed is in the
        surface file, and a line says how to go on.
    """
    options.check(checkpoints)
    if options.plane.trajectory and len(checkpoints) > 1:
        raise UserError(
            f"--trajectory leads to one network, {len(checkpoints)} checkpoints came; name the final one"
        )
    names = distinct_names(checkpoints)
    targets = result_paths(names, options.output.output, "surfaces", SUFFIX)
    with computing(options.computation.threads, options.output):
        networks = subjects(checkpoints, names, options)
        with _live_page(targets, options.output) as live:
            with working(options.cluster, options.computation.threads) as cluster:
                results = [
                    Result(_compute(subject, target, options, cluster, listener), target)
                    for subject, target, listener in zip(networks, targets, _listeners(live), strict=False)
                ]
            _report(results, options.output, live)
    return results


def _report(results: Sequence[Result], output: SurfaceOutput, live: LivePage | None) -> None:
    """Table, page and picture; then open pages get the last state."""
    from landscape.surface.surface_report import report_surfaces

    surfaces = [one.surface for one in results]
    files = report_surfaces(surfaces, [one.path for one in results], output)
    page = next((path for path in files if path.suffix == ".html"), None)
    if live is not None:
        live.finish(surfaces, page)
    elif output.open and page is not None:
        webbrowser.open(page.resolve().as_uri())


@contextmanager
def _live_page(targets: Sequence[Path], output: SurfaceOutput) -> Iterator[LivePage | None]:
    if not output.live:
        yield None
        return
    from landscape.viewer.live import LivePage

    try:
        page = LivePage(targets, anew=output.overwrite)
    except OSError as error:  # no port, no descriptor: the surfaces don't need a page
        note(f"no live page ({error.strerror or error}); computing goes on without")
        yield None
        return
    with page as live:
        live.announce(show=output.open)
        yield live


def _listeners(live: LivePage | None) -> Iterator[Listener | None]:
    """The page's for each surface."""
    for number in count():
        yield live.listener(number) if live is not None else None


def _compute(
    subject: Subject,
    target: Path,
    options: SurfaceOptions,
    cluster: Executor | None,
    live: Listener | None,
) -> Surface:
    import torch

    from landscape.compute import compute_surface

    data, about = subject.examples()
    prepare_folder(target)
    with (
        resuming(target, "points", overwrite=options.output.overwrite, found=_found(target)) as listener,
        torch.no_grad(),
    ):
        planes = _planes(subject, next(iter(data.values())), target, options, about)
        with terminal_bar(subject.name) as bar:
            return compute_surface(
                subject.model,
                data,
                **subject.arguments,
                mask_source=subject.mask_source,
                plane=planes,
                points=options.plane.points,
                span=options.plane.span,
                dim=options.plane.dim,
                exact_grid=options.sampling.exact,
                tolerance=options.sampling.tolerance,
                max_points=options.sampling.max_points,
                at_a_time=options.sampling.at_a_time,
                batch_norm=options.batch_norm,
                sparse=options.computation.sparse,
                path=target,
                overwrite=options.output.overwrite,
                keep_directions=options.output.keep_directions,
                executor=cluster,
                label=subject.name,
                about=about,
                progress=both(live, listener, bar),
            )


def _planes(
    subject: Subject, steering: Examples, target: Path, options: SurfaceOptions, about: Mapping[str, Any]
) -> list[PlaneSpec]:
    if options.plane.plane == "hessian":
        from landscape.surface.hessian_plane import hessian_plane

        return [hessian_plane(subject, steering, target, options, about)]
    from landscape.surface.chosen_planes import chosen_planes

    return chosen_planes(options, subject)


def _found(target: Path) -> str:
    """What there is to go on from; nothing where that is finished."""
    if not target.exists():
        return ""
    points = sum(int(plane.computed.sum()) for plane in load_surface(target).planes)
    return f"{target} is there, with {points} computed points"


if __name__ == "__main__":
    main()
