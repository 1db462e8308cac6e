"""Examples from a user's own callable, named ``package.module:factory``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from landscape.data.subset import Indices
from landscape.errors import UserError
from landscape.factories import call_factory, import_factory


@dataclass(frozen=True)
class FactoryData:
    """Chosen examples of a split of `total`.

    ``inputs`` is uint8 (N, C, H, W), floating or tokens of any shape (N, …), ``targets`` int64 (N,) where
    they are labels; ``largest`` is the largest label of the whole split, ``classes`` the number of classes
    where the data set lists them, ``names`` what it calls them where these are words.
    """

    inputs: Tensor
    targets: Tensor
    total: int
    largest: int
    classes: int | None
    names: tuple[str, ...] | None


class _Source(NamedTuple):
    """Labels of all examples, and how to read some of them as (inputs, targets)."""

    labels: Tensor
    read: Callable[[Tensor], tuple[Tensor, Tensor]]


def read_factory(
    spec: str, split: str, choose: Callable[[Indices], Indices], *, labels: bool = True
) -> FactoryData:
    """Call ``factory(split)``, `split` being "train" or "test", and take the examples that `choose` picks.

    The factory returns one of

    - a pair ``(inputs, targets)`` of tensors or arrays;
    - a map-style ``torch.utils.data.Dataset`` of ``(input, target)`` examples. Where it has an attribute
      ``targets``, as torchvision's have, only the chosen examples are read;
    - an iterable of batches ``(inputs, targets)``, such as a ``DataLoader`` that doesn't shuffle.

    Inputs are uint8 pixels (N, channels, height, width), to be normalized by the caller, or floating-point
    numbers of any shape, taken as they are. PIL images become RGB pixels. Targets are integer class labels.
    Without `labels` targets are any tensor with one entry per example, and inputs tokens (int64), too. An
    attribute ``classes`` (a list of names) tells the number of classes.

    Raises
    ------
    UserError
        When the factory fails, returns something else, or its examples are empty or of the wrong type.
    """
    made = call_factory(spec, import_factory(spec), split)
    try:
        source = _source(made, spec, labels)
        alike = torch.zeros(len(source.labels), dtype=torch.int64)
        drawn_by = _labels(source.labels, spec) if labels else alike
        keep = choose(drawn_by.numpy())
        inputs, targets = source.read(torch.from_numpy(keep))
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{spec}: reading the {split} examples failed: {reason}") from error
    names = getattr(made, "classes", None)
    names = names.tolist() if isinstance(names, np.ndarray) else names
    names = tuple(names) if isinstance(names, (list, tuple)) else ()
    return FactoryData(
        inputs=_inputs(inputs, len(keep), spec, tokens=not labels),
        targets=_labels(targets, spec) if labels else targets.detach().cpu(),
        total=len(drawn_by),
        largest=int(drawn_by.max()),
        classes=len(names) or None,
        names=names if names and all(isinstance(one, str) for one in names) else None,
    )


def _source(made: Any, spec: str, labels: bool) -> _Source:
    if isinstance(made, (tuple, list)) and len(made) == 2 and isinstance(made[1], (Tensor, np.ndarray)):
        return _held(torch.as_tensor(made[0]), torch.as_tensor(made[1]), spec)
    if isinstance(made, Dataset) and not isinstance(made, IterableDataset):
        return _dataset(made, spec, labels)
    if isinstance(made, Iterable):
        return _batches(made, spec)
    raise UserError(
        f"{spec} returned a {type(made).__name__}; expected (inputs, targets), a Dataset or batches of these"
    )


def _held(inputs: Tensor, targets: Tensor, spec: str) -> _Source:
    if len(inputs) != len(targets):
        raise UserError(f"{spec}: {len(inputs)} inputs but {len(targets)} targets; expected as many of each")
    return _Source(targets, lambda keep: (inputs[keep], targets[keep]))


def _dataset(data: Any, spec: str, labelled: bool) -> _Source:
    def read(keep: Tensor) -> tuple[Tensor, Tensor]:
        examples = [data[index] for index in keep.tolist()]
        if not examples:
            raise UserError(f"{spec}: the data set is empty; at least one example is needed")
        targets = [torch.as_tensor(int(one[1]) if labelled else one[1]) for one in examples]
        return torch.stack([_pixels(one[0]) for one in examples]), torch.stack(targets)

    labels = getattr(data, "targets", None)
    if labels is not None and len(labels) == len(data):
        return _Source(torch.as_tensor(labels), read)
    return _held(*read(torch.arange(len(data))), spec)


def _pixels(value: Any) -> Tensor:
    """A tensor as it is; a PIL image as uint8 (3, H, W)."""
    if hasattr(value, "convert"):
        return torch.from_numpy(np.array(value.convert("RGB"))).permute(2, 0, 1)
    return torch.as_tensor(value)


def _batches(batches: Iterable[Any], spec: str) -> _Source:
    pairs = []
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise UserError(f"{spec}: a batch is a {type(batch).__name__}; expected a pair (inputs, targets)")
        pairs.append((torch.as_tensor(batch[0]), torch.as_tensor(batch[1])))
    if not pairs:
        raise UserError(f"{spec}: there are no batches; at least one example is needed")
    return _held(
        torch.cat([inputs for inputs, _ in pairs]), torch.cat([targets for _, targets in pairs]), spec
    )


def _labels(targets: Tensor, spec: str) -> Tensor:
    if targets.dim() != 1 or targets.is_floating_point() or targets.is_complex():
        raise UserError(
            f"{spec}: the targets are {targets.dtype} of shape {list(targets.shape)}; "
            "expected one integer class label for each example"
        )
    if not len(targets):
        raise UserError(f"{spec}: the data set is empty; at least one example is needed")
    labels = targets.detach().cpu().long()
    if int(labels.min()) < 0:
        raise UserError(f"{spec}: the smallest label is {int(labels.min())}; expected labels from 0")
    return labels


def _inputs(inputs: Tensor, count: int, spec: str, tokens: bool) -> Tensor:
    pixels = inputs.dtype == torch.uint8 and inputs.dim() == 4 and inputs.shape[1] in (1, 3)
    taken = inputs.is_floating_point() or (tokens and inputs.dtype in (torch.int32, torch.int64))
    if not (pixels or taken) or len(inputs) != count:
        raise UserError(
            f"{spec}: the inputs are {inputs.dtype} of shape {list(inputs.shape)}; "
            f"expected floating-point {'or int64 ' if tokens else ''}(N, …) or uint8 pixels "
            f"(N, 1 or 3, height, width){'' if tokens else '; tokens go with --loss classification'}"
        )
    return inputs.detach().cpu().contiguous()
