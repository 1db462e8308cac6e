"""`connect`: two networks and examples in; the loss along curves between them out, resumable at any point."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn

from analysis.connectivity.bend_files import Identity
from analysis.connectivity.curve import NAMES, Evaluation
from analysis.connectivity.ends import BatchNormChoice, check_same_function, prepare_ends
from analysis.connectivity.recipe import Curve, Training
from analysis.connectivity.work import Watcher, Work, about_bend, remove
from landscape.checks.arguments import whole
from landscape.checks.fitting import fitting_loss
from landscape.checks.identity import Functions
from landscape.compute import Data, as_examples, choose_mask, named_splits
from landscape.devices import choose_device
from landscape.engine import DTYPES, left_alone
from landscape.engine.modes import own_modes
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import Loss, classification
from landscape.parameters import TRAINABLE, ParamsChoice, moving_params
from landscape.planes.directions import Params
from landscape.surface import Surface

DEFAULT = Training()
MaskChoice = Mapping[str, Tensor] | Literal["auto", "none"] | None


@dataclass(frozen=True, eq=False)
class Connection:
    """What was found between two networks.

    Attributes
    ----------
    surfaces
        By curve ("linear", "bezier"): one-dimensional surfaces whose α is t.
    bend
        The Bézier curve's middle point θ by parameter name; None without that curve.
    files
        What was written, in order.
    """

    surfaces: Mapping[str, Surface]
    bend: Params | None
    files: tuple[Path, ...] = ()


@own_modes()
def connect(
    first: nn.Module,
    second: nn.Module,
    data: Data | Mapping[str, Data],
    *,
    train_data: Data | None = None,
    recalibration: Data | None = None,
    loss: Loss = classification,
    curves: Sequence[Curve] = ("linear", "bezier"),
    training: Training = DEFAULT,
    masks: tuple[MaskChoice, MaskChoice] = ("auto", "auto"),
    params: ParamsChoice = TRAINABLE,
    batch_norm: BatchNormChoice = "recalibrate",
    points: int = 21,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | None = None,
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    names: tuple[str, str] = NAMES,
    identity: Identity | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Watcher = "auto",
) -> Connection:
    """Loss and metrics on a straight line and on a trained quadratic Bézier curve between two networks.

    Neither model is modified. With a `path` everything is kept on disk: the same call after an interruption
    goes on where it stopped and ends with the same bits.

    Parameters
    ----------
    first, second
        Modules with the same parameters, at t = 0 and t = 1.
    data
        Examples to evaluate on, or several sets by name; as for `landscape.compute_surface`.
    train_data
        Examples to train the bend on; by default the first of `data`.
    recalibration
        Examples on which running statistics are re-estimated; by default the first of `data`.
    loss
        See `landscape.losses.Loss`.
    curves
        "linear", "bezier" or both.
    training
        How the bend is trained.
    masks
        Kept weights of each network: "auto" takes them from exact zeros. The straight line passes through
        networks that have the weights of both; the bend is trained on weights that one of them keeps, and on
        all with "none" for one.
    params
        Which parameters move; see `landscape.parameters`. The networks may differ in others only where names
        or patterns chose these: the curve then ends at the first network with these parameters of the second.
    batch_norm
        "recalibrate" the running statistics at each point (Garipov et al. 2018), and use each batch's own in
        training; or "interpolate" them between those of the ends, so that t = 0 and 1 are the networks as
        they are.
    points
        Values of t, evenly spaced from 0 to 1.
    device, dtype, batch_size
        "auto", "cpu", "cuda", …; "float32" or "float64"; examples in a forward pass of the evaluation.
    path, overwrite
        ``PATH.linear.surface.h5``, ``PATH.bezier.surface.h5`` and ``PATH.bend.pt`` are written; whether to
        replace files with other settings.
    names, identity, about
        The networks' names, what the bend's checkpoint says of its architecture, and provenance to store.
        A finished surface takes new names, and keeps its provenance.
    progress
        "auto" shows bars in a terminal or a notebook and nothing elsewhere; None shows nothing; or a function
        that is called after every step of the training and every point, with "linear", "bend" or "bezier" and
        how far that is.

    Raises
    ------
    UserError
        For different architectures or other unusable arguments, or files at `path` with other settings.
    """
    given: Any = curves
    curves = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    _check(curves, dtype, training, masks, names)
    points, training = whole("points", points, 3), training.check()
    batch_size = None if batch_size is None else whole("batch size", batch_size)
    kept = _mask(first, masks[0], params), _mask(second, masks[1], params)
    ends = prepare_ends(
        first, second, kept, batch_norm, params
    )  # all is checked before hours go into anything
    device = choose_device(device)

    def apart(given: Data) -> Examples:
        return left_alone(as_examples(given), first, loss, device, DTYPES[dtype])

    splits = {name: apart(one) for name, one in named_splits(data).items()}
    steering = next(iter(splits.values()))
    if not ends.moving.chosen:
        check_same_function(first, second, fitting_loss(loss, [steering]), steering)
    evaluation = Evaluation(
        splits,
        apart(recalibration) if recalibration is not None else steering,
        loss,
        points,
        device,
        dtype,
        batch_size,
        functions=Functions(first, loss),
    )
    base = Path(path) if path is not None else None
    if overwrite:
        remove(base, curves)
    told = identity or Identity(type(first).__name__)
    work = Work(ends, evaluation, base, names, told, dict(about or {}), progress)
    surfaces: dict[str, Surface] = {}
    bend: Params | None = None
    if "linear" in curves:
        surfaces["linear"] = work.surface("linear", None, {"label": "straight line"})
    if "bezier" in curves:
        examples = apart(train_data) if train_data is not None else steering
        fitting_loss(loss, [examples])  # refuses labels of which none counts
        bend = work.bend(examples, training)
        described = about_bend(ends, training, examples)
        surfaces["bezier"] = work.surface("bezier", bend, described)
    return Connection(surfaces, bend, tuple(work.files))


def _check(
    curves: Sequence[Curve], dtype: str, training: Training, masks: Sequence[MaskChoice], names: Sequence[str]
) -> None:
    unknown = [one for one in curves if one not in get_args(Curve)]
    if unknown or not curves:
        raise UserError(f"curves {', '.join(map(str, curves)) or 'none'}; expected linear, bezier or both")
    if dtype not in ("float32", "float64"):
        raise UserError(f"unknown dtype {dtype!r}; expected float32 or float64")
    if not isinstance(training, Training):
        raise UserError(
            f"training is a {type(training).__name__}; expected an analysis.connectivity.Training(steps=…, …)"
        )
    for what, value in (("masks", masks), ("names", names)):
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise UserError(f"{what} is {value!r}; expected two, of the first and of the second network")


def _mask(model: nn.Module, mask: MaskChoice, params: ParamsChoice) -> Mapping[str, Tensor] | None:
    return choose_mask(mask, "given", moving_params(model, params))[0]
