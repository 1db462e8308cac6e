"""Which images of a split a network was trained on and which it never saw, by its checkpoint's word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np

from landscape.data.subset import Indices
from landscape.errors import UserError
from landscape.images.selection import balanced_subset

PartName = Literal["train", "validation", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")

UNKNOWN = "a whole split; which images the network was trained on isn't known"
OTHERS = "other images than those that the checkpoint was trained on"


@dataclass(frozen=True)
class Pool:
    """The examples of a split that may be drawn, ascending ``indices`` or None for all; what they are."""

    indices: Indices | None
    text: str


@dataclass(frozen=True)
class WholeSplit:
    """A split as it was read, compared with what a checkpoint says of it.

    Attributes
    ----------
    labels
        int64 ``[N]`` of the whole split.
    digest
        Called where a checkpoint states a SHA-256; that of the split, None where it would take too long to
        find, or "" where the examples are no images that a run of ours could have been trained on.
    origin
        Of examples taken from a larger set: int64 ``[N]``, their places in it, and the SHA-256 of the whole.
    """

    labels: Indices
    digest: Callable[[], str | None]
    origin: tuple[Indices, str] | None = None


def find_pool(name: PartName, stored: Mapping[str, Any], split: WholeSplit) -> Pool:
    """The examples that a part's name stands for.

    Parameters
    ----------
    name
        "train": those trained on, where the checkpoint says it, else the whole split. "validation": those
        that were held out. "test": the whole split.
    stored
        What the checkpoint says about its data: ``sha256`` of the training split and ``selection`` with
        indices ``held_out`` and, where these are not all others, ``trained`` or its number ``examples`` and
        the ``seed`` that drew them.
    split
        The training split, or for "test" the test split.

    Raises
    ------
    UserError
        When the held-out images are asked for but the checkpoint doesn't tell them, or tells what can't be.
    """
    if name == "test":
        return Pool(None, "the test split")
    selection = stored.get("selection")
    if not isinstance(selection, Mapping) or selection.get("held_out") is None:
        if name == "validation":
            raise UserError(
                "--split validation: the checkpoint doesn't say which images were held out; use train or test"
            )
        return Pool(None, UNKNOWN)
    here, told = split.digest(), stored.get("sha256")
    if here is None and told is not None and not _may_be_folder(selection, stored, len(split.labels)):
        here = ""
    if here not in (None, told):
        if split.origin is not None and split.origin[1] == told:
            return _sampled(name, selection, split.origin[0])
        if name == "validation":
            raise UserError(
                f"--split validation: these are {OTHERS} (SHA-256); name its own with --data, or use train"
            )
        return Pool(None, OTHERS)
    return _pool(name, selection, split)


def _may_be_folder(selection: Mapping[str, Any], stored: Mapping[str, Any], total: int) -> bool:
    """Whether a folder of so many images, whose digest isn't known, can be what a network was trained on.

    A checkpoint of a training on a folder says how its images were prepared; no other one does.
    """
    last = max((int(one[-1]) for one in _told(selection) if len(one)), default=-1)
    return last < total and stored.get("images") is not None


def _told(selection: Mapping[str, Any]) -> list[Indices]:
    return [
        _checked(selection[name], None) for name in ("held_out", "trained") if selection.get(name) is not None
    ]


def common_pool(name: PartName, stored: Sequence[Mapping[str, Any]], split: WholeSplit) -> Pool:
    """What is this part for every one of several networks; `stored` has an entry for each.

    Raises
    ------
    UserError
        As `find_pool`, and when they have no such image in common.
    """
    pools = [find_pool(name, one, split) for one in stored]
    told = [one.indices for one in pools if one.indices is not None]
    texts = "; ".join(dict.fromkeys(one.text for one in pools))
    if all(np.array_equal(told[0], one) for one in told):
        return Pool(told[0] if told else None, texts)
    common = reduce(np.intersect1d, told)
    if not len(common):
        raise UserError(f"--split {name}: no image is this for each of the networks; use test")
    verb = (
        "were held out from the training of each network" if name == "validation" else "each was trained on"
    )
    unknown = "" if len(told) == len(pools) else "; of another network that isn't known"
    return Pool(common, f"the {len(common)} of {len(split.labels)} training images that {verb}{unknown}")


def _pool(name: PartName, selection: Mapping[str, Any], split: WholeSplit) -> Pool:
    held_out = _checked(selection["held_out"], len(split.labels))
    return _named(
        name,
        held_out if name == "validation" else _trained(selection, held_out, split.labels),
        len(split.labels),
    )


def _sampled(name: PartName, selection: Mapping[str, Any], origin: Indices) -> Pool:
    """The part among examples of a sample, told by their places in the whole."""
    held_out, trained = _checked(selection["held_out"], None), selection.get("trained")
    if name == "validation":
        inside = np.isin(origin, held_out)
    elif trained is not None:
        inside = np.isin(origin, _checked(trained, None))
    elif selection.get("examples") is None:
        inside = ~np.isin(origin, held_out)
    else:  # the run's choice can't be drawn again without the labels of the whole
        return Pool(None, UNKNOWN)
    return _named(name, np.flatnonzero(inside), len(origin))


def _named(name: PartName, chosen: Indices, total: int) -> Pool:
    if not len(chosen):
        what = "held no images out" if name == "validation" else "was trained on none of these images"
        raise UserError(f"--split {name}: by its checkpoint the network {what}; choose another split")
    verb = "were held out from training" if name == "validation" else "the network was trained on"
    return Pool(chosen, f"the {len(chosen)} of {total} training images that {verb}")


def _trained(selection: Mapping[str, Any], held_out: Indices, labels: Indices) -> Indices:
    if selection.get("trained") is not None:
        trained = _checked(selection["trained"], len(labels))
        if np.intersect1d(trained, held_out).size:
            raise UserError("the checkpoint names images both as trained on and as held out; save it again")
        return trained
    rest = np.setdiff1d(np.arange(len(labels), dtype=np.int64), held_out)
    count, seed = selection.get("examples"), selection.get("seed")
    if count is None:
        return rest
    if not isinstance(count, int) or not isinstance(seed, int) or not 1 <= count <= len(rest):
        raise UserError(
            f"the checkpoint says {count!r} training examples of seed {seed!r}; "
            f"expected whole numbers, 1 to {len(rest)} examples"
        )
    return balanced_subset(labels, rest, count, seed)


def _checked(values: Any, total: int | None) -> Indices:
    """Indices as int64, ascending and each once."""
    found = np.asarray(values)
    if found.ndim != 1 or not (np.issubdtype(found.dtype, np.integer) or not found.size):
        raise UserError(
            f"the checkpoint's selection of images is {found.dtype} of shape {list(found.shape)}; "
            "expected whole numbers [N]"
        )
    unique = np.unique(found.astype(np.int64))
    if len(unique) != len(found) or (len(unique) and unique[0] < 0):
        raise UserError(
            "the checkpoint's selection of images repeats indices or has negative ones; save it again"
        )
    if total is not None and len(unique) and unique[-1] >= total:
        raise UserError(
            f"the checkpoint selects image {unique[-1]}, but there are {total}; name its own data with --data"
        )
    return unique
