"""The command ``python -m analysis.robustness``: checkpoints in; a table, HDF5 files, JSON and CSV out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.robustness.corruption_names import CORRUPTIONS
from analysis.robustness.robustness_file import SUFFIX
from analysis.robustness.robustness_options import RobustnessOptions
from landscape.commandline.command import run_command
from landscape.commandline.console import note, terminal
from landscape.commandline.outputs import say_written, write_texts
from landscape.commandline.results import both, distinct_names, prepare_folder, result_paths, resuming
from landscape.commandline.subject import Subject, computing, subjects
from landscape.progress import terminal_bar

if TYPE_CHECKING:
    from analysis.robustness.chosen_images import ChosenImages
    from analysis.robustness.reference_errors import Reference
    from analysis.robustness.result import Robustness

ABOUT = """Accuracy of trained networks on corrupted images: mean accuracy and mean corruption error (mCE).

The 15 + 4 corruptions of Hendrycks and Dietterich (ICLR 2019), at five severities.

CIFAR-10-C, CIFAR-100-C and ImageNet-C are read as they are published. Without them the corruptions are made
here from clean images, seeded by image, and every result says so: such numbers can be compared with each
other, not with published ones. Corruptions: {names}.
"""

EPILOGUE = """Examples:

- CIFAR-10-C, unpacked:\\
  `python -m analysis.robustness net.pt --data cifar10c:CIFAR-10-C`
- Two networks on corruptions that are made here of 2,000 test images, with their paired difference:\\
  `python -m analysis.robustness a.pt b.pt --data cifar10 --examples 2000 --csv robust.csv`
- ImageNet-C, a published network of torchvision, the clean pictures beside it:\\
  `python -m analysis.robustness resnet50.pth --model torchvision:resnet50 --data imagenetc:IMAGENET-C
  --clean imagefolder:IMAGENET`

A run that was stopped, by Ctrl-C or by force, goes on when the same command is given again.\\
Exit codes: 0 done, 2 bad input (one line says what), 130 stopped (Ctrl-C; 143 SIGTERM, 129 SIGHUP).
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print; bad input is one line and exit code 2."""

    def command(checkpoints: list[Path], /, *, options: RobustnessOptions = RobustnessOptions()) -> None:  # noqa: B008
        """Measure robustness.

        Parameters
        ----------
        checkpoints
            Ours, a state_dict (bare or wrapped), safetensors or TorchScript. Several are compared.
        """
        measure_robustness(checkpoints, options)

    about = ABOUT.format(names=", ".join(CORRUPTIONS))
    run_command("analysis.robustness", about, EPILOGUE, command, arguments)


def measure_robustness(checkpoints: Sequence[Path], options: RobustnessOptions) -> list[Robustness]:
    """What the command does, without its command line.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With 128 and the signal's number when stopped while computing; a line says how to go on.
    """
    options.check(checkpoints)
    names = distinct_names(checkpoints)
    paths = result_paths(names, options.output.output, "robustness", SUFFIX)
    found: list[Robustness] = []
    with computing(options.computation.threads, options.output):
        networks = subjects(checkpoints, names, options)
        images = _images(networks, options)
        for subject, path, shown in zip(networks, paths, images, strict=True):
            found.append(_measure(subject, shown, path, options))
        _report(found, paths, _reference(found, options), options)
    return found


def _images(networks: Sequence[Subject], options: RobustnessOptions) -> list[ChosenImages]:
    """For each network, all before hours go into the first; what is made is made once for all of them."""
    from dataclasses import replace

    from analysis.robustness.chosen_images import chosen_images
    from analysis.robustness.remembered import Remembered
    from analysis.robustness.versions import GeneratedImages

    found = [chosen_images(subject.loaded, options) for subject in networks]
    first = found[0].versions
    alike = all(one.versions.settings == first.settings for one in found)
    if len(found) > 1 and alike and isinstance(first, GeneratedImages):
        shared = Remembered(first, len(options.chosen.names()))
        return [replace(one, versions=shared) for one in found]
    return found


def _measure(subject: Subject, shown: ChosenImages, path: Path, options: RobustnessOptions) -> Robustness:
    from analysis.robustness.measuring import robustness

    prepare_folder(path)
    machine, output = subject.machine, options.output
    with (
        resuming(path, "images", overwrite=output.overwrite) as listener,
        terminal_bar(subject.name, "images") as bar,
    ):
        return robustness(
            subject.model,
            shown.versions,
            mean=shown.mean,
            std=shown.std,
            corruptions=options.chosen.names(),
            name=subject.name,
            file=str(subject.path),
            sha256=subject.loaded.sha256,
            about=_about(subject) | {"data": shown.about},
            path=path,
            overwrite=output.overwrite,
            batch_size=machine["batch_size"],
            device=machine["device"],
            dtype=machine["dtype"],
            progress=both(listener, bar),
        )


def _about(subject: Subject) -> dict[str, Any]:
    """The checkpoint, and of our own what it was trained by."""
    from analysis.robustness.result import COMMON

    loaded = subject.loaded
    config = loaded.config
    method, optimizer = (
        part if isinstance(part := config.get(key), dict) else {} for key in ("method", "optimizer")
    )
    others = ("model", "method", "optimizer", "seed")
    recipe = {key: value for key, value in config.items() if key not in others}
    recipe |= {key: value for key, value in method.items() if key not in ("name", "sparsity")}
    recipe |= {key: value for key, value in optimizer.items() if key in COMMON}
    own = {key: value for key, value in optimizer.items() if key not in (*COMMON, "name")}
    known = {
        "method": method.get("name"),
        "sparsity": method.get("sparsity"),
        "optimizer": optimizer.get("name"),
        "seed": config.get("seed"),
        "recipe": recipe or None,
        "own": own or None,
    }
    return {
        "checkpoint": {"file": loaded.name, "sha256": loaded.sha256, "metrics": loaded.metrics},
        "architecture": loaded.architecture,
        "density": subject.density,
        "run": {key: value for key, value in known.items() if value is not None},
    }


def _reference(found: Sequence[Robustness], options: RobustnessOptions) -> Reference:
    """By whose errors the mean corruption error is divided; UserError where the named one can't be."""
    from analysis.robustness.reference_errors import Reference, usual_reference
    from analysis.robustness.result import check_same_images
    from analysis.robustness.robustness_file import read

    path = options.chosen.reference
    if path is None:
        return usual_reference(options.data.kind == "imagenetc" and all(map(_as_published, found)))
    other = read(path)
    for one in found:
        check_same_images(other, one)
    return Reference(f"{other.name}, on the same images", other.corruption_errors())


def _as_published(one: Robustness) -> bool:
    """Whether these are ImageNet-C's classes and pixels, on which AlexNet's errors are known."""
    data = one.about["data"]
    return not one.generated and (data["classes"], data["size"]) == (1000, [224, 224])


def _report(
    found: Sequence[Robustness], paths: Sequence[Path], reference: Reference, options: RobustnessOptions
) -> None:
    from analysis.robustness.robustness_table import NOT_COMPARABLE, table, to_csv, to_json

    json, csv = options.output.json, options.output.csv
    made = sorted({name for one in found for name in one.generated})
    if made:
        note(f"{len(made)} corruptions {NOT_COMPARABLE}")
    if not write_texts([(json, lambda: to_json(found, reference)), (csv, lambda: to_csv(found, reference))]):
        terminal().print(table(found, reference))
    say_written([*paths, json, csv])


if __name__ == "__main__":
    main()
