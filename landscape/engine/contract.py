"""Whether a loss keeps to its contract on a few examples: a function of the weights, sums that are sums."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks.determinism import check_determined, same
from landscape.engine.apart import check_apart, check_once_per_batch
from landscape.engine.following import Source, check_follows, moved_beside
from landscape.engine.original import check_own
from landscape.engine.probe import Mode, Probe, fails_again
from landscape.engine.totals import BatchValues, batch_values
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.examples.structure import cut, length, tensors_in
from landscape.losses import Loss

_PROBED = 32  # examples, of which the first half decides
_ELSEWHERE, _PLACES = (0.3, 3.0), 3  # shares by which weights are moved, each in as many directions
_SAME = 1e-4  # relative; a sum of few numbers in low precision


def cut_batch(
    data: Iterable[Examples], device: torch.device, dtype: torch.dtype, batch_size: int | None
) -> Any:
    """A few examples of the first split whose batches are cut here, for `check_contract`; None for none.

    From all over it: where they are sorted by class, the first ones have one label.
    """
    first = next((one for one in data if one.rebatchable), None)
    if batch_size is not None or first is None:
        return None
    step = max(1, len(first.tensors[0]) // _PROBED)
    few = first.pick(slice(0, step * _PROBED, step)).apart()
    return few.to(device, dtype).batches(_PROBED)[0]


def first_batches(examples: Examples, device: torch.device, dtype: torch.dtype) -> list[Any]:
    """One or two batches of a few examples: what decides how a network is run, and whether that can be.

    They lie apart from the caller's: a network may write into its input. Of given ones the first that hold
    several examples, if any do: that a mean stands where a sum is expected doesn't show in one alone.
    """
    few = replace(examples, given=_telling(examples.given)) if examples.given else examples.head(_PROBED)
    return list(few.apart().to(device, dtype).batches(_PROBED // 2)[:2])


def _telling(given: Sequence[Any]) -> tuple[Any, ...]:
    found: list[Any] = []
    for one in given:
        if len(found) == 2:
            break
        found += [one] if length(one) not in (0, 1) else []
    return tuple(found + [one for one in given[:2] if all(one is not other for other in found)])[:2]


def changed(examples: Examples, few: Sequence[Any]) -> bool:
    """Whether the first batch of `first_batches` isn't what it was: network or loss writes into it."""
    now = tensors_in(few[0])
    if examples.streamed or not now:
        return False
    kind = next((one.dtype for one in now if one.is_floating_point()), torch.float32)
    before = tensors_in(first_batches(examples, now[0].device, kind)[0])
    return len(before) != len(now) or not all(map(same, before, now))


def check_contract(
    loss: Loss,
    module: nn.Module,
    batches: list[Any],
    seen: Probe,
    source: Source,
    given: Sequence[Any] = (),
    *,
    chosen: Any = None,
) -> bool:
    """Refuse a loss that isn't a function of the weights, and means that would be taken for sums.

    Parameters
    ----------
    loss, module
        The user's loss, and the engine's copy of the network.
    batches
        One or two of a few examples; without a second one half of the first serves.
    seen
        What the first call of the loss on the first batch showed.
    source
        The user's network, for other copies.
    given
        All batches where they are the user's: the number of examples may be written down where all are equal.
    chosen
        A batch of a few examples whose number is the engine's choice and mustn't matter; None for none.

    Returns
    -------
    bool
        Whether calls mustn't overlap; see `landscape.checks.determinism`.

    Raises
    ------
    UserError
        With what to do.
    """
    if seen.unused:
        _refuse_unused(loss)
    halves = cut(batches[0])
    other = batches[1] if len(batches) > 1 else halves[0] if halves else None

    def call(model: Any, batch: Any) -> Mapping[str, Tensor]:
        try:
            with seen.mode():
                return batch_values(loss(model, batch)).values
        except UserError:
            raise
        except Exception as error:
            raise fails_again(error) from error

    if other is not None and len(batches) == 1 and not _works(call, module, other):
        other = None
    beside = partial(moved_beside, module, source.moving) if source.moving else None
    alone = check_determined(call, module, batches[0], other, loss=loss, fresh=source.fresh, beside=beside)
    check_own(call, module, batches[0], source.original)
    check_follows(call, module, batches[0], source)
    _check_cutting(loss, module, batches[0], seen.values, seen.mode, given, chosen)
    _check_zeros(loss, module, batches, seen, source, given, chosen)
    return alone


def check_data(loss: Loss, module: nn.Module, data: Mapping[str, Examples], seen: Probe) -> None:
    """Refuse examples with NaN or infinity in them that make the loss of the plain network no number.

    Fused kernels take the larger of 0 and NaN to be 0, so that the network itself may not show it.
    """
    weights = next(one for one in module.parameters() if one.is_floating_point())
    for name, examples in data.items():
        number, odd = _odd(examples)
        if odd is None:
            continue
        (batch,) = odd.apart().to(weights.device, weights.dtype).batches(1)
        try:
            with seen.mode():
                there = batch_values(loss(module, batch)).values["loss"]
        except Exception:
            continue  # the point itself says what is wrong
        if not bool(there.isfinite().all()):
            unit = "example" if examples.rebatchable else "batch"
            raise UserError(
                f"{unit} {number} (from 0) of {name!r} holds NaN or infinity, and its loss is "
                f"{float(there.sum())}; leave it out or repair it"
            )


