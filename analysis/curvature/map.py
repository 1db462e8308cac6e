"""`curvature_map`: a surface, its network and examples in; the surface with maps of λmax and λmin out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from analysis.curvature.directions import plane_directions
from analysis.curvature.inputs import fewer, same_examples, same_mask, same_network
from analysis.curvature.map_record import entry_of
from analysis.curvature.map_run import MapRun
from analysis.curvature.plan import Plan
from analysis.curvature.points import PointSolver, solved_by
from analysis.hessian.operator import DTYPES, Derivatives, HessianOperator
from landscape.compute import Data
from landscape.devices import choose_device, kind_of
from landscape.engine import left_alone
from landscape.engine.modes import own_modes
from landscape.errors import UserError
from landscape.keeping.lock import owned
from landscape.keeping.settings import check_settings, settings_difference
from landscape.losses import Loss, classification
from landscape.parameters import TRAINABLE, ParamsChoice, moving_params
from landscape.progress import Watch, watching
from landscape.surface import Surface
from landscape.workers.crew import check_executor


@own_modes()
def curvature_map(
    surface: Surface,
    model: nn.Module,
    data: Data | Mapping[str, Data],
    *,
    loss: Loss = classification,
    mask: Mapping[str, Tensor] | Literal["auto", "none"] | None = "auto",
    params: ParamsChoice | None = None,
    planes: Sequence[int] | None = None,
    split: str | None = None,
    examples: int | None = None,
    plan: Plan = Plan(),  # noqa: B008
    eigenvectors: Sequence[Mapping[str, Tensor]] = (),
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | None = None,
    memory: float | None = None,
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Watch = "auto",
    announce: Callable[[int, float], None] | None = None,
) -> Surface:
    """The extreme eigenvalues of the Hessian over a surface, and |λmin/λmax|.

    Li et al., "Visualizing the loss landscape of neural nets", 2018, section 6: where the ratio is far below
    1, the surface that a plane shows is nearly convex in all directions, too. The Hessian is that of the
    mean loss with the network moved to the point, restricted to the kept weights; points are chosen
    adaptively and the rest is interpolated, with the error stated in `Metric.error`. Neither the model nor
    the given surface is changed.

    Parameters
    ----------
    surface
        A finished one, as read from its file.
    model, data, loss, mask
        Those that it was computed from; what differs is refused. `data` may name splits.
    params
        Which parameters span the Hessian's space; by default those that the surface moved. See
        `landscape.parameters`.
    planes
        Which planes, counted from 0; all by default.
    split
        On which of the surface's sets of examples; the first by default.
    examples
        Only so many of them, the first ones. All by default.
    plan
        Where, and how well.
    eigenvectors
        Directions of a Hessian plane that its file didn't keep.
    device, dtype, batch_size, memory
        See `analysis.hessian.HessianOperator`.
    path
        The surface's file, brought up to date at most every two seconds: the same call after an
        interruption goes on there and ends with the same bits.
    overwrite
        Replace curvature that was computed with other settings.
    executor
        Whose workers compute points; see `landscape.compute_surface`.
    progress
        "auto" shows a bar in a terminal or a notebook, nothing elsewhere; None shows nothing; or a function
        that is called with a `landscape.progress.Progress` after every point.
    announce
        Called before the first new point with how many are to come at most, and the seconds of a product,
        which takes two products to find out.

    Returns
    -------
    Surface
        With the metrics ``lambda_max``, ``lambda_min`` and ``lambda_ratio``, inf where the network diverges,
        and residuals and settings in ``about["curvature"]``.

    Raises
    ------
    UserError
        For anything that isn't the surface's, unusable numbers, directions that can't be had, or curvature
        with other settings in the surface.
    """
    if not isinstance(plan, Plan):
        raise UserError(f"plan is a {type(plan).__name__}; expected a Plan(max_points=…, …) of it")
    check_executor(executor)
    split = split or surface.splits[0]
    numbers = _numbers(surface, planes)
    moving = same_network(surface, model, loss)
    rule = params or surface.settings.get("params", {}).get("rule", TRAINABLE)
    every = same_examples(surface, data, split)
    kept, device = same_mask(surface, mask, moving), choose_device(device)
    part = fewer(every, examples)
    centre = HessianOperator(
        model,
        part,
        loss=loss,
        mask=kept,
        params=rule,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        memory=memory,
    )
    derivatives: Derivatives = centre.about["derivatives"]
    recalibrated_on = (
        left_alone(every, model, loss, device, DTYPES[dtype]) if _recalibrated(surface, split) else None
    )
    if centre.torch_device.type == "cuda":  # where free memory decides: every point has the centre's
        batch_size = centre.about["batch_size"]
    settings = (
        plan.settings()
        | moving_params(model, rule).settings()
        | {
            "examples": {
                "count": examples or surface.planes[0].splits[split].examples,
                "digest": part.digest(),
            },
            "operator": {"device": kind_of(device), "dtype": dtype, "batch_size": batch_size},
        }
    )
    if derivatives != "exact":
        settings["derivatives"] = derivatives

    def solver(number: int) -> PointSolver:
        own = None if surface.planes[number].about.get("mask") == "none" else kept
        return PointSolver(
            model,
            plane_directions(surface, number, moving, kept, eigenvectors),
            part,
            loss=loss,
            mask=own,
            params=rule,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            memory=memory,
            recalibrated_on=recalibrated_on,
            derivatives=derivatives,
            tolerance=plan.eigenvalue_tolerance,
            max_products=plan.max_products,
            seed=plan.seed,
        )

    todo = [number for number in numbers if not _finished(surface, number, split, settings, overwrite)]
    for number in todo:
        solver(number)  # what can't be had is refused before hours go into the first
    file = None if path is None else Path(path)
    with watching(progress, surface.label) as listener:
        run = MapRun(surface, split, settings, plan, file, len(todo), listener)
        if announce is not None and todo:
            announce(sum(run.left(number) for number in todo), solver(todo[0]).seconds_per_product())
        with owned(path if todo else None):
            for number in todo:  # each solver made anew: the directions of all planes may not fit together
                with solved_by(solver(number), executor, file) as evaluator:
                    run.plane(number, evaluator)
        return run.surface


def _recalibrated(surface: Surface, split: str) -> bool:
    """Whether batch norm is estimated anew at each point; UserError where that isn't on this split."""
    found = surface.settings.get("engine", {}).get("batch_norm") == "recalibrate"
    if found and split != surface.splits[0]:
        raise UserError(
            f"batch norm was estimated anew on {surface.splits[0]!r} at every point; choose that split"
        )
    return bool(found)


def _numbers(surface: Surface, planes: Sequence[int] | None) -> list[int]:
    numbers = list(range(len(surface.planes))) if planes is None else list(dict.fromkeys(planes))
    for number in numbers:
        if not 0 <= number < len(surface.planes):
            raise UserError(f"no plane {number}; the surface has {len(surface.planes)}, counted from 0")
    return numbers


def _finished(
    surface: Surface, number: int, split: str, settings: Mapping[str, Any], overwrite: bool
) -> bool:
    """Whether nothing is left to do for a plane; UserError for another map that is in the way."""
    entry = entry_of(surface, number, split)
    if entry is None:
        return False
    if overwrite and settings_difference(entry["settings"], dict(settings)) is not None:
        return False
    holder = f"plane {number} has a curvature map"
    check_settings(holder, entry["settings"], settings, "replace it with --overwrite")
    return bool(entry["complete"])
