"""Whether a state read from ``last.pt`` can be one of this run: everything, before anything of it is used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from landscape.errors import UserError
from training import masks
from training.optimizers.perturbing import PERTURBATION

if TYPE_CHECKING:  # which itself checks states by this module
    from training.run import Run

_KEYS = {
    "epoch": int,
    "history": list,
    "notes": list,
    "model": dict,
    "mask": dict,
    "ever_active": dict,
    "memory": dict,
    "rewind": dict,
    "optimizer": dict,
    "data_sha256": str,
}


class _ImpossibleError(Exception):
    """What of a state can't be, as half a sentence."""


def check_state(state: Mapping[str, Any], run: Run) -> None:
    """Refuse a state that this run can't have saved.

    Parameters
    ----------
    run
        Freshly started: its model, first mask and optimizer say what fits.

    Raises
    ------
    UserError
        Naming the first thing that can't be, and what to do.
    """
    checks = (
        _kinds,
        _within,
        _progress,
        _model,
        _masks,
        _rewind,
        _memory,
        _optimizer,
        _processes,
        _gradients,
    )
    try:
        for check in checks:
            check(state, run)
    except _ImpossibleError as error:
        raise UserError(
            f"{run.folder.last}: {error}; it is damaged or of another program: remove it, or choose another "
            "--output"
        ) from error


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _ImpossibleError(otherwise)


def _kinds(state: Mapping[str, Any], run: Run) -> None:
    for key, kind in _KEYS.items():
        _expect(key in state, f"it has no {key}")
        found = type(state[key]).__name__
        fits = isinstance(state[key], kind) and not isinstance(state[key], bool)
        _expect(fits, f"its {key} is a {found}, expected a {kind.__name__}")
    _expect(all(isinstance(one, str) for one in state["notes"]), "its notes aren't texts")


def _within(state: Mapping[str, Any], run: Run) -> None:
    found = state.get("within")
    if found is None:
        return
    steps = run.steps_per_epoch
    kinds: dict[str, type] = dict.fromkeys(("step", "examples", "changed", "flops"), int)
    kinds |= {"seconds": float, "reading": float}
    fits = isinstance(found, dict) and set(found) == {*kinds, "losses"}
    _expect(fits, "it doesn't say how far its unfinished epoch is")
    for key, kind in kinds.items():
        value = found[key]
        fits = type(value) is kind and isinstance(value, int | float) and 0 <= value < math.inf
        _expect(fits, f"its unfinished epoch's {key} is {value!r:.20}")
    _expect(1 <= found["step"] < steps, f"its step is {found['step']}, expected 1 to {steps - 1}")
    _same_tensors("unfinished epoch", {"losses": found["losses"]}, {"losses": torch.zeros(steps)})
    _expect(state["epoch"] < len(run.plan), "its epoch is beyond the last one")


def _steps(state: Mapping[str, Any], run: Run) -> int:
    """Updates at most that a state has seen."""
    within = state.get("within")
    return int(state["epoch"]) * run.steps_per_epoch + (0 if within is None else int(within["step"]))


def _progress(state: Mapping[str, Any], run: Run) -> None:
    epoch, history, last = state["epoch"], state["history"], len(run.plan)
    first = 1 if state.get("within") is None else 0
    _expect(first <= epoch <= last, f"its epoch is {epoch}, expected {first} to {last}")
    _expect(len(history) == epoch, f"its history has {len(history)} epochs, expected {epoch}")
    for number, record in enumerate(history, 1):
        _expect(isinstance(record, dict), f"the record of epoch {number} is no dict")
        _expect(
            record.get("epoch") == number, f"the record of epoch {number} says {record.get('epoch')!r:.20}"
        )
        bad = [key for key, value in record.items() if value is not None and not _is_number(value)]
        _expect(not bad, f"the record of epoch {number} has no number for {', '.join(map(str, bad))}")
        loss = record.get("train_loss")
        _expect(
            _is_number(loss) and math.isfinite(loss), f"the training loss of epoch {number} is {loss!r:.20}"
        )


