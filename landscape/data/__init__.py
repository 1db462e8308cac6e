"""The examples that a surface is computed on: from a data set's name, or found by the checkpoint's word."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.data.choice import FOLDERS, choose_spec, on_disk
from landscape.data.classes import check_class_names
from landscape.data.factory import read_factory
from landscape.data.normalization import (
    GIVEN,
    Channels,
    Normalization,
    known_normalization,
    per_channel,
    usual_normalization,
)
from landscape.data.parts import PARTS, PartName, WholeSplit, common_pool
from landscape.data.subset import Indices, balanced_subset
from landscape.errors import UserError
from landscape.examples.pictures import Pictures
from landscape.images import (
    DEFAULT_ROOT,
    KINDS,
    ImageSet,
    Split,
    read_images,
    sample_origin,
    unknown_data,
)
from landscape.images.folder import list_folder, said_of_skipped
from landscape.images.prepare import BrokenPictureError, Change, Preparation
from landscape.images.selection import fingerprint
from landscape.progress import counted, watching

IMAGE_BYTES = float(1 << 30)
_BYTES_A_VALUE = 5  # uint8, and float32 beside it
ROOT_VARIABLE = "SHARPSCAPE_DATA"


@dataclass(frozen=True)
class LoadedData:
    """Chosen examples of one split, not yet normalized.

    Attributes
    ----------
    inputs
        uint8 pixels of shape ``[N, C, H, W]``, or floating-point ``[N, …]`` as a user's factory gave them.
    targets
        int64 class labels of shape ``[N]``.
    mean, std
        Per channel, for pixels in 0..1; None where the inputs are to be taken as they are.
    name, split
        Of the data set, without paths; "train", "validation" or "test".
    num_classes, classes_known
        Number of classes; whether the data set names them, or only its labels and the network tell.
    indices
        int64 ``[N]``: the chosen examples' places in the split of the files ("validation" lies in train), in
        the order of `inputs`.
    drawn_from
        What they were chosen from, in words: the images trained on, those held out, a whole split.
    chosen
        One line: what was chosen, and why.
    normalized_by
        Where mean and deviation come from: "as given", "the checkpoint's", … .
    preparation
        How each image was resized and cropped; None where it is as in the file.
    pictures
        Where they are too many for memory: the files that stand for `inputs`, then ``[0, C, H, W]``.
    stated
        Whether someone says so, user or checkpoint, rather than that it's usual for these data.
    """

    inputs: Tensor
    targets: Tensor
    mean: Channels | None
    std: Channels | None
    name: str
    split: str
    num_classes: int
    indices: Indices
    chosen: str
    normalized_by: str
    stated: bool
    classes_known: bool = True
    drawn_from: str = ""
    preparation: Preparation | None = None
    pictures: Pictures | None = None

    @property
    def how(self) -> str:
        """One line: what was chosen, why, and how it is normalized."""
        if self.mean is None:
            return f"{self.chosen}; inputs taken as they are"
        return f"{self.chosen}; normalization: {self.normalized_by}"

    def normalized(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Examples `start` to `stop` as float32, pixels as ``(pixel / 255 - mean) / std``, tokens as such."""
        part = self.inputs[start:stop]
        if self.pictures is not None:
            part = self.pictures.pick(slice(start, stop)).decoded()
        if self.mean is None or self.std is None:
            return part if part.dtype in (torch.int32, torch.int64) else part.float()
        shape = (1, -1, *[1] * (part.dim() - 2))
        mean, std = (torch.tensor(values).reshape(shape) for values in (self.mean, self.std))
        return (part.float() / 255 - mean) / std


