"""The command ``python -m landscape.surface``: checkpoints in; surface files, a page and a picture out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from landscape.errors import UserError, exit_with
from landscape.options import Options
from landscape.progress import Progress, terminal_bar
from landscape.store import Surface

SUFFIX = ".surface.h5"

EPILOGUE = """Examples:

  python -m landscape.surface ckpt.pt
      A 51×51 surface of the training loss, sampled adaptively, with its Ra; page and picture beside it.

  python -m landscape.surface sparse90.pt sparse98.pt --planes 3 --split both
      Compare two networks on the same examples and the same three direction seeds, train and test.

  python -m landscape.surface net.pth --model torchvision:resnet18 --data imagefolder:photos --examples 500
      Somebody else's checkpoint and images.

  python -m landscape.surface a.pt --between b.pt --dim 1 --exact
      The straight line from one network to another.

A run that was stopped goes on when the same command is given again."""


@dataclass(frozen=True)
class Result:
    """One finished surface and where it is."""

    surface: Surface
    path: Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run, print the table; bad input is one line and exit code 2."""
    import cyclopts

    app = cyclopts.App(
        name="python -m landscape.surface",
        help="Compute the loss surface around trained networks, with its roughness Ra.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        version_flags=(),
        result_action="return_value",
    )
    app["--help"].group = "Help"

    @app.default
    def command(checkpoints: list[Path], /, *, options: Options = Options()) -> None:  # noqa: B008
        """Compute the loss surface around trained networks, with its roughness Ra.

        Parameters
        ----------
        checkpoints
            Checkpoint files: ours, a state_dict (bare or wrapped), safetensors or TorchScript.
        """
        run(checkpoints, options)

    with terminating_signals():
        try:
            app(arguments, exit_on_error=False, print_error=False)
        except cyclopts.CycloptsError as error:
            exit_with(f"{error} (--help shows every option)".replace("\n", " "))
        except UserError as error:
            exit_with(error)


def run(checkpoints: Sequence[Path], options: Options) -> list[Result]:
    """What the command does, without its command line.

    Raises
    ------
    UserError
        For any bad input.
    KeyboardInterrupt
        When stopped; what was computed is in the surface file and a line says how to go on.
    """
    options.check()
    targets = output_paths(checkpoints, options.output.output)
    if options.computation.threads is not None:
        import torch

        torch.set_num_threads(options.computation.threads)
    results = [_one(path, target, options) for path, target in zip(checkpoints, targets, strict=True)]
    from landscape.report import report

    report([one.surface for one in results], [one.path for one in results], options.output)
    return results


def output_paths(checkpoints: Sequence[Path], output: Path | None) -> list[Path]:
    """Where each surface goes.

    Raises
    ------
    UserError
        When one file is named for several checkpoints, or two checkpoints would share a file.
    """
    folder = Path("surfaces") if output is None else output
    if output is not None and (output.name.endswith(".h5") or output.is_file()):
        if len(checkpoints) > 1:
            raise UserError(
                f"--output {output} is one file for {len(checkpoints)} checkpoints; name a folder"
            )
        if not output.name.endswith(".h5"):
            raise UserError(f"--output {output} is a file; name a folder or a file NAME{SUFFIX}")
        return [output]
    names = _distinct_names(checkpoints)
    return [folder / f"{name}{SUFFIX}" for name in names]


def _distinct_names(checkpoints: Sequence[Path]) -> list[str]:
    """File stems, with the folder's name in front where they repeat (``a/final.pt``, ``b/final.pt``)."""
    stems = [path.stem for path in checkpoints]
    if len(set(stems)) < len(stems):
        stems = [f"{path.resolve().parent.name}-{path.stem}" for path in checkpoints]
    if len(set(stems)) < len(stems):
        raise UserError("two checkpoints have the same name and folder name; compute them one by one")
    return stems


