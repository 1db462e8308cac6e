"""Whether a loss is a function of the weights: the same bits for the same batch, whatever was called before.

Everything here relies on it. It doesn't hold for functional dropout that stays on in evaluation mode, for
noise that is drawn anew, for modules that keep something between calls, and for losses that change their
batch.

A difference counts when random numbers were drawn or something was kept, however small it is, and otherwise
when it is beyond rounding: some kernels add in an order that isn't fixed (``index_add`` on a GPU, say), which
no user can help. Call it with one thread, so that numbers of threads can't matter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.checks.description import Description, describe, reached, sets_state
from landscape.checks.draws import GENERATORS, extreme, spread, state_of, steered
from landscape.errors import UserError
from landscape.examples.structure import tensors_in

Call = Callable[[Any, Any], Mapping[str, Tensor]]
"""``call(model, batch)``: what the loss gives, by name."""

ROUNDING: Mapping[torch.dtype, float] = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 5e-2}
_MAY_DRAW = (
    "_scaled_dot_product",
    "_cudnn_rnn",
    "_flash",
    "_efficient",
    "_miopen",
    "rrelu",
    "lstm",
    "gru",
    "rnn",
)  # mostly don't


def check_determined(
    call: Call,
    model: nn.Module,
    batch: Any,
    other: Any = None,
    *,
    loss: Any = None,
    fresh: Callable[[], nn.Module] | None = None,
    beside: Callable[[], AbstractContextManager[None]] | None = None,
) -> bool:
    """Refuse a loss that isn't a function of the weights.

    The batch is evaluated three times, the last time after `other`; where the model keeps something between
    calls, `other` is evaluated by a fresh one as well. At other weights the batch is evaluated before and
    after `other` again: what follows the weights from call to call (a power iteration) has settled at those
    of the user.

    Parameters
    ----------
    call
        Evaluates the loss in the gradient mode that it needs.
    model
        A copy of the user's in evaluation mode.
    batch, other
        Two batches of a few examples; `other` is None where there is one only.
    loss
        The user's, to say what it keeps.
    fresh
        Gives another copy that was never called.
    beside
        Inside it the model has other weights, a little beside; None for a look at the present ones only.

    Returns
    -------
    bool
        Whether calls mustn't overlap: random numbers are drawn, though always the same ones (seeded inside),
        or something is kept that makes no difference to the values. Such a loss is called from one thread.

    Raises
    ------
    UserError
        With what differs, why, and what helps.
    """
    kept = _Kept(model, loss, batch)
    first = _copied(call(model, batch))
    draws = _Draws()
    again = _copied(_observed(call, model, batch, draws))
    rounding = _rounding(first)
    if not _equal(first, again):
        _refuse("called twice on the same batch", first, again, draws, kept, rounding)
    kept.note_draws(draws)
    if draws.seen is not None:  # a layer that is skipped now and then gives the same in most pairs of calls
        with steered(list(kept.generators.values())) as steer:
            for words in (extreme(high=False), extreme(high=True), *spread()):
                steer(words)
                drawn = _called(call, model, batch) or first
                if not _equal(first, drawn):
                    _refuse("called with other random numbers", first, drawn, draws, kept, rounding)
    if other is not None:
        after_batch = _copied(call(model, other))
        again = _copied(call(model, batch))
        if not _equal(first, again):
            _refuse("called again after another batch", first, again, draws, kept, rounding)
        if fresh is not None and kept.firm_changes():
            alone = _copied(call(fresh(), other))
            if not _equal(alone, after_batch):
                _refuse("called after another batch first", alone, after_batch, draws, kept, rounding)
    changes = bool(kept.changes())
    if beside is not None:
        with beside():
            _check_beside(call, model, batch, other, draws, kept)
    return draws.seen is not None or changes or (loss is not None and sets_state(loss))


def _check_beside(call: Call, model: nn.Module, batch: Any, other: Any, draws: _Draws, kept: _Kept) -> None:
    """The same bits before and after other calls; nothing is said where it can't be called there."""
    first = _called(call, model, batch)
    if first is None or (other is not None and _called(call, model, other) is None):
        return
    kept.note_settled()
    again = _called(call, model, batch)
    if again is not None and not _equal(first, again):
        # What keeps to a bound on parameters rounds these anew, in their own precision.
        rounding = max(_rounding(first), *(ROUNDING.get(one.dtype, 0.0) for one in model.parameters()), 0.0)
        _refuse("called again, at weights beside these", first, again, draws, kept, rounding)


