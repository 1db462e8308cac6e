"""The images that a command's options and its checkpoint mean, and by what they are normalized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from analysis.robustness.cifar_files import CifarFiles, read_labels
from analysis.robustness.cifar_names import NAMES
from analysis.robustness.imagenet_files import ImageNetFiles
from analysis.robustness.versions import GeneratedImages, Versions
from landscape.commandline.console import note
from landscape.data import data_folder
from landscape.data.choice import on_disk
from landscape.data.classes import check_class_names
from landscape.data.model_config import model_data
from landscape.data.normalization import known_normalization
from landscape.data.settle import load_settled
from landscape.data.subset import balanced_subset
from landscape.errors import UserError
from landscape.images import IMAGENET_STATISTICS, STATISTICS
from landscape.images.prepare import PHOTOGRAPHS

if TYPE_CHECKING:
    from analysis.robustness.robustness_options import RobustnessOptions
    from landscape.checkpoint import LoadedCheckpoint


@dataclass(frozen=True)
class ChosenImages:
    """Images and their normalization, with what a result says about them."""

    versions: Versions
    mean: tuple[float, ...]
    std: tuple[float, ...]
    about: dict[str, Any]


def chosen_images(loaded: LoadedCheckpoint, options: RobustnessOptions) -> ChosenImages:
    """For one network.

    Raises
    ------
    UserError
        When they can't be had, or don't fit the network.
    """
    kind = options.data.kind
    if not kind:
        clean, mean, std, about = _clean(loaded, options, options.data.data)
        return ChosenImages(clean, mean, std, about)
    path = Path(str(options.data.data).partition(":")[2])
    return _imagenet(loaded, options, path) if kind == "imagenetc" else _cifar(loaded, options, path)


def _clean(
    loaded: LoadedCheckpoint, options: RobustnessOptions, spec: str | None
) -> tuple[GeneratedImages, tuple[float, ...], tuple[float, ...], dict[str, Any]]:
    """Clean images as other commands read them."""
    data, split = replace(options.data, data=spec), options.data.split
    sets, record = load_settled(loaded, data, (split,), device=options.computation.device, say=note)
    found = sets[split]
    if found.inputs.dtype != torch.uint8 or found.inputs.dim() != 4 or found.mean is None:
        raise UserError(
            f"{found.name} gives {found.inputs.dtype} inputs of shape {list(found.inputs.shape)}; "
            "corruptions are of pixels: expected uint8 [N, 3, height, width]"
        )
    images = GeneratedImages(
        np.ascontiguousarray(found.inputs.numpy().transpose(0, 2, 3, 1)),
        found.targets.numpy(),
        found.indices,
        options.chosen.corruption_seed,
        found.name,
        found.num_classes,
    )
    about = {
        "name": found.name,
        "split": split,
        "drawn_from": found.drawn_from,
        "normalization": record,
        "images": None if found.preparation is None else found.preparation.record,
    }
    return images, tuple(found.mean), tuple(found.std or ()), about


def _cifar(loaded: LoadedCheckpoint, options: RobustnessOptions, path: Path) -> ChosenImages:
    data, chosen = options.data, options.chosen
    classes = int(data.kind.removeprefix("cifar").removesuffix("c"))
    _check_classes(loaded, classes, data.kind)
    check_class_names(loaded.data or {}, NAMES[classes], data.kind)
    spec = data.clean or on_disk(f"cifar{classes}", data_folder(data.data_root))
    labels = read_labels(path, classes)
    places = balanced_subset(labels, data.examples or None, data.example_seed)
    clean, mean, std, about = None, (), (), {}  # type: Any, Any, Any, Any
    if spec is not None:
        clean, mean, std, about = _clean(loaded, options, spec)
    else:
        note(f"no clean images of CIFAR-{classes} at hand, so no clean accuracy; --clean names them")
    found = CifarFiles(
        path, classes, chosen.names(), chosen=places, clean=clean, generate=chosen.generate_missing
    )
    if clean is None:
        mean, std, source = _normalization(loaded, options, STATISTICS[f"cifar{classes}"])
        about = {"normalization": {"source": source}}
    return ChosenImages(found, mean, std, about | _named(found, options))


def _imagenet(loaded: LoadedCheckpoint, options: RobustnessOptions, path: Path) -> ChosenImages:
    data, chosen = options.data, options.chosen
    clean = None
    if data.clean is not None:
        name, _, folder = data.clean.partition(":")
        if name != "imagefolder" or not folder:
            raise UserError(
                f"--clean {data.clean}: expected imagefolder:PATH, ImageNet's validation pictures"
            )
        clean = Path(folder)
    else:
        note("no clean pictures named, so no clean accuracy; --clean imagefolder:PATH names them")
    own = model_data(loaded.model, loaded.architecture, loaded.arguments, loaded.name)
    found = ImageNetFiles(
        path,
        chosen.names(),
        choose=lambda labels: balanced_subset(labels, data.examples or None, data.example_seed),
        clean=clean,
        preparation=PHOTOGRAPHS,
        generate=chosen.generate_missing,
        seed=chosen.corruption_seed,
    )
    _check_classes(loaded, found.classes, f"{path} (class folders)")
    unknown = check_class_names(loaded.data or {}, found.class_names, str(path))
    if unknown:
        note(f"{path}: {unknown}")
    usual = IMAGENET_STATISTICS if own is None else own.normalization
    mean, std, source = _normalization(loaded, options, usual)
    about = {"normalization": {"source": source}, "classes": found.classes, "size": list(found.size)}
    return ChosenImages(found, mean, std, about | _named(found, options))


def _named(found: CifarFiles | ImageNetFiles, options: RobustnessOptions) -> dict[str, Any]:
    note(f"{options.data.data}: {len(found.places)} of {found.count} images at each severity")
    return {"name": found.name, "split": "test", "drawn_from": f"{found.count} images"}


def _check_classes(loaded: LoadedCheckpoint, classes: int, what: str) -> None:
    if loaded.num_classes not in (None, classes):
        raise UserError(
            f"the model has {loaded.num_classes} classes, {what} has {classes}; "
            "choose the --data that the model was trained on"
        )


def _normalization(
    loaded: LoadedCheckpoint, options: RobustnessOptions, usual: tuple[Sequence[float], Sequence[float]]
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Mean and deviation as said, as the checkpoint says, or as usual; and whose word it is."""
    given = (options.data.mean, options.data.std) if options.data.mean else None
    (mean, std), source = known_normalization(given, loaded.data or {}) or (usual, "the data set's usual one")
    repeat = 3 // len(mean)
    return tuple(mean) * repeat, tuple(std) * repeat, source
