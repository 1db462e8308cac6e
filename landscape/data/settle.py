"""The examples for a checkpoint, normalized as somebody says or as its answers tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from landscape.data import LoadedData, check_model_takes, data_folder, load_data, resolve_spec
from landscape.data.conventions import TRIAL_EXAMPLES, settle
from landscape.data.model_config import ModelData, model_data
from landscape.data.normalization import CHECKPOINTS
from landscape.devices import choose_device
from landscape.errors import UserError
from landscape.images import STATISTICS
from landscape.images.prepare import Change, Preparation

if TYPE_CHECKING:
    from landscape.checkpoint import LoadedCheckpoint
    from landscape.commandline.options import DataOptions


def load_settled(
    loaded: LoadedCheckpoint,
    data: DataOptions,
    parts: Sequence[str],
    *,
    others: Sequence[LoadedCheckpoint] = (),
    like: Mapping[str, Any] | None = None,
    device: str = "auto",
    say: Callable[[str], None],
) -> tuple[dict[str, LoadedData], dict[str, Any]]:
    """Each of `parts`, all normalized alike.

    Parameters
    ----------
    loaded, others
        The network, and further ones that are evaluated on the same examples.
    data, parts
        Which data, and which of "train", "validation" and "test".
    like
        What an earlier result says about its data, to load these again.
    device
        Where to try normalizations.
    say
        Gets a line on what was chosen, and more where there is doubt.

    Returns
    -------
    sets, record
        By part; and how the normalization was found, for result files.

    Raises
    ------
    UserError
        As `load_data` and `check_model_takes`.
    """
    told = [dict(one.data or {}) for one in (loaded, *others)]
    if like is not None and "drawn_from" not in like:  # earlier versions drew from all of the train split
        told = [{key: value for key, value in one.items() if key != "selection"} for one in told]
    given = (data.mean, data.std) if data.mean else None
    if like is not None and like.get("mean") is not None:
        given = (tuple(like["mean"]), tuple(like["std"]))
    root, own, labels = data_folder(data.data_root), None, data.loss is None
    spec, _ = resolve_spec(data.data, root, told[0], loaded.num_classes, download=data.download)
    if like is None and not told[0].get("mean"):
        own = model_data(loaded.model, loaded.architecture, loaded.arguments, loaded.name)
    folder = spec.startswith("imagefolder:")  # photographs, which the model's makers speak of
    source = None
    if own is not None and folder and given is None:
        given, source = own.normalization, own.source
    load = partial(
        load_data,
        data.data,
        root=data.data_root,
        num_classes=loaded.num_classes,
        download=data.download,
        normalization=given,
        preparation=_preparation(like, own if folder else None),
        change=_change(data, like),
        labels=labels,
        image_bytes=data.image_bytes,
    )
    sets = {
        name: load(
            split=name,
            examples=data.examples or None,
            seed=data.example_seed,
            stored=told[0],
            others=told[1:],
        )
        for name in parts
    }
    if source is not None:
        sets = {name: replace(one, normalized_by=source) for name, one in sets.items()}
    first = next(iter(sets.values()))
    say(first.how if first.stated else first.chosen)
    untried = like is not None or not labels  # a network of another loss can't be asked which it knows
    if untried or first.mean is None or first.normalized_by == CHECKPOINTS:
        return sets, {"source": first.normalized_by}
    likeliest = first.normalized_by, (first.mean, first.std or ())
    candidates = {} if own is None else {own.source: own.normalization}
    if own is not None and not first.stated and first.name not in STATISTICS:
        likeliest, candidates = (own.source, own.normalization), dict([likeliest])
    trial = _trial_images(first, partial(load, stored={"name": told[0].get("name")}))
    check_model_takes(loaded.model, trial)
    settled = settle(
        loaded.model,
        trial.inputs,
        trial.targets,
        likeliest,
        candidates,
        stated=first.stated,
        device=choose_device(device),
    )
    for line in settled.lines:
        say(line)
    mean, std = settled.normalization
    return {
        name: replace(one, mean=mean, std=std, normalized_by=settled.source) for name, one in sets.items()
    }, settled.record


def _preparation(like: Mapping[str, Any] | None, own: ModelData | None) -> Preparation | None:
    if like is None:
        return own.preparation if own is not None else None
    images = like.get("images")
    return Preparation.of(images) if isinstance(images, Mapping) else None


def _change(data: DataOptions, like: Mapping[str, Any] | None) -> Change | None:
    change = Change(skip_broken=data.skip_broken)
    if like is None:
        change = Change(data.image_size, data.crop, data.interpolation, data.skip_broken)
    return None if change == Change() else change


def _trial_images(first: LoadedData, load: Callable[..., LoadedData]) -> LoadedData:
    """The same few hundred images whichever examples are wanted, so that all results agree."""
    if ":" in first.name:  # a factory: calling it again may be dear
        few = slice(TRIAL_EXAMPLES)
        return replace(first, inputs=first.inputs[few], targets=first.targets[few])
    try:
        return load(split="train", examples=TRIAL_EXAMPLES, image_bytes=inf)
    except UserError:  # there is no train split
        return load(split=first.split, examples=TRIAL_EXAMPLES, image_bytes=inf)