def _refuse(
    how: str,
    one: Mapping[str, Tensor],
    two: Mapping[str, Tensor],
    draws: _Draws,
    kept: _Kept,
    rounding: float,
) -> None:
    """Say so, unless the difference is rounding."""
    name, difference = _largest_difference(one, two)
    changes = kept.changes()
    unordered = any(value.is_cuda for value in one.values())  # a CPU's single thread adds in one order
    if difference <= rounding and draws.seen is None and (unordered or not kept.firm_changes()):
        return
    if draws.seen is not None and "dropout" in draws.seen:
        why = "dropout stays on in evaluation mode; write F.dropout(x, p, training=self.training)"
    elif draws.seen is not None:
        why = (
            f"random numbers are drawn ({draws.seen}); draw them inside the loss from a generator that is "
            "seeded there, torch.Generator().manual_seed(0), or once before, as part of the data"
        )
    elif changes:
        why = (
            f"{changes[0]} changes from call to call; let nothing be kept in evaluation mode, "
            "or set it before and leave it"
        )
    else:
        why = "something outside changes; let it depend on weights and batch alone"
    raise UserError(
        f"the loss is no function of the weights: {how}, {name!r} differs by {_share(difference)}; {why}"
    )


def _share(difference: float) -> str:
    return f"{difference:.2g} of its size" if difference < np.inf else "its shape, or in what is finite"


def _called(call: Call, model: nn.Module, batch: Any) -> Mapping[str, Tensor] | None:
    """The values; None where it can't be called with the numbers that are drawn."""
    try:
        return _copied(call(model, batch))
    except Exception:  # those of ordinary calls were heard in the calls before
        return None


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether random numbers are drawn, and by what."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would import its compiler for that, which takes seconds."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: str | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            name = func.__name__.partition(".")[0]
            if not name.startswith(_MAY_DRAW):
                self.note("dropout" if name == "bernoulli_" else name)
        return func(*args, **(kwargs or {}))

    def note(self, name: str) -> None:
        """Keep the first."""
        self.seen = self.seen or name


def _observed(call: Call, model: nn.Module, batch: Any, draws: _Draws) -> Mapping[str, Tensor]:
    """The values; `draws` is told of generators that moved, and of draws that left no trace."""
    before = _generators()
    try:
        with draws:
            values = call(model, batch)
    except Exception:  # the mode is in the way of some compiled or wrapped functions
        values = call(model, batch)
    for name, state in _generators().items():
        if state != before[name]:
            draws.note(name)
    return values


def _generators() -> dict[str, bytes]:
    """States of the global generators."""
    _, keys, *places = np.random.get_state(legacy=True)
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "CUDA's generator": torch.cuda.get_rng_state().numpy().tobytes() if cuda else b"",
        "NumPy's generator": np.asarray(keys).tobytes() + str(places).encode(),
        "Python's random": repr(random.getstate()).encode(),
    }