def load_data(
    spec: str | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    split: str = "train",
    examples: int | None = None,
    seed: int = 0,
    stored: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    download: bool = False,
    normalization: Normalization | None = None,
    others: Sequence[Mapping[str, Any]] = (),
    preparation: Preparation | None = None,
    change: Change | None = None,
    labels: bool = True,
    image_bytes: float = IMAGE_BYTES,
) -> LoadedData:
    """Load a fixed, seeded, class-balanced subset of a data set's split.

    Parameters
    ----------
    spec
        ``cifar10``, ``cifar100``, ``npz:PATH``, ``imagefolder:PATH``, ``sample`` (`landscape.images`) or
        ``package.module:factory`` (`landscape.data.factory`). None: what the checkpoint says, else what is on
        disk, else the shipped sample.
    root
        Folder of the data sets, by default ``$SHARPSCAPE_DATA`` or ``./data``.
    split
        "train": the images that the network was trained on, where the checkpoint says which, else all of the
        train split. "validation": those of the train split that were held out. "test".
    examples
        How many; None, or more than there are, takes all.
    seed
        Of the choice; see `landscape.data.subset.balanced_subset`.
    stored
        What the checkpoint says about its data: ``name``, ``mean``, ``std``, ``selection``, ….
    num_classes
        The network's number of classes, where known.
    download
        Let torchvision fetch CIFAR into `root` when it isn't there.
    normalization
        Mean and standard deviation per channel. By default those that the checkpoint stores, else the data
        set's published ones, else ImageNet's for image folders and measured ones for ``npz``.
    others
        What further checkpoints say, evaluated on the same examples: "train" and "validation" are then the
        images that are this for each network.
    preparation
        How images are resized and cropped. By default as the checkpoint stores it, else images of a file stay
        as they are and those of a folder become what `landscape.images.prepare.usual_preparation` says.
    change
        What is different from that: size, crop, interpolation.
    labels
        Whether a factory's targets must be class labels; else they are whatever the loss takes, and the
        subset is drawn without balance.
    image_bytes
        Pictures of a folder that would take more memory, decoded and normalized, stay in their files.

    Raises
    ------
    UserError
        When the data can't be found or read, are empty, of the wrong type or shape, or have another number
        of classes than the network, or others than the checkpoint names.
    """
    if split not in PARTS:
        raise UserError(f"unknown split {split!r}; expected train, validation or test")
    folder = data_folder(root)
    stored = stored or {}
    spec, why = resolve_spec(spec, folder, stored, num_classes, download=download)
    known = known_normalization(normalization, stored)
    if preparation is None and isinstance(stored.get("images"), Mapping):
        preparation = Preparation.of(stored["images"])
    told = (stored, *others)
    wanted = _Request(folder, split, examples, seed, download, told, preparation, change, labels, image_bytes)
    kind, _, rest = spec.partition(":")
    read = _from_factory if rest and kind not in ("npz", "imagefolder") else _from_images
    if read is _from_images and kind not in {one.partition(":")[0] for one in KINDS}:
        raise unknown_data(spec, "package.module:factory")
    if change is not None and change.skip_broken and kind != "imagefolder":
        raise UserError(f"{spec}: only pictures of an image folder can be skipped where they are broken")
    data = read(spec, why, wanted, known)
    if not data.classes_known and num_classes is not None:
        data = replace(data, num_classes=max(data.num_classes, num_classes))
    if labels:
        _check_classes(data, num_classes)
    return data


def data_folder(root: str | os.PathLike[str] | None) -> Path:
    """The given folder of the data sets, else ``$SHARPSCAPE_DATA``, else ``./data``."""
    return Path(root if root is not None else os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)


def resolve_spec(
    spec: str | None, folder: Path, stored: Mapping[str, Any], num_classes: int | None, *, download: bool
) -> tuple[str, str]:
    """The data set as `load_data` reads it, and why that one; UserError where there is none."""
    if spec is None:
        return choose_spec(folder, str(stored.get("name") or ""), num_classes, download)
    return (on_disk(spec, folder) if spec in FOLDERS else None) or spec, "given"


def check_model_takes(model: nn.Module, data: LoadedData, *, labels: bool = True) -> None:
    """Try the network on two examples.

    Raises
    ------
    UserError
        When it can't take inputs of this shape or, where targets are `labels`, doesn't return
        ``[N, classes]`` or has another number of classes than the data.
    """
    shape = list(data.inputs.shape[1:])
    try:
        with torch.no_grad():
            scores = model(data.normalized(0, 2))
    except Exception as error:  # timm's models check their inputs with assert, a stranger's with anything
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(f"the model can't take inputs of shape {shape} of {data.name}: {reason}") from error
    if not labels:
        return
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        kind = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UserError(f"the model returns {kind} for two examples; expected scores of shape [2, classes]")
    _check_classes(data, int(scores.shape[1]))


