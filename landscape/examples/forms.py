"""What users call data, as `Examples`: tensors, arrays, data sets, loaders, iterables of batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from landscape.errors import UserError
from landscape.examples import Examples

Data: TypeAlias = Examples | tuple[Tensor, ...] | Iterable[Any]

EXPECTED = "expected (inputs, targets), a Dataset, a DataLoader or another iterable of batches"
_READ = 256  # samples of a data set at a time
_RESERVED = ("", ".", "..")


def named_splits(data: Data | Mapping[str, Data]) -> Mapping[str, Data]:
    """Data by split; a single set is called "data".

    Raises
    ------
    UserError
        For no splits, names that can't stand in a file, and a mapping that is a batch.
    """
    if not isinstance(data, Mapping):
        return {"data": data}
    if not data:
        raise UserError("no examples: the data mapping is empty; expected at least one split")
    for name, one in data.items():
        if not isinstance(name, str) or name in _RESERVED or "/" in name or "\0" in name:
            raise UserError(f"a split is called {name!r}; expected a name without slashes")
        if isinstance(one, Tensor | np.ndarray):
            raise UserError(
                f"the data mapping's {name!r} is one {_kind(one)}; a mapping holds a data set for each "
                "split, so give a batch that is a dict as [batch], with a loss of your own"
            )
    return data


def as_examples(data: Data) -> Examples:
    """Data in any of these forms as `Examples`.

    A tuple of tensors or arrays of equal length (a list where it is plain that it is no list of batches), and
    a map-style data set whose samples are such, may be cut into batches of any size. Everything else is an
    iterable of batches, which are used as they are. A data set or loader is read once: random augmentation
    is drawn once, and the same for every point.

    Raises
    ------
    UserError
        For anything else, for no examples, and for a data set that can't be read.
    """
    if isinstance(data, Examples):
        return data
    made: Any = data
    if isinstance(made, Dataset) and not isinstance(made, IterableDataset):
        return _from_dataset(made)
    if _is_tensors(data):
        return Examples.from_tensors(*(_tensor(one) for one in made))
    _check_iterable(data)
    try:
        with _seed_put_back(data):
            batches = tuple(data)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"reading the batches failed: {_reason(error)}") from error
    if not batches:
        once = " (an iterator can be read only once: pass a list)" if iter(data) is data else ""
        raise UserError(f"no examples: the batches are empty{once}; at least one is needed")
    return Examples.from_batches(batches)


def _is_tensors(data: Any) -> bool:
    """Whether these are the parts of one data set: a tuple, or a list of two that can't be two batches."""
    if not isinstance(data, tuple | list) or not data:
        return False
    if not all(isinstance(one, Tensor | np.ndarray) for one in data):
        return False
    if isinstance(data, tuple):
        return True
    unlike = len(data) == 2 and (data[0].ndim != data[1].ndim or data[0].dtype != data[1].dtype)
    return unlike and all(one.ndim for one in data) and len(data[0]) == len(data[1])


def _check_iterable(data: Any) -> None:
    if isinstance(data, Tensor | np.ndarray):
        raise UserError(f"the data are one {_kind(data)}; {EXPECTED}, and (inputs,) for inputs alone")
    if isinstance(data, itertools.cycle | itertools.count | itertools.repeat):
        raise UserError(f"the data never end ({type(data).__name__}); {EXPECTED}")
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise UserError(f"the data are of type {type(data).__name__}; {EXPECTED}")
    library = type(data).__module__.partition(".")[0]
    if library == "datasets" and hasattr(data, "with_format"):  # Hugging Face's iterate over samples
        raise UserError(
            "the data are a data set of samples; give batches: "
            'torch.utils.data.DataLoader(data.with_format("torch"), batch_size=64)'
        )
    if library == "pandas":
        raise UserError(f"the data are a pandas {type(data).__name__}; {EXPECTED} (.to_numpy() gives arrays)")


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise UserError(f"the data hold a sparse tensor ({value.layout}); give .to_dense(), or batches")
        return value
    if value.dtype.kind not in "biufc":
        raise UserError(f"an array holds {value.dtype}; expected numbers")
    try:
        return torch.from_numpy(np.ascontiguousarray(value).copy())
    except TypeError as error:
        raise UserError(f"PyTorch has no type for an array of {value.dtype}; expected another") from error


def _from_dataset(data: Dataset[Any]) -> Examples:
    if isinstance(data, TensorDataset):
        return Examples.from_tensors(*data.tensors)
    try:
        count = len(data)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError(f"the data set {type(data).__name__} has no length; {EXPECTED}") from error
    if not count:
        raise UserError("no examples: the data set is empty; at least one is needed")
    try:
        loader: DataLoader[Any] = DataLoader(data, batch_size=_READ)
        with _seed_put_back(loader):
            batches = list(loader)
    except Exception as error:
        raise UserError(
            f"the data set's samples can't be made into batches ({_reason(error)}); "
            "pass a DataLoader with a collate_fn, or another iterable of batches"
        ) from error
    if all(isinstance(one, Sequence) and all(isinstance(part, Tensor) for part in one) for one in batches):
        return Examples.from_tensors(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    return Examples.from_batches(batches)


@contextmanager
def _seed_put_back(data: object) -> Iterator[None]:
    """Around reading: the seed that a loader draws for workers, and has none, isn't missing afterwards.

    Whatever samples and samplers draw is the caller's, and stays drawn: else each call would read the same.
    """
    if not isinstance(data, DataLoader) or data.num_workers or data.generator is not None:
        yield
        return
    before = torch.get_rng_state()
    yield
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    torch.empty((), dtype=torch.int64, device="cpu").random_()
    torch.set_rng_state(before if torch.equal(torch.get_rng_state(), after) else after)


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of shape {list(value.shape)}"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