def _odd(examples: Examples) -> tuple[int, Examples | None]:
    """The first example of tensors that isn't finite, or the first such batch, and its number."""
    for number, batch in enumerate(examples.given):
        if not all(map(_finite, tensors_in(batch))):
            return number, replace(examples, given=(batch,))
    rows = [one.reshape(len(one), -1).isfinite().all(1) for one in examples.tensors if not _finite(one)]
    if not rows:
        return 0, None
    first = int((~torch.stack(rows).all(0)).nonzero()[0])
    return first, replace(examples, tensors=tuple(one[first : first + 1] for one in examples.tensors))


def _finite(value: Tensor) -> bool:
    if value.layout != torch.strided or not (value.is_floating_point() or value.is_complex()):
        return True
    return bool(value.isfinite().all())


def _works(call: Callable[[Any, Any], object], module: nn.Module, batch: Any) -> bool:
    """Whether half a batch is a batch; some networks want a fixed number of examples."""
    try:
        call(module, batch)
    except Exception:
        return False
    return True


def _check_cutting(
    loss: Loss,
    module: nn.Module,
    batch: Any,
    whole: BatchValues,
    mode: Mode,
    given: Sequence[Any],
    chosen: Any,
) -> None:
    """Refuse means, and what depends on how batches are cut, where that shows at the present weights."""
    halves = cut(batch)
    if halves is not None:
        _check_sums(loss, module, halves, whole, mode, given)
    if any(not value.dim() for value in whole.values.values()):
        check_once_per_batch(loss, module, batch, mode)
    if chosen is not None:
        check_apart(loss, module, chosen, mode)


def _check_zeros(
    loss: Loss,
    module: nn.Module,
    batches: Sequence[Any],
    seen: Probe,
    source: Source,
    given: Sequence[Any],
    chosen: Any,
) -> None:
    """Look again elsewhere where a number of the whole batch is 0: sums and means are alike then.

    A hinge loss, or a share of errors, of a network that has learned its examples is such a number.
    """
    left = {name for name, value in seen.values.values.items() if not value.dim() and not bool(value)}
    for seed, share in itertools.product(range(_PLACES), _ELSEWHERE):
        if not left or not source.moving:
            return
        with moved_beside(module, source.moving, share, seed):
            for batch in batches:
                try:
                    with seen.mode():
                        found = batch_values(loss(module, batch))
                except Exception:
                    continue  # not a place where the loss is defined
                told = {name for name in left & found.values.keys() if bool(found.values[name])}
                if told:
                    only = replace(found, values={name: found.values[name] for name in told})
                    _check_cutting(loss, module, batch, only, seen.mode, given, chosen)
                left -= told


def _check_sums(
    loss: Loss,
    module: nn.Module,
    halves: tuple[Any, Any],
    whole: BatchValues,
    mode: Mode,
    given: Sequence[Any],
) -> None:
    """The sum over a batch is that over its halves; a mean lies between theirs."""
    try:
        with mode():
            one, two = (batch_values(loss(module, half)) for half in halves)
    except Exception:
        if given:
            return  # half a batch is none here
        raise
    if whole.count < 2:
        return  # each batch counts as one
    equal = bool(given) and all(length(batch) == whole.count for batch in given)
    constant = one.count == two.count == whole.count
    if constant and not equal:
        raise UserError(
            f"the loss returned {whole.count} as the number of examples, and again for half of them; "
            "expected how many there are in the batch"
        )
    for name, value in whole.values.items():
        if value.dim() or name not in one.values or name not in two.values:
            continue
        numbers = [float(part.values[name]) for part in (whole, one, two)]
        if _is_mean(*numbers):
            raise UserError(
                f"the loss returned a mean as {name!r}: {numbers[0]:.6g} for {whole.count} examples and "
                f"{numbers[1]:.6g} for half of them, where the sum over the batch is expected; "
                f"return mean * count{' with the count of the batch' if constant else ''}, "
                "or one value per example (reduction='none')"
            )


def _is_mean(whole: float, one: float, two: float) -> bool:
    """Whether a value lies between those of the halves, or nearer to that than to their sum."""
    size = max(abs(whole), abs(one), abs(two))
    from_sum = abs(whole - (one + two))
    from_mean = max(min(one, two) - whole, whole - max(one, two), 0.0)
    return size > 0 and from_sum > _SAME * size and from_mean < from_sum


def _refuse_unused(loss: Loss) -> None:
    """Refuse a loss that never touched the model it was given: moved weights would change nothing."""
    name = getattr(loss, "__qualname__", type(loss).__name__)
    raise UserError(
        f"the loss {name!r} doesn't use the model that it is given, so moved weights can't change it; "
        "call its first argument, not a network of its own"
    )