def _check_classes(data: LoadedData, classes: int | None) -> None:
    if classes is None or data.num_classes == classes:
        return
    if data.classes_known or data.num_classes > classes:
        raise UserError(
            f"the model has {classes} classes, {data.name} has {data.num_classes}; "
            "choose the --data that the model was trained on"
        )


@dataclass(frozen=True)
class _Request:
    """Which examples are wanted."""

    root: Path
    part: PartName
    examples: int | None
    seed: int
    download: bool
    stored: Sequence[Mapping[str, Any]]
    preparation: Preparation | None
    change: Change | None
    labels: bool
    image_bytes: float

    @property
    def split(self) -> Split:
        """The split of the files in which they lie."""
        return "test" if self.part == "test" else "train"

    def said_of_classes(self, names: Sequence[str] | None, what: str) -> list[str]:
        """As `check_class_names`, for every network."""
        told = [check_class_names(one, names, what) for one in self.stored] if self.labels else []
        return list(dict.fromkeys(filter(None, told)))

    def choose(self, whole: WholeSplit) -> _Choice:
        pool = common_pool(self.part, self.stored, whole)
        among = np.arange(len(whole.labels)) if pool.indices is None else pool.indices
        chosen = among[balanced_subset(whole.labels[among], self.examples, self.seed)]
        short = self.examples is not None and self.examples > len(among)
        note = f" (all there are; {self.examples} asked for)" if short else ""
        of = pool.text if pool.indices is not None else f"{len(among)} examples"
        if pool.indices is None and any(one.get("selection") for one in self.stored):
            note += f" ({pool.text})" if self.part == "train" else ""
        return _Choice(chosen, pool.text, f"{self.split} split, {len(chosen)} of {of}{note}")


@dataclass(frozen=True)
class _Choice:
    """Places in the split, what they were drawn from, and both in words."""

    indices: Indices
    drawn_from: str
    text: str


def _from_images(
    spec: str, why: str, wanted: _Request, known: tuple[Normalization, str] | None
) -> LoadedData:
    pictures: Pictures | None = None
    many = _many_pictures(Path(spec.partition(":")[2]), wanted) if spec.startswith("imagefolder:") else None
    if many is None:
        found, labels, choice = _chosen_images(spec, wanted)
    else:
        found, labels, choice, pictures = many
    inputs = torch.from_numpy(np.ascontiguousarray(found.images.transpose(0, 3, 1, 2)))
    numbers, source = known or usual_normalization(spec, found.name, wanted.split, wanted.root)
    mean, std = per_channel(numbers, inputs.shape[1])
    notes = [found.remark] if found.remark else []
    notes += wanted.said_of_classes(found.classes, found.name)
    notes += [found.preparation.text] if found.preparation is not None else []
    title = "shipped CIFAR-10 sample" if spec == "sample" else found.name
    return LoadedData(
        inputs=inputs,
        targets=torch.from_numpy(found.labels),
        mean=mean,
        std=std,
        name=found.name,
        split=wanted.part,
        num_classes=len(found.classes) if found.classes else int(labels.max()) + 1,
        indices=choice.indices,
        chosen="; ".join([f"{title} ({why})", choice.text, *notes]),
        preparation=found.preparation,
        normalized_by=source,
        stated=known is not None,
        drawn_from=choice.drawn_from,
        pictures=pictures,
    )


