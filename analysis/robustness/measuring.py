"""Measuring a network's answers, one corruption at one severity at a time, each of which is kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from analysis.robustness import robustness_file
from analysis.robustness.belonging import check_clean_belongs
from analysis.robustness.cifar_files import CifarFiles
from analysis.robustness.corruption_names import CORRUPTIONS, SEVERITIES, check_corruptions
from analysis.robustness.dependable import check_dependable
from analysis.robustness.imagenet_files import ImageNetFiles
from analysis.robustness.result import BoolArray, Robustness, Source
from analysis.robustness.versions import Bytes, Versions
from landscape.checks.arguments import number, positive, whole
from landscape.checks.identity import Functions
from landscape.devices import choose_device
from landscape.engine import own_copy
from landscape.engine.cuda_graph import numerics
from landscape.engine.precision import in_precision
from landscape.errors import UserError
from landscape.keeping.keeper import Keeper
from landscape.keeping.lock import owned
from landscape.keeping.settings import FUNCTIONS, check_settings
from landscape.keeping.signals import held_back
from landscape.progress import Watch, counted, watching
from landscape.provenance import digest
from landscape.threads import one_thread

OTHERWISE = "name another --output, or give --overwrite"
_FEW = 16  # images on which the network is tried
_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_CLEAN = "clean", 0  # stands beside corruptions and their severities
_NEAR_TIES = 0.005  # share of answers that another machine's rounding may turn
_OVERWRITE = "give --overwrite to compute it anew"


def robustness(
    model: nn.Module,
    versions: Versions,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    corruptions: Sequence[str] = CORRUPTIONS,
    name: str = "network",
    settings: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    file: str = "",
    sha256: str = "",
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    batch_size: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    progress: Watch = "auto",
) -> Robustness:
    """A network's answers on clean and corrupted images; the model stays as it is.

    Parameters
    ----------
    model
        From normalized images ``[n, 3, height, width]`` to scores ``[n, classes]``; used in evaluation mode.
    versions
        The images: `GeneratedImages`, `CifarFiles`, `ImageNetFiles`, or a class of one's own.
    mean, std
        Per channel: the network gets ``(pixel / 255 - mean) / std``.
    corruptions
        Names; the mean corruption error needs the 15 of `BENCHMARK`.
    name, file, sha256, about
        Of the network, for the result; a name that is a path can't be kept.
    settings
        What else determines the answers; JSON types. Digests of weights, buffers and the network's code are
        among them anyway.
    path
        Where the result is kept while it is computed. If it is there, with the same settings, what it holds
        is taken over, finished or not, after one of its corruptions was answered again and the answers are
        the same.
    overwrite
        Compute anew whatever is there.
    batch_size
        Images per pass; the answers don't depend on it but for rounding.
    device, dtype
        "auto", "cpu", "cuda", "cuda:N"; "float32" or "float64".
    progress
        See `landscape.progress.Watch`; counts images.

    Raises
    ------
    UserError
        For unknown corruptions, images or labels that don't fit the network, answers that depend on more
        than image and weights, an earlier result with other settings or other answers, and what can't be
        written.
    """
    wanted = check_corruptions([corruptions] if isinstance(corruptions, str) else corruptions)
    target = None if path is None else Path(path)
    if target is not None:
        robustness_file.check_name(name)
    if not wanted:
        raise UserError(f"no corruption is asked for; expected some of {', '.join(CORRUPTIONS)}")
    mean, std = _channels(mean, std)
    asker = _Asker(model, versions, mean, std, batch_size, device, dtype)
    fixed: dict[str, Any] = {
        **(settings or {}),
        **versions.settings,
        "mean": mean,
        "std": std,
        "dtype": dtype,
        "network": sha256,
        **_identity(model),
    }
    with owned(target), watching(progress, name, "images") as listener:
        work = _Work(_begun(versions, wanted, name, file, sha256, fixed, dict(about or {})))
        if target is not None and target.exists() and not overwrite:
            work.take_over(robustness_file.read(target), target)
        left = work.left(wanted)
        keeper = Keeper(target)
        asker.check(wanted)
        if work.needs_clean(versions):
            check_clean_belongs(versions, wanted)
        again = work.known(versions)
        tell = None
        if listener is not None:
            passes = len(left) + work.needs_clean(versions) + (again is not None)
            tell = counted(listener, max(1, passes) * len(versions.labels))
        asker.tell = tell
        if again is not None:
            work.check(again, asker, target)
            if isinstance(versions, CifarFiles):  # whose images needn't be decoded
                work.check_files(versions, target, "pixels", lambda *one: _digest(_shown(versions, *one)))
            elif isinstance(versions, ImageNetFiles):
                work.check_files(versions, target, "stamps", versions.stamp)
        with keeper.keeping(lambda place: robustness_file.save(work.result(), place)) as sometimes:
            if work.needs_clean(versions):
                work.answer_clean(asker)
                sometimes()
            for corruption, severity in left:
                work.answer(corruption, severity, asker)
                sometimes()
        if left or (target is not None and not target.exists()) or work.changed:
            keeper.save(lambda place: robustness_file.save(work.result(), place))
        return work.result()


def _channels(mean: Any, std: Any) -> tuple[list[float], list[float]]:
    """Three numbers each; UserError otherwise."""
    if not (np.shape(mean) == np.shape(std) == (3,)):
        raise UserError(f"mean {mean} and std {std}: expected three numbers each")
    wrong = [one for one in mean if not isfinite(number("mean", one))]
    if wrong:
        raise UserError(f"mean {wrong[0]}: expected a finite number")
    return [float(one) for one in mean], [positive("std", one) for one in std]


def _identity(model: nn.Module) -> dict[str, Any]:
    """Which network it is, for the settings: digests of its numbers and of its code."""
    functions = Functions(model, None).about()
    functions.pop("loss")
    numbers = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {"weights": digest(numbers), FUNCTIONS: functions}


def _known_weights(holder: str, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """`stored` with the weights' digest; where older files lack it, the checkpoint's says as much."""
    if "weights" in stored:
        return stored
    if not stored.get("network"):
        raise UserError(
            f"{holder} made without a digest of its weights, so whose it is can't be told; {OTHERWISE}"
        )
    return {**stored, "weights": wanted["weights"]}


def _begun(
    versions: Versions,
    wanted: tuple[str, ...],
    name: str,
    file: str,
    sha256: str,
    settings: dict[str, Any],
    about: dict[str, Any],
) -> Robustness:
    """A result in which nothing is computed yet."""
    sources: list[Source] = []
    for one in wanted:
        source = versions.source(one)
        if source is None:
            raise UserError(f"{versions.name} has no images of {one}; choose other --corruptions")
        sources.append(source)
    count = len(versions.labels)
    remarks = versions.remarks
    facts = about | {"deviations": {one: remarks[one] for one in wanted if one in remarks}}
    facts |= {"pixels": {}, "stamps": {}}
    if "" in remarks:
        facts["remark"] = remarks[""]
    return Robustness(
        name,
        file,
        sha256,
        wanted,
        tuple(sources),
        versions.places,
        versions.labels,
        None,
        np.zeros((len(wanted), len(SEVERITIES), count), bool),
        np.zeros((len(wanted), len(SEVERITIES)), bool),
        settings,
        facts,
    )


class _Work:
    """A result in the making; it is whole wherever a signal can come."""

    def __init__(self, result: Robustness) -> None:
        self._result = result
        self.changed = False

    def result(self) -> Robustness:
        """As far as it is."""
        return self._result

    def left(self, wanted: Sequence[str]) -> list[tuple[str, int]]:
        """What isn't computed yet, in order."""
        rows = zip(self._result.corruptions, self._result.done, strict=True)
        return [
            (name, severity)
            for name, row in rows
            for severity, done in zip(SEVERITIES, row, strict=True)
            if name in wanted and not done
        ]

    def needs_clean(self, versions: Versions) -> bool:
        """Whether the clean images are at hand and weren't answered yet."""
        return self._result.clean is None and versions.clean() is not None

    def known(self, versions: Versions) -> tuple[str, int] | None:
        """What an earlier run has answered and can be asked again: a corruption and severity, or `_CLEAN`."""
        places = np.argwhere(self._result.done)
        if len(places):
            return self._result.corruptions[places[0][0]], SEVERITIES[places[0][1]]
        return None if self._result.clean is None or versions.clean() is None else _CLEAN

    def take_over(self, earlier: Robustness, path: Path) -> None:
        """Put in what an earlier run has; UserError where it had other settings."""
        fresh = self._result
        holder = f"{path} holds the robustness of {earlier.name}"
        stored = _known_weights(holder, earlier.settings, fresh.settings)
        check_settings(holder, stored, fresh.settings, OTHERWISE)
        same = np.array_equal(earlier.places, fresh.places) and np.array_equal(earlier.labels, fresh.labels)
        before = dict(zip(earlier.corruptions, earlier.sources, strict=True))
        now = dict(zip(fresh.corruptions, fresh.sources, strict=True))
        other = [one for one in now if before.get(one, now[one]) != now[one]]
        if not same or other:
            what = f"{other[0]} {before[other[0]]}, now {now[other[0]]}" if other else "other images"
            raise UserError(f"{holder} of {what}; {OTHERWISE}")
        names = tuple(one for one in CORRUPTIONS if one in before or one in now)
        correct = np.zeros((len(names), *fresh.correct.shape[1:]), bool)
        done = np.zeros((len(names), len(SEVERITIES)), bool)
        for row, one in enumerate(names):
            if one in before:
                place = earlier.corruptions.index(one)
                correct[row], done[row] = earlier.correct[place], earlier.done[place]
        about = fresh.about | {
            key: {**earlier.about.get(key, {}), **fresh.about[key]}
            for key in ("deviations", "pixels", "stamps")
        }
        self.changed = names != earlier.corruptions or json.loads(json.dumps(about)) != earlier.about
        self._result = replace(
            fresh,
            corruptions=names,
            sources=tuple((before | now)[one] for one in names),
            clean=earlier.clean,
            correct=correct,
            done=done,
            about=about,
        )

    def check(self, known: tuple[str, int], asker: _Asker, path: Path | None) -> None:
        """Answer once more what an earlier run has answered; UserError where pixels or answers are others."""
        result, (corruption, severity) = self._result, known
        answers, pixels = asker.answers(_shown(asker.versions, *known))
        where = f"{path}: {corruption} at severity {severity}" if severity else f"{path}: the clean images"
        verb = "was" if severity else "were"
        if pixels != result.about["pixels"].get(_key(corruption, severity), pixels):
            raise UserError(f"{where} {verb} measured on other pixels than there are now; {_OVERWRITE}")
        if severity:
            before = result.correct[result.corruptions.index(corruption), severity - 1]
        else:
            before = np.asarray(result.clean)
        turned = int((answers != before).sum())
        if turned > max(1, _NEAR_TIES * len(before)):
            raise UserError(
                f"{where}: {turned} of {len(before)} answers are others now, though the settings are equal; "
                f"the network's code or its libraries have changed: {_OVERWRITE}"
            )

    def check_files(
        self, versions: Versions, path: Path | None, kind: str, told: Callable[[str, int], str]
    ) -> None:
        """UserError where files that an earlier run has answered hold other images now.

        `kind` is "pixels" or "stamps"; `told` has what such a note of a corruption and severity is now.
        """
        result = self._result
        rows = zip(result.corruptions, result.sources, result.done, strict=True)
        known = [
            (corruption, severity)
            for corruption, source, row in rows
            for severity, done in zip(SEVERITIES, row, strict=True)
            if done and source == versions.source(corruption) == "files"
        ]
        if result.clean is not None and versions.clean() is not None:
            known.append(_CLEAN)
        for one in known:
            stored = result.about[kind].get(_key(*one))
            if stored is not None and stored != told(*one):
                what = "{} at severity {} was".format(*one) if one[1] else "the clean images were"
                raise UserError(f"{path}: {what} measured on other pixels than there are now; {_OVERWRITE}")

    def answer_clean(self, asker: _Asker) -> None:
        """Of the clean images."""
        answers, pixels = asker.answers(_shown(asker.versions, *_CLEAN))
        stamp = _stamp(asker.versions, *_CLEAN)
        with held_back():
            self._note(_key(*_CLEAN), pixels, stamp)
            self._result = replace(self._result, clean=answers)

    def answer(self, corruption: str, severity: int, asker: _Asker) -> None:
        """Of one corruption at one severity."""
        answers, pixels = asker.answers(_shown(asker.versions, corruption, severity))
        place = self._result.corruptions.index(corruption), severity - 1
        stamp = _stamp(asker.versions, corruption, severity)
        with held_back():
            self._note(_key(corruption, severity), pixels, stamp)
            self._result.correct[place] = answers
            self._result.done[place] = True

    def _note(self, key: str, pixels: str, stamp: str | None) -> None:
        """What images an answer is of."""
        self._result.about["pixels"][key] = pixels
        if stamp is not None:
            self._result.about["stamps"][key] = stamp