def _model(state: Mapping[str, Any], run: Run) -> None:
    _same_tensors("model", state["model"], run.model.state_dict())


def _masks(state: Mapping[str, Any], run: Run) -> None:
    for key in ("mask", "ever_active"):
        _same_tensors(key, state[key], run.mask)
    mask, sparsity = state["mask"], None
    if state.get("within") is None:  # else the mask may have changed since
        sparsity = state["history"][-1].get("sparsity")
    _expect(
        sparsity is None or abs(masks.sparsity(mask) - sparsity) < 1e-9,
        f"its mask has sparsity {masks.sparsity(mask):.6g}, its record says {sparsity}",
    )
    for name, part in mask.items():
        _expect(
            not bool((part & ~state["ever_active"][name]).any()),
            f"{name} keeps weights that never were active",
        )
        pruned = state["model"][name].masked_select(~part)
        _expect(not bool(pruned.any()), f"{name} has weights outside the mask that aren't 0")


def _rewind(state: Mapping[str, Any], run: Run) -> None:
    reached = _steps(state, run) > run.config.method.rewind_step
    several = len({one.round for one in run.plan}) > 1
    _expect(
        bool(state["rewind"]) == (several and reached),
        "it has no weights to rewind to" if several and reached else "it has weights to rewind to, too early",
    )
    if state["rewind"]:
        _same_tensors("rewind", state["rewind"], run.model.state_dict())


def _memory(state: Mapping[str, Any], run: Run) -> None:
    for key, value in state["memory"].items():
        finite = (
            bool(value.isfinite().all())
            if isinstance(value, Tensor)
            else isinstance(value, str) or (_is_number(value) and math.isfinite(value))
        )
        _expect(isinstance(key, str) and finite, f"its memory of {key!r:.40} is neither a text nor finite")
    if not state["rewind"]:
        for key, wanted in run.memory.items():  # what the method begins with stays there
            found = state["memory"].get(key)
            shape = getattr(wanted, "shape", None)
            _expect(
                isinstance(found, type(wanted)) and getattr(found, "shape", None) == shape,
                f"its memory of {key!r:.40} isn't of the kind of this run's",
            )


def _optimizer(state: Mapping[str, Any], run: Run) -> None:
    steps = _steps(state, run)
    parameters = [one for group in run.optimizer.param_groups for one in group["params"]]
    _same_optimizer(state["optimizer"], run.optimizer.state_dict(), parameters, steps)


def _same_optimizer(
    found: Any, wanted: Mapping[str, Any], parameters: list[Tensor], steps: int, where: str = "optimizer"
) -> None:
    """One optimizer's state, and those that it wraps."""
    _expect(
        isinstance(found, dict) and set(found) | {PERTURBATION} == set(wanted) | {PERTURBATION},
        f"its {where} isn't of the kind of this run's",
    )
    groups, own = found["param_groups"], wanted["param_groups"]
    _expect(isinstance(groups, list) and len(groups) == len(own), f"its {where} has other groups")
    for one, ours in zip(groups, own, strict=True):
        _expect(isinstance(one, dict) and set(one) == set(ours), f"its {where}'s groups have other settings")
        for key, value in ours.items():
            if key == "lr":
                _expect(
                    _is_number(one[key]) and 0 <= one[key] < math.inf, f"its {where}'s lr is {one[key]!r:.20}"
                )
            else:
                same = type(one[key]) is type(value) and one[key] == value
                _expect(same, f"its {where}'s {key} is {one[key]!r:.20}, expected {value!r:.20}")
    _expect(isinstance(found["state"], dict), f"its {where} has no state")
    for index, values in found["state"].items():
        _expect(
            type(index) is int and 0 <= index < len(parameters) and isinstance(values, dict),
            f"its {where} has a state for the parameter {index!r:.20}",
        )
        for key, value in values.items():
            _of_parameter(f"{where}'s {key} of parameter {index}", value, parameters[index])
    for key, value in wanted.items():
        if key == "steps":
            count = found[key]
            _expect(
                type(count) is int and 0 <= count <= steps, f"its {where} made {count!r:.20} of {steps} steps"
            )
        elif key == PERTURBATION:  # older files have none
            _expect(found.get(key, value) == value, f"its {where}'s {key} isn't this run's")
        elif key == "base":
            _same_optimizer(found[key], value, parameters, steps, f"{where}'s base")


