"""Photographs in files as training images: decoded step by step in processes beside, never all at once.

For training a random part of 8 to 100 % of a picture is scaled to the side wanted, and mirrored half the time
(Szegedy et al., "Going Deeper with Convolutions", 2015; torchvision's transforms); for evaluation its short
side is scaled to 8/7 of that side and the middle cut out. What a picture gets is drawn from seed, epoch and
its number alone: no state needs to be saved, and it doesn't matter which process decodes it, or how many
there are.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from landscape.cores import cores
from landscape.errors import UserError
from landscape.images import IMAGENET_STATISTICS, Split
from landscape.images.folder import Listing, list_folder, said_of_skipped
from landscape.images.prepare import PHOTOGRAPHS, BrokenPictureError, Change, Preparation, Prepares, decode
from landscape.keeping.signals import ENDING
from training.data import Images, TrainingData, divided, generator_for, load_splits, whole

_MOST_WORKERS = 16  # by default; decoding for one GPU seldom needs more
_CHECKED = 32  # pictures in a message between the processes that look for broken ones
ADVICE = "repair or remove it, or give --skip-broken, which leaves such pictures out and counts them"


@dataclass(frozen=True)
class Files:
    """Pictures in files, and how they are decoded.

    Attributes
    ----------
    folder, names
        Bytes of the paths below a folder: an array, because processes that are forked share its memory, and
        not that of a million strings, whose counters of references each of them writes to.
    preparation
        For evaluation.
    workers
        Processes that decode; 0 for this one.
    pinned
        Whether pictures go to a GPU.
    """

    folder: str
    names: NDArray[np.bytes_]
    preparation: Preparation
    workers: int
    pinned: bool = False

    @classmethod
    def of(cls, found: Listing, chosen: NDArray[np.int64], how: Preparation, workers: int) -> Files:
        """Some pictures of a listing."""
        folder = str(found.folder)
        names = [os.fsencode(os.path.relpath(found.files[index], folder)) for index in chosen]
        return cls(folder, np.array(names, dtype=np.bytes_), how, workers)

    def path(self, number: int) -> Path:
        """Of a picture."""
        return Path(self.folder, os.fsdecode(bytes(self.names[number])))

    def batches(self, numbers: Iterable[Sequence[int]], seed: int | None = None) -> Iterator[Tensor]:
        """Pictures uint8 (B, H, W, 3) by their numbers, in turn; with a `seed` augmented.

        Raises
        ------
        UserError
            When a picture can't be decoded, or a process that decodes is gone.
        """
        for batch in self._loaded(_Pictures(self, seed), numbers, _stacked):
            if isinstance(batch, str):
                raise BrokenPictureError(f"{batch}; {ADVICE}")
            yield batch

    def broken(self, numbers: Sequence[int], tell: Callable[[int], None]) -> list[int]:
        """Which of these can't be decoded; `tell` gets how many more were looked at."""
        parts = [numbers[start : start + _CHECKED] for start in range(0, len(numbers), _CHECKED)]
        found: list[int] = []
        for part, bad in zip(parts, self._loaded(_Pictures(self, None), parts, _bad), strict=True):
            found += [part[place] for place in bad]
            tell(len(part))
        return found

    def _loaded(
        self, pictures: _Pictures, numbers: Iterable[Sequence[int]], collate: Callable[[Any], Any]
    ) -> Iterator[Any]:
        parts = [list(one) for one in numbers]
        workers = min(self.workers, len(parts))
        with warnings.catch_warnings():
            # Of forks beside threads, and of more processes than cores, which the user may have asked for.
            warnings.simplefilter("ignore")
            loader: DataLoader[Any] = DataLoader(
                pictures,
                batch_sampler=parts,
                num_workers=workers,
                collate_fn=collate,
                pin_memory=self.pinned,
                worker_init_fn=_quiet,
                multiprocessing_context=_context() if workers else None,
                generator=torch.Generator(),  # else it would draw from the global one
            )
            found = iter(loader)
        while True:
            try:
                batch = next(found)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                reason = str(error).strip().splitlines()[0]
                raise UserError(
                    f"a process that decodes pictures is gone ({reason}); out of memory, or of /dev/shm? "
                    "give fewer --workers, 0 for none"
                ) from error
            yield batch


@dataclass(frozen=True)
class _AtRandom:
    """A random crop of the wanted size, mirrored half the time."""

    size: tuple[int, int]
    interpolation: str
    seed: int

    def apply(self, image: Any) -> Any:
        """Crop and scale a PIL image."""
        from torchvision.transforms import Compose, InterpolationMode, RandomHorizontalFlip, RandomResizedCrop

        how = InterpolationMode(self.interpolation)
        with torch.random.fork_rng(devices=[]):  # theirs draw from the global generator
            torch.manual_seed(self.seed)
            return Compose([RandomResizedCrop(self.size, interpolation=how), RandomHorizontalFlip()])(image)