def _many_pictures(path: Path, wanted: _Request) -> tuple[ImageSet, Indices, _Choice, Pictures] | None:
    """The chosen pictures of a folder as files, with an `ImageSet` without pixels; None if they fit memory.

    Where broken ones are to be left out, each is decoded once, and then forgotten.
    """
    there = list_folder(path, wanted.split, wanted.preparation)
    choice = wanted.choose(WholeSplit(there.labels, lambda: None))
    how = there.usual.changed(wanted.change)
    if len(choice.indices) * 3 * math.prod(how.size) * _BYTES_A_VALUE <= wanted.image_bytes:
        return None
    files = tuple(there.files[index] for index in choice.indices)
    broken: list[int] = []
    if wanted.change is not None and wanted.change.skip_broken:
        broken = _broken(Pictures(files, how))
    remarks = [there.remark, said_of_skipped([files[number] for number in broken], len(files))]
    remarks.append(f"{len(files) - len(broken):,} pictures are decoded as they are needed")
    indices = np.delete(choice.indices, broken)
    left_out = set(broken)
    good = tuple(one for number, one in enumerate(files) if number not in left_out)
    if not good:
        raise UserError(f"none of the {len(files)} pictures can be decoded, {files[0]} is the first of them")
    nothing = np.empty((0, *how.size, 3), np.uint8)
    remark = "; ".join(filter(None, remarks))
    found = ImageSet(
        nothing, there.labels[indices], there.classes, there.name, wanted.split, how, remark, tuple(broken)
    )
    return found, there.labels, replace(choice, indices=indices), Pictures(good, how)


def _broken(pictures: Pictures) -> list[int]:
    """Numbers of those that can't be decoded, looked for with a bar that counts pictures."""
    found = []
    with watching("auto", "pictures", "pictures") as listener:
        tell = (lambda portion: None) if listener is None else counted(listener, len(pictures))
        for number in range(len(pictures)):
            try:
                pictures.one(number)
            except BrokenPictureError:
                found.append(number)
            tell(1)
    return found


def _chosen_images(spec: str, wanted: _Request) -> tuple[ImageSet, Indices, _Choice]:
    """The chosen images, the labels of the whole split, and the choice; a folder decodes only these."""
    if spec.startswith("imagefolder:"):
        made: list[tuple[Indices, _Choice]] = []

        def choose(labels: Indices) -> Indices:
            made[:] = [(labels, wanted.choose(WholeSplit(labels, lambda: None)))]
            return made[0][1].indices

        try:
            found = read_images(
                spec,
                wanted.split,
                wanted.root,
                choose=choose,
                preparation=wanted.preparation,
                change=wanted.change,
            )
        except BrokenPictureError as error:
            raise UserError(f"{error}; --skip-broken leaves such pictures out and counts them") from error
        (labels, choice) = made[0]
        return found, labels, replace(choice, indices=np.delete(choice.indices, found.left_out))
    whole = read_images(spec, wanted.split, wanted.root, download=wanted.download)
    origin = sample_origin(wanted.split) if spec == "sample" else None
    choice = wanted.choose(WholeSplit(whole.labels, lambda: fingerprint(whole), origin))
    prepared = whole.only(choice.indices).prepared(wanted.preparation, wanted.change)
    return prepared, whole.labels, choice


def _from_factory(
    spec: str, why: str, wanted: _Request, known: tuple[Normalization, str] | None
) -> LoadedData:
    made: list[_Choice] = []

    def choose(labels: Indices) -> Indices:
        made[:] = [wanted.choose(WholeSplit(labels, lambda: ""))]
        return made[0].indices

    if wanted.change is not None:
        raise UserError(f"{spec} gives inputs of its own size; resize and crop them in the factory")
    found = read_factory(spec, wanted.split, choose, labels=wanted.labels)
    choice = made[0]
    notes = wanted.said_of_classes(found.names, spec)
    mean, std, source = None, None, "none"
    if found.inputs.dtype == torch.uint8:
        numbers, source = known or (((0.0,), (1.0,)), "none known, pixels scaled to 0..1")
        mean, std = per_channel(numbers, found.inputs.shape[1])
    elif known is not None and known[1] == GIVEN:
        raise UserError(
            f"{spec} gives {found.inputs.dtype} inputs, which are taken as they are; mean and deviation are "
            "for uint8 pixels: leave them out, or normalize in the factory"
        )
    return LoadedData(
        inputs=found.inputs,
        targets=found.targets,
        mean=mean,
        std=std,
        name=spec,
        split=wanted.part,
        num_classes=found.classes or found.largest + 1,
        indices=choice.indices,
        chosen="; ".join([f"{spec} ({why})", choice.text, *notes]),
        normalized_by=source,
        stated=known is not None or found.inputs.dtype != torch.uint8,
        classes_known=found.classes is not None,
        drawn_from=choice.drawn_from,
    )