def _one(path: Path, target: Path, options: Options) -> Result:
    import torch

    from landscape.checkpoint import load_checkpoint
    from landscape.compute import compute_surface
    from landscape.masks import resolve_mask
    from training.models import ARCHITECTURES

    loaded = load_checkpoint(
        path, model=options.network.model, trust=options.network.trust_checkpoint, architectures=ARCHITECTURES
    )
    _say(f"{path}: {loaded.how}")
    params = {name: value.detach() for name, value in loaded.model.named_parameters()}
    mask, source = resolve_mask(options.network.mask, loaded.mask, params)
    data, about = _examples(loaded, options)
    _check_writable(target)
    with _stop_message(target) as listener, terminal_bar(loaded.name) as bar, torch.no_grad():
        surface = compute_surface(
            loaded.model,
            data,
            plane=_planes(options, params),
            mask=mask if mask is not None else "none",
            mask_source=source,
            points=options.plane.points,
            span=options.plane.span,
            dim=options.plane.dim,
            exact_grid=options.sampling.exact,
            tolerance=options.sampling.tolerance,
            max_points=options.sampling.max_points,
            batch_norm=options.network.batch_norm or ("recalibrate" if options.plane.between else "fixed"),
            device=options.computation.device,
            dtype=options.computation.dtype,
            batch_size=options.computation.batch_size,
            path=target,
            overwrite=options.output.overwrite,
            keep_directions=options.output.keep_directions,
            label=loaded.name,
            about=about,
            progress=_both(listener, bar),
        )
    return Result(surface, target)


def _examples(loaded: Any, options: Options) -> tuple[dict[str, Any], dict[str, Any]]:
    """The examples by split, and what the surface file says about checkpoint and data."""
    from landscape.data import load_data
    from landscape.examples import Examples

    names = ("train", "test") if options.data.split == "both" else (options.data.split,)
    sets = {
        name: load_data(
            options.data.data,
            root=options.data.data_root,
            split=name,
            examples=options.data.examples or None,
            seed=options.data.example_seed,
            stored=loaded.data,
            num_classes=loaded.num_classes,
            download=options.data.download,
        )
        for name in names
    }
    first = next(iter(sets.values()))
    _say(first.how)
    about = {
        "checkpoint": {"file": f"{loaded.name}", "sha256": loaded.sha256, "metrics": loaded.metrics},
        "architecture": loaded.architecture,
        "data": {
            "name": first.name,
            "examples": {name: len(one.targets) for name, one in sets.items()},
            "seed": options.data.example_seed,
            "mean": first.mean,
            "std": first.std,
        },
    }
    return {
        name: Examples.from_images(one.inputs, one.targets, one.mean, one.std) for name, one in sets.items()
    }, about


def _planes(options: Options, params: dict[str, Any]) -> list[Any]:
    from landscape.checkpoint import load_checkpoint
    from landscape.planes import BetweenPlane, RandomPlane
    from training.models import ARCHITECTURES

    plane = options.plane
    if plane.between:
        others = [
            load_checkpoint(
                path,
                model=options.network.model,
                trust=options.network.trust_checkpoint,
                architectures=ARCHITECTURES,
            )
            for path in plane.between
        ]
        weights = [dict(one.model.named_parameters()) for one in others]
        names = tuple(one.name for one in others)
        third = weights[1] if len(weights) > 1 else None
        return [BetweenPlane(weights[0], third, names, plane.seed, plane.normalize or "filter")]
    if plane.directions is not None:
        from landscape.direction_files import read_directions

        return [read_directions(plane.directions, plane.normalize or "none")]
    first = RandomPlane(plane.seed, plane.normalize or "filter")
    return [replace(first, seed=plane.seed + number) for number in range(plane.planes)]


def _check_writable(target: Path) -> None:
    """Fail before computing, not after."""
    from landscape.files import atomic_path

    probe = target.with_name(f".{target.name[:60]}.probe")
    with atomic_path(probe) as temporary:
        temporary.write_bytes(b"")
    probe.unlink()


def _both(
    first: Callable[[Progress], None], second: Callable[[Progress], None]
) -> Callable[[Progress], None]:
    def listener(state: Progress) -> None:
        first(state)
        second(state)

    return listener


@contextmanager
def _stop_message(target: Path) -> Iterator[Callable[[Progress], None]]:
    """Remember how far the run came, and say so when it is interrupted."""
    last: Progress | None = None

    def remember(state: Progress) -> None:
        nonlocal last
        last = state

    try:
        yield remember
    except KeyboardInterrupt:
        where = f"after {last.done} of about {last.expected} points" if last else "before the first point"
        kept = f"{target} keeps them; give the same command again to go on" if last else "nothing was written"
        _say(f"stopped {where}; {kept}")
        raise SystemExit(130) from None


@contextmanager
def terminating_signals() -> Iterator[None]:
    """Treat SIGTERM (a batch system's time limit) like Ctrl-C, for the length of the block."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