class _Pictures(Dataset[Any]):
    """What a worker decodes: a picture, or in words why it can't be."""

    def __init__(self, files: Files, seed: int | None) -> None:
        self.files, self.seed = files, seed

    def __getitem__(self, number: int) -> Tensor | str:
        how: Prepares = self.files.preparation
        if self.seed is not None:
            seed = generator_for(self.seed, "picture", number).initial_seed()
            how = _AtRandom(self.files.preparation.size, self.files.preparation.interpolation, seed)
        try:
            return torch.from_numpy(decode(self.files.path(number), how).copy())
        except BrokenPictureError as error:
            return str(error)


def _stacked(found: list[Tensor | str]) -> Tensor | str:
    """A batch, or why its first broken picture is broken."""
    texts = [one for one in found if isinstance(one, str)]
    return texts[0] if texts else torch.stack([one for one in found if isinstance(one, Tensor)])


def _bad(found: list[Tensor | str]) -> list[int]:
    """Places of those that are broken."""
    return [place for place, one in enumerate(found) if isinstance(one, str)]


def _context() -> multiprocessing.context.BaseContext:
    """How processes that decode begin.

    Forked, which shares the paths, where this process has no threads that come and go outside Python. Those
    of `torch.distributed` do: a fork just as one of them enters Python hangs for ever (CPython 3.11).
    """
    methods = multiprocessing.get_all_start_methods()
    if "fork" not in methods:
        return multiprocessing.get_context()
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return multiprocessing.get_context("fork")
    clean = multiprocessing.get_context("forkserver")
    clean.set_forkserver_preload(["training.photographs"])
    return clean


def _quiet(number: int) -> None:
    """Signals to the whole group are answered by the process that trains; it ends those that decode."""
    for one in ENDING:
        signal.signal(one, signal.SIG_IGN if one == signal.SIGINT else signal.SIG_DFL)


