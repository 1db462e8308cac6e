"""The command ``python -m landscape.surface``: checkpoints in; surface files, a page and a picture out."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from landscape.commandline.command import (
    both,
    distinct_names,
    load_examples,
    load_network,
    prepare_folder,
    run_command,
    say,
    threads,
)
from landscape.errors import UserError
from landscape.progress import Listener, Progress, terminal_bar
from landscape.surface import Surface, load_surface
from landscape.surface.surface_options import Options, OutputOptions

if TYPE_CHECKING:  # torch is imported only when there is something to compute
    from landscape.checkpoint import LoadedCheckpoint
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
- A quick look, and the same finer:\\
  `python -m landscape.surface net.pt --examples 200 --points 21 -o quick`\\
  `python -m landscape.surface net.pt --examples 0 --points 101 -o fine`

A run that was stopped, by Ctrl-C or by force, goes on when the same command is given again.\\
Exit codes: 0 done, 2 bad input (one line says what), 130 stopped.
"""


@dataclass(frozen=True)
class Result:
    """One finished surface and where it is."""

    surface: Surface
    path: Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run, print the table; bad input is one line and exit code 2."""

    def command(checkpoints: list[Path], /, *, options: Options = Options()) -> None:  # noqa: B008
        """Compute surfaces.

        Parameters
        ----------
        checkpoints
            Ours, a state_dict (bare or wrapped), safetensors or TorchScript. Several are compared.
        """
        run(checkpoints, options)

    run_command("landscape.surface", ABOUT, EPILOGUE, command, arguments)


def run(checkpoints: Sequence[Path], options: Options) -> list[Result]:
    """What the command does, without its command line.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With code 130 when stopped while computing; what was computed is in the surface file, and a line says
        how to go on.
    """
    options.check()
    if options.plane.trajectory and len(checkpoints) > 1:
        raise UserError(
            f"--trajectory leads to one network, {len(checkpoints)} checkpoints came; name the final one"
        )
    names = distinct_names(checkpoints)
    targets = output_paths(checkpoints, options.output.output)
    with threads(options.computation.threads):
        networks = [
            load_network(path, options.network) for path in checkpoints
        ]  # all, before hours go into the first
        with _live_page(targets, options.output) as live:
            listeners = [live.listener(number) if live else None for number in range(len(names))]
            results = [
                Result(_compute(loaded, name, target, options, listener), target)
                for loaded, name, target, listener in zip(networks, names, targets, listeners, strict=True)
            ]
            _report(results, options.output, live)
    return results


def _report(results: Sequence[Result], output: OutputOptions, live: LivePage | None) -> None:
    """Table, page and picture; then open pages get the last state."""
    from landscape.surface.surface_report import report

    surfaces = [one.surface for one in results]
    files = report(surfaces, [one.path for one in results], output)
    page = next((path for path in files if path.suffix == ".html"), None)
    if live is not None:
        live.finish(surfaces, page)
    elif output.open and page is not None:
        webbrowser.open(page.resolve().as_uri())


@contextmanager
def _live_page(targets: Sequence[Path], output: OutputOptions) -> Iterator[LivePage | None]:
    if not output.live:
        yield None
        return
    from landscape.viewer.live import LivePage

    try:
        page = LivePage(targets, anew=output.overwrite)
    except OSError as error:  # no port, no descriptor: the surfaces don't need a page
        say(f"no live page ({error.strerror or error}); computing goes on without")
        yield None
        return
    with page as live:
        live.announce(show=output.open)
        yield live


def output_paths(checkpoints: Sequence[Path], output: Path | None) -> list[Path]:
    """Where each surface goes.

    Raises
    ------
    UserError
        When one file is named for several checkpoints, or two checkpoints would share a file.
    """
    folder = Path("surfaces") if output is None else output
    is_folder = output is None or output.is_dir()
    if output is not None and not is_folder and (output.name.endswith(".h5") or output.is_file()):
        if len(checkpoints) > 1:
            raise UserError(
                f"--output {output} is one file for {len(checkpoints)} checkpoints; name a folder"
            )
        if not output.name.endswith(".h5"):
            raise UserError(f"--output {output} is a file; name a folder or a file NAME{SUFFIX}")
        return [output]
    return [folder / f"{name}{SUFFIX}" for name in distinct_names(checkpoints)]


def _compute(
    loaded: LoadedCheckpoint, name: str, target: Path, options: Options, live: Listener | None
) -> Surface:
    import torch

    from landscape.compute import compute_surface
    from landscape.kept_weights import resolve_mask
    from landscape.parameters import moving_params

    params = moving_params(loaded.model, options.network.params)
    mask, source = resolve_mask(options.network.mask, loaded.mask, params)
    data, about = load_examples(loaded, options.data, device=options.computation.device)
    prepare_folder(target, SUFFIX)
    _say_what_is_there(target, options.output.overwrite)
    if options.plane.plane == "hessian":
        from landscape.planes.hessian import hessian_plane

        first = next(iter(data.values()))  # the examples that steer
        planes: list[PlaneSpec] = [hessian_plane(loaded.model, first, mask, source, target, options, about)]
    else:
        from landscape.planes.chosen import chosen_planes

        planes = chosen_planes(options, loaded.name, params, mask)
    with _stop_message(target, options) as listener, terminal_bar(name) as bar, torch.no_grad():
        return compute_surface(
            loaded.model,
            data,
            plane=planes,
            mask=mask if mask is not None else "none",
            mask_source=source,
            params=options.network.params,
            points=options.plane.points,
            span=options.plane.span,
            dim=options.plane.dim,
            exact_grid=options.sampling.exact,
            tolerance=options.sampling.tolerance,
            max_points=options.sampling.max_points,
            batch_norm=options.batch_norm,
            device=options.computation.device,
            dtype=options.computation.dtype,
            batch_size=options.computation.batch_size,
            sparse=options.computation.sparse,
            path=target,
            overwrite=options.output.overwrite,
            keep_directions=options.output.keep_directions,
            label=name,
            about=about,
            progress=both(listener, bar) if live is None else both(live, both(listener, bar)),
        )


def _say_what_is_there(target: Path, overwrite: bool) -> None:
    if overwrite or not target.exists():
        return
    earlier = load_surface(target)
    points = sum(int(plane.computed.sum()) for plane in earlier.planes)
    say(
        f"{target} is there and finished; --overwrite would compute it anew"
        if earlier.complete
        else f"{target} is there, with {points} computed points"
    )


@contextmanager
def _stop_message(target: Path, options: Options) -> Iterator[Callable[[Progress], None]]:
    """Remember how far the run came, and say so when it is interrupted."""
    last: Progress | None = None

    def remember(state: Progress) -> None:
        nonlocal last
        last = state

    try:
        yield remember
    except KeyboardInterrupt:
        where = f"after {last.done} of about {last.expected} points" if last else "before the first new point"
        again = "the same command without --overwrite" if options.output.overwrite else "the same command"
        kept = f"{target} keeps what was computed; " if target.exists() else ""
        say(f"stopped {where}; {kept}give {again} to go on")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