def _stamp(versions: Versions, corruption: str, severity: int) -> str | None:
    """Of files whose pixels are costly to look at again."""
    return versions.stamp(corruption, severity) if isinstance(versions, ImageNetFiles) else None


def _key(corruption: str, severity: int) -> str:
    return f"{corruption} {severity}" if severity else corruption


def _digest(parts: Iterator[Bytes]) -> str:
    """Of pixels, as `_Asker.answers` gives it."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(np.ascontiguousarray(part).data)
    return sha.hexdigest()[:16]


def _shown(versions: Versions, corruption: str, severity: int) -> Iterator[Bytes]:
    """The images with it, or as `_CLEAN` without."""
    parts = versions.corrupted(corruption, severity) if severity else versions.clean()
    assert parts is not None
    return parts


class _Asker:
    """Asks a copy of the network for the classes of images."""

    def __init__(
        self,
        model: nn.Module,
        versions: Versions,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int | None,
        device: str,
        dtype: str,
    ) -> None:
        if dtype not in _DTYPES:
            raise UserError(f"dtype {dtype!r}: expected one of {', '.join(_DTYPES)}")
        if batch_size is not None:
            whole("batch size", batch_size)
        self.versions, self.batch_size = versions, batch_size
        self.device, self.dtype = torch.device(choose_device(device)), _DTYPES[dtype]
        self._given = model
        self.model = self._fresh()
        self.tell: Any = None
        numbers = (torch.tensor(tuple(one), dtype=torch.float64).reshape(1, -1, 1, 1) for one in (mean, std))
        self._mean, self._std = (one.to(self.device, self.dtype) for one in numbers)

    def check(self, wanted: Sequence[str]) -> None:
        """Refuse, on a few images, answers that depend on more than image and weights; UserError."""
        shown = _CLEAN if self.versions.clean() is not None else (wanted[0], SEVERITIES[0])
        few = next(_shown(self.versions, *shown), None)
        if few is not None and len(few):
            with self._computing(), one_thread():
                check_dependable(self._scores, self.model, self._fresh, self._inputs(few[:_FEW]))

    def answers(self, parts: Iterator[Bytes]) -> tuple[BoolArray, str]:
        """Which images are answered right, bool ``[N]``, and the digest of their pixels."""
        labels, done, found = self.versions.labels, 0, []
        sha = hashlib.sha256()
        with self._computing():
            for part in parts:
                sha.update(np.ascontiguousarray(part).data)
                wanted = torch.from_numpy(labels[done : done + len(part)]).to(self.device)
                found.append(self._right(part, wanted))
                done += len(part)
                if self.tell is not None:
                    self.tell(len(part))
        answers: BoolArray = np.concatenate(found)
        if len(answers) != len(labels):
            raise UserError(f"{self.versions.name} gave {len(answers)} images, expected {len(labels)}")
        return answers, sha.hexdigest()[:16]

    def _right(self, pixels: Bytes, wanted: torch.Tensor) -> BoolArray:
        found = []
        step = self.batch_size or len(pixels)
        for start in range(0, len(pixels), step):
            scores = self._scores(self.model, self._inputs(pixels[start : start + step]))
            right = scores.argmax(1) == wanted[start : start + step]
            found.append(right & scores.isfinite().all(1))  # NaN is no answer
        answers: BoolArray = torch.cat(found).cpu().numpy()
        return answers

    def _inputs(self, pixels: Bytes) -> torch.Tensor:
        """What the network gets, ``[n, 3, height, width]``."""
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        return (images.to(self.device).to(self.dtype) / 255 - self._mean) / self._std

    def _scores(self, model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        scores = model(inputs)
        if not isinstance(scores, torch.Tensor) or scores.dim() != 2 or len(scores) != len(inputs):
            kind = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            raise UserError(f"the model returns {kind} for {len(inputs)} images; expected scores per class")
        if scores.shape[1] != self.versions.classes:
            raise UserError(
                f"the model has {scores.shape[1]} classes, {self.versions.name} has "
                f"{self.versions.classes}; choose the --data that the model was trained on"
            )
        return scores

    def _fresh(self) -> nn.Module:
        """A copy that was never called."""
        return in_precision(own_copy(self._given), self.device, self.dtype).eval()

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with numerics(self.device, False), torch.no_grad():
            yield