@dataclass(frozen=True)
class Photographs(Images):
    """Images in files: `pixels` is empty, (0, H, W, 3), and says only how large they become."""

    files: Files

    @property
    def streamed(self) -> bool:
        """Always."""
        return True

    def first(self, count: int) -> Photographs:
        """The first `count` of them; all when there are fewer."""
        fewer = replace(self.files, names=self.files.names[:count])
        return replace(self, labels=self.labels[:count], files=fewer)

    def take(self, index: Tensor) -> Tensor:
        """The pixels of some pictures, uint8 (B, H, W, 3) on the device, as for evaluation."""
        numbers, size = index.tolist(), self._share
        parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        return torch.cat([self._moved(one) for one in self.files.batches(parts)] or [self.pixels])

    @property
    def _share(self) -> int:
        """Pictures that one process decodes at a time."""
        return 16

    def in_order(
        self, batch_size: int, part: Callable[[Tensor], Tensor] = whole
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All pictures for evaluation; of each batch this process's `part`."""
        spans = [
            torch.arange(start, min(start + batch_size, len(self)))
            for start in range(0, len(self), batch_size)
        ]
        yield from self._batches([part(one) for one in spans], None)

    def shuffled(
        self,
        batch_size: int,
        generator: torch.Generator,
        augmented: bool,
        *,
        start: int = 0,
        part: Callable[[Tensor], Tensor] = whole,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All pictures once, in random order, for training; only those of `part` from `start` are decoded."""
        order = torch.randperm(len(self), generator=generator)
        batches = [order[first : first + batch_size] for first in range(0, len(self), batch_size)]
        seed = generator.initial_seed() if augmented else None
        yield from self._batches([part(one) for one in batches[start:]], seed)

    def _batches(self, indices: Sequence[Tensor], seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        decoded = self.files.batches((one.tolist() for one in indices), seed)
        for index, pixels in zip(indices, decoded, strict=True):
            labels = self.labels[index.to(self.labels.device, non_blocking=True)]
            yield self.normalized(self._moved(pixels)), labels

    def _moved(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.labels.device, non_blocking=True)


@dataclass(frozen=True)
class Reading:
    """How a run reads its data; none of it changes a result.

    Attributes
    ----------
    root, download
        See `landscape.images.read_images`.
    workers
        Processes that decode photographs; None for one a core, at most 16.
    processes
        That train on this machine, and share its cores.
    """

    root: str | Path | None = None
    download: bool = False
    workers: int | None = None
    processes: int = 1

    @property
    def decoding(self) -> int:
        """Processes beside this one."""
        if self.workers is not None:
            return self.workers
        return min(_MOST_WORKERS, max(1, cores() // self.processes))


def photographs(spec: str, image_size: int | None) -> bool:
    """Whether data are decoded as they are wanted: a folder of photographs, or one that is to be resized.

    Pictures that all have one small size, as those of CIFAR, are read once and augmented as CIFAR's are.

    Raises
    ------
    UserError
        When there is no such folder, and for a size of data that have one.
    """
    kind, _, path = spec.partition(":")
    if kind == "imagefolder" and path:
        return image_size is not None or list_folder(Path(path), "train").usual == PHOTOGRAPHS
    if image_size is not None:
        raise UserError(f"image-size {image_size}: images of {spec} have a size; it is for imagefolder:PATH")
    return False


def read_training_data(
    spec: str,
    validation: float,
    seed: int,
    device: torch.device,
    reading: Reading,
    *,
    examples: int | None = None,
    image_size: int | None = None,
    broken: Iterable[Path] = (),
) -> TrainingData:
    """Training and test split of `spec`, and what is held out: on the device, or photographs as files.

    Parameters
    ----------
    examples
        Training images to use, class-balanced; None for all that aren't held out.
    image_size
        Side in pixels of photographs; None for 224.
    broken
        Pictures to leave out, as `find_broken` gives them.

    Raises
    ------
    UserError
        As :func:`training.data.load_splits`.
    """
    if not photographs(spec, image_size):
        return load_splits(spec, validation, seed, device, reading.root, reading.download, examples)
    lists = {split: list_folder(Path(spec.partition(":")[2]), split) for split in ("train", "test")}
    train, test = lists["train"], lists["test"]
    bad = set(broken)
    good = {
        split: np.array([number for number, one in enumerate(found.files) if one not in bad], dtype=np.int64)
        for split, found in lists.items()
    }
    if not len(good["test"]):
        raise UserError(f"{test.folder}: every picture is broken; at least one is needed")
    held_out, rest = divided(spec, train.labels, validation, seed, examples, good["train"])
    mean, std = IMAGENET_STATISTICS
    statistics = (torch.tensor(mean, device=device), torch.tensor(std, device=device))
    how = train.usual.changed(None if image_size is None else Change(image_size))
    nothing = torch.empty((0, *how.size, 3), dtype=torch.uint8, device=device)

    def part(found: Listing, chosen: NDArray[np.int64]) -> Photographs:
        files = Files.of(found, chosen, how, reading.decoding)
        labels = torch.from_numpy(found.labels[chosen]).to(device)
        return Photographs(nothing, labels, *statistics, replace(files, pinned=device.type == "cuda"))

    skipped = {split: len(found.files) - len(good[split]) for split, found in lists.items()}
    return TrainingData(
        train=part(train, rest),
        validation=part(train, held_out),
        test=part(test, good["test"]),
        name=train.name,
        num_classes=len(train.classes),
        mean=mean,
        std=std,
        held_out=held_out,
        sha256=_digest(train, good["train"]),
        test_sha256=_digest(test, good["test"]),
        trained=None if examples is None and not skipped["train"] else rest,
        images=how.record,
        left_out=skipped if any(skipped.values()) else None,
        classes=train.classes,
    )


def digest_of_folder(spec: str, split: Literal["train", "test"]) -> str:
    """The digest that a training of ``imagefolder:PATH`` has of a split, where no picture is left out."""
    found = list_folder(Path(spec.partition(":")[2]), split)
    return _digest(found, np.arange(len(found.files)))


def _digest(found: Listing, chosen: NDArray[np.int64]) -> str:
    """SHA-256 of the pictures' labels, names and sizes: reading a hundred gigabytes would take too long."""
    digest = hashlib.sha256()
    for index in chosen:
        path = found.files[index]
        name = os.fsencode(os.path.relpath(path, found.folder))
        digest.update(b"%d %d %s\n" % (found.labels[index], os.stat(path).st_size, name))
    return digest.hexdigest()


def find_broken(
    spec: str, reading: Reading, part: Callable[[Tensor], Tensor], tell: Callable[[int, int], None]
) -> dict[Split, list[Path]]:
    """Pictures of both splits that can't be decoded, of this process's `part` of them.

    Every picture is decoded once, by `reading`'s processes; `tell` gets how many were, and of how many.
    """
    found: dict[Split, list[Path]] = {}
    splits: tuple[Split, ...] = ("train", "test")
    lists = {split: list_folder(Path(spec.partition(":")[2]), split) for split in splits}
    shares = {split: part(torch.arange(len(one.files))).tolist() for split, one in lists.items()}
    done, total = 0, sum(map(len, shares.values()))

    def count(more: int) -> None:
        nonlocal done
        done += more
        tell(done, total)

    for split, one in lists.items():
        # As small as can be: what is looked for is whether the whole file can be read.
        small = Preparation((8, 8), (8, 8), "squash", "nearest")
        files = Files.of(one, np.arange(len(one.files)), small, reading.decoding)
        found[split] = [one.files[number] for number in files.broken(shares[split], count)]
    return found


def said_of_broken(broken: Mapping[Split, Sequence[Path]], spec: str) -> list[str]:
    """What was left out, in words, by split."""
    folder = Path(spec.partition(":")[2])
    return [
        f"{split}: {said_of_skipped(paths, len(list_folder(folder, split).files))}"
        for split, paths in broken.items()
        if paths
    ]