def _of_parameter(what: str, value: Any, parameter: Tensor) -> None:
    if isinstance(value, Tensor):
        fits = value.dim() == 0 or value.shape == parameter.shape
        _expect(fits, f"its {what} is of shape {list(value.shape)}")
        _expect(not value.is_floating_point() or bool(value.isfinite().all()), f"its {what} isn't finite")
    else:
        _expect(value is None or _is_number(value), f"its {what} is a {type(value).__name__}")


def _processes(state: Mapping[str, Any], run: Run) -> None:
    """What each process has of its own, which no other number of them can go on with."""
    found, size = state.get("processes"), run.world.size
    if found is None and not run.is_apart:
        return
    count = len(found) if isinstance(found, list) else 1  # earlier versions kept the first one's
    if count != size:
        raise UserError(
            f"{run.folder.last}: each process has an average of its own gradients, of which this file has "
            f"{count}, for {size} processes; start as many as before, or choose another --output"
        )
    parameters = [one for group in run.optimizer.param_groups for one in group["params"]]
    for rank, part in enumerate(found or ()):
        fits = isinstance(part, dict) and set(part) == set(state["optimizer"]["state"])
        _expect(fits, f"the state of process {rank} isn't of the optimizer's parameters")
        for number, values in part.items():
            _expect(isinstance(values, dict), f"process {rank} has no state of parameter {number}")
            for key, value in values.items():
                _of_parameter(f"process {rank}'s {key} of parameter {number}", value, parameters[number])


def _gradients(state: Mapping[str, Any], run: Run) -> None:
    wanted = {name: run.model.get_parameter(name) for name in run.mask}
    if run.config.method.gradient == "last":
        _expect(isinstance(state.get("gradients"), dict), "it has no gradients")
    found = state.get("gradients", {})
    unknown = set(found) - set(wanted)
    _expect(not unknown, f"it has gradients of {', '.join(map(str, unknown))}")
    _same_tensors("gradients", found, {name: wanted[name] for name in found})


def _same_tensors(what: str, found: Mapping[Any, Any], wanted: Mapping[str, Tensor]) -> None:
    """The same names, shapes and types, and finite numbers."""
    _expect(set(found) == set(wanted), _difference(what, set(wanted), set(found)))
    for name, ours in wanted.items():
        value = found[name]
        _expect(isinstance(value, Tensor), f"its {what}'s {name} is a {type(value).__name__}")
        _expect(
            value.shape == ours.shape and value.dtype == ours.dtype,
            f"its {what}'s {name} is {value.dtype} {list(value.shape)}, expected {ours.dtype} "
            f"{list(ours.shape)}",
        )
        finite = not value.is_floating_point() or bool(torch.isfinite(value).all())
        _expect(finite, f"its {what}'s {name} isn't finite")
        if name.endswith("running_var"):
            _expect(not bool((value < 0).any()), f"its {what}'s {name} has variances below 0")


def _difference(what: str, wanted: set[str], found: set[Any]) -> str:
    missing, unknown = _few(wanted - found), _few(found - wanted)
    return (
        f"its {what} lacks {missing}" if missing else f"its {what} has {unknown}, which the run doesn't know"
    )


def _few(names: Iterable[Any]) -> str:
    listed = sorted(str(name)[:60] for name in names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