class _Kept:
    """What a model, a loss and a batch hold before they are called.

    Attributes
    ----------
    generators
        Random generators that loss and network refer to, by place.
    """

    def __init__(self, model: nn.Module, loss: Any, batch: Any) -> None:
        self._model, self._loss, self._batch = model, loss, batch
        self._parameters, self._settled = self._copies(), False
        self._attributes = _attributes(model)
        self._buffers = {name: one.detach().clone() for name, one in model.named_buffers()}
        self._described = self._description()
        self._tensors = [one.detach().clone() for one in tensors_in(batch)]
        found = reached(GENERATORS, loss=loss, network=model)
        self.generators = {place: one for place, one in found.items() if one is not np.random.mtrand._rand}
        self._states = {place: state_of(one) for place, one in self.generators.items()}

    def note_draws(self, draws: _Draws) -> None:
        """Say where a generator that loss or network hold is another now."""
        for place, one in self.generators.items():
            if state_of(one) != self._states[place]:
                whose, _, where = place.partition(".")
                draws.note(f"the {whose}'s {where}")

    def note_settled(self) -> None:
        """Take the present parameters for those that it holds; all batches were seen at these weights."""
        self._parameters.clear()  # the earlier ones go first: they may be large
        self._parameters, self._settled = self._copies(), True

    def _copies(self) -> dict[str, Tensor]:
        return {name: one.detach().clone() for name, one in self._model.named_parameters()}

    def changes(self) -> list[str]:
        """What is another now, in words."""
        changed = [
            f"the network's {name!r}"
            for name, one in self._model.named_parameters()
            if name not in self._parameters or not same(self._parameters[name], one)
        ]
        return changed + self._other_changes()

    def firm_changes(self) -> list[str]:
        """Without parameters whose change may be rounding.

        What keeps to a bound on them (an embedding's largest norm) rounds anew at every call, and touches
        those that a batch is the first to use; so none counts before `note_settled`.
        """
        changed = [
            f"the network's {name!r}"
            for name, one in self._model.named_parameters()
            if self._settled and _beyond_rounding(self._parameters[name], one.detach())
        ]
        return changed + self._other_changes()

    def _other_changes(self) -> list[str]:
        found = [
            f"the network's {name!r}"
            for name, one in self._model.named_buffers()
            if name not in self._buffers or not same(self._buffers[name], one)
        ]
        now = _attributes(self._model)
        found += [
            f"the network's {name!r}"
            for name in sorted(now)
            if not _alike(self._attributes.get(name), now[name])
        ]
        pairs = zip(self._tensors, tensors_in(self._batch), strict=True)
        found += ["the batch itself"] if any(not same(one, two) for one, two in pairs) else []
        described = self._description()
        found += [
            f"the loss's {place.partition('.')[2] or 'state'}"
            for place, text in described.items()
            if self._described.get(place) != text
        ]
        return found

    def _description(self) -> Description:
        return {} if self._loss is None else describe(loss=self._loss)


def _attributes(model: nn.Module) -> dict[str, Any]:
    """What the modules hold beside parameters, buffers and submodules."""
    if isinstance(model, torch.jit.ScriptModule):
        return {}
    return {
        f"{place}.{name}".lstrip("."): one.detach().clone() if isinstance(one, Tensor) else _shown(one)
        for place, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for name, one in vars(module).items()
        if name not in ("_parameters", "_buffers", "_modules")
    }


def _shown(value: Any) -> Any:
    """The value where it can't change, otherwise what is seen of it from outside."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return value
    return id(value), len(value) if isinstance(value, list | tuple | dict | set) else 0


def _alike(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return same(one, two)
    return not isinstance(one, Tensor) and not isinstance(two, Tensor) and bool(one == two)


def same(one: Tensor, two: Tensor) -> bool:
    """The same bits."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if one.layout != torch.strided or two.layout != torch.strided:
        return bool((one.to_dense() == two.to_dense()).all())
    return torch.equal(one, two) or bool(((one == two) | ((one != one) & (two != two))).all())


def _beyond_rounding(one: Tensor, two: Tensor) -> bool:
    if not one.is_floating_point():
        return not same(one, two)
    return relative_difference(one, two) > ROUNDING.get(one.dtype, 0.0)


def _copied(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in values.items()}


def _equal(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(same(value, two[name]) for name, value in one.items())


def _rounding(values: Mapping[str, Tensor]) -> float:
    return max((ROUNDING.get(one.dtype, 0.0) for one in values.values()), default=0.0)


def _largest_difference(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> tuple[str, float]:
    """The quantity that differs most, relative to its largest value."""
    found = {
        name: relative_difference(value, two[name]) if name in two else np.inf for name, value in one.items()
    }
    name = max(found, key=lambda key: found[key])
    return name, found[name]


def relative_difference(one: Tensor, two: Tensor) -> float:
    """Largest, relative to the largest value; infinite where shapes or what is finite differ."""
    if one.shape != two.shape:
        return float("inf")
    one, two = one.double(), two.double()
    finite = one.isfinite()
    if not torch.equal(finite, two.isfinite()):
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    scale = torch.maximum(one[finite].abs().max(), two[finite].abs().max()).clamp_min(1e-300)
    return float((one - two)[finite].abs().max() / scale)
