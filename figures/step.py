"""Compute the steps that Figure 2 shows, with the optimizers that train: needs torch.

``python -m figures.step CHECKPOINT --data npz:cifar10.npz --output RESULTS/figure2``. From a checkpoint both
optimizers take two steps on one batch; the second is drawn on the loss of that batch. Without momentum and
weight decay S2-SAM's points lie in one plane: ``w_t-2``, ``w_t-1`` and ``u_t`` on a line along the previous
gradient, ``w_t`` beside it. SAM's ``w_t-2`` is projected into the plane of its second step.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from figures.steps import FORMAT, VERSION
from landscape.commandline.command import run_command
from landscape.commandline.console import out
from landscape.commandline.options import Int, shown
from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.files.json_files import sealed

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from landscape.checkpoint import LoadedCheckpoint
    from landscape.data import LoadedData

MARGIN, POINTS = 1.25, 31  # the slice beyond the outermost point; grid points per axis
AXES = {
    "s2sam": ("along the previous gradient", "across it, towards this step"),
    "sam": ("along the first gradient", "across it, towards this step"),
}


@dataclass(frozen=True)
class Walk:
    """Two steps of one optimizer, flat vectors over the parameters, float64.

    Attributes
    ----------
    weights
        w_t-2, w_t-1 and w_t.
    places
        Where each gradient was computed, in order.
    gradients
        These gradients.
    """

    weights: list[Tensor]
    places: list[Tensor]
    gradients: list[Tensor]


def walk(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[nn.Module], Tensor],
    mask: Mapping[str, Tensor],
    steps: int = 2,
) -> Walk:
    """Take steps in evaluation mode and keep every point; the model is moved.

    Pruned weights have no gradient, as in training.
    """
    import torch

    names = dict(model.named_parameters())
    found = Walk([_flat(names.values())], [], [])

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            value = loss(model)
            value.backward()  # type: ignore[no-untyped-call]
        for name, kept in mask.items():
            names[name].grad.mul_(kept)  # type: ignore[union-attr]
        found.places.append(_flat(names.values()))
        found.gradients.append(_flat(one.grad for one in names.values()))
        return value

    for _ in range(steps):
        optimizer.step(closure)  # type: ignore[arg-type]
        found.weights.append(_flat(names.values()))
    return found


def _flat(tensors: Any) -> Tensor:
    import torch

    return torch.cat([one.detach().double().reshape(-1) for one in tensors])


@dataclass(frozen=True)
class Slice:
    """A plane of orthonormal vectors through weights, with a step's points on it, relative to `center`."""

    center: Tensor
    basis: tuple[Tensor, Tensor]
    points: dict[str, tuple[float, float]]
    gradients: list[dict[str, Any]]
    off_plane: float
    span: float


def slice_of(found: Walk, rate: float, *, reuses: bool) -> Slice:
    """The plane of the second step; `reuses`: its ascent follows the first step's last gradient."""
    up, last = (
        (found.gradients[0], found.gradients[1]) if reuses else (found.gradients[2], found.gradients[3])
    )
    origin = found.weights[1]
    first = up / up.norm()
    rest = last - (last @ first) * first
    if not rest.norm() > 1e-9 * last.norm():
        raise UserError("both gradients point the same way, so there is no plane; take another checkpoint")
    basis = first, -rest / rest.norm()  # upwards is where the step goes
    turn_up = found.places[1] if reuses else found.places[3]

    def coordinates(vector: Tensor) -> tuple[float, float]:
        return float(vector @ basis[0]), float(vector @ basis[1])

    places = {
        "w_t-2": found.weights[0],
        "w_t-1": origin,
        "u_t": turn_up,
        "w_t": found.weights[2],
    }
    flat = {name: coordinates(place - origin) for name, place in places.items()}
    off = max(
        float((place - origin - flat[name][0] * basis[0] - flat[name][1] * basis[1]).norm())
        for name, place in places.items()
    )
    start = flat["w_t-2"] if reuses else flat["w_t-1"]
    arrows: list[dict[str, Any]] = [
        {"at": start, "vector": coordinates(up), "reused": reuses},
        {"at": flat["u_t"], "vector": coordinates(last), "reused": False},
    ]
    ends = [
        tuple(at - rate * part for at, part in zip(one["at"], one["vector"], strict=True)) for one in arrows
    ]
    low = [min(axis) for axis in zip(*flat.values(), *ends, strict=True)]
    high = [max(axis) for axis in zip(*flat.values(), *ends, strict=True)]
    middle = [(one + other) / 2 for one, other in zip(low, high, strict=True)]
    span = MARGIN * max(other - one for one, other in zip(low, high, strict=True)) / 2

    def shift(pair: Any) -> tuple[float, float]:
        return float(pair[0]) - middle[0], float(pair[1]) - middle[1]

    return Slice(
        origin + middle[0] * basis[0] + middle[1] * basis[1],
        basis,
        {name: shift(pair) for name, pair in flat.items()},
        [{**one, "at": shift(one["at"])} for one in arrows],
        off,
        span,
    )


def compute(loaded: LoadedCheckpoint, data: LoadedData, rate: float, rho: float, folder: Path) -> Path:
    """Both optimizers' steps and slices; returns the path of ``step.json``, written last."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    from training.optimizers.s2sam import S2SAM
    from training.optimizers.sam import SAM

    inputs, targets = data.normalized(), torch.as_tensor(data.targets)
    mask = {name: kept.float() for name, kept in (loaded.mask or {}).items()}
    steps = {}
    for name, reuses in (("s2sam", True), ("sam", False)):
        model = copy.deepcopy(loaded.model).eval()
        base = torch.optim.SGD(model.parameters(), lr=rate)
        optimizer = S2SAM(base, rho) if name == "s2sam" else SAM(base, rho, model=model)
        found = walk(model, optimizer, lambda net: F.cross_entropy(net(inputs), targets), mask)
        where = slice_of(found, rate, reuses=reuses)
        path = folder / f"{name}.surface.h5"
        _surface(model, where, (inputs, targets), path, loaded, data)
        steps[name] = {
            "surface": path.name,
            "axes": AXES[name],
            "points": where.points,
            "gradients": where.gradients,
            "off_plane": where.off_plane,
        }
    what = (
        f"Second step on one batch of {len(targets)} training images of {data.name} from the weights of "
        f"{loaded.name}, batch norm in evaluation mode, no momentum, no weight decay; distances are those "
        "between weights."
    )
    content = {
        "format": FORMAT,
        "version": VERSION,
        "what": what,
        "learning_rate": rate,
        "rho": rho,
        "steps": steps,
    }
    target = folder / "step.json"
    with atomic_path(target) as temporary:
        temporary.write_text(
            json.dumps(sealed(content), indent=1, ensure_ascii=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",
        )
    return target


def _surface(
    model: nn.Module,
    where: Slice,
    batch: tuple[Tensor, Tensor],
    path: Path,
    loaded: LoadedCheckpoint,
    data: LoadedData,
) -> None:
    """The batch's loss on the slice, every point computed."""
    import torch

    from landscape.compute import compute_surface
    from landscape.planes import GivenPlane

    params = dict(model.named_parameters())
    with torch.no_grad():
        for name, part in _parts(where.center, params).items():
            params[name].copy_(part)
    compute_surface(
        model,
        {"train": batch},
        plane=GivenPlane([_parts(one, params) for one in where.basis], label="step"),
        mask="none",
        points=POINTS,
        span=where.span,
        exact_grid=True,
        path=path,
        overwrite=True,
        label=loaded.name,
        about={"checkpoint": {"sha256": loaded.sha256}, "data": {"name": data.name}},
    )


def _parts(vector: Tensor, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A flat vector by parameter."""
    import torch

    pieces = torch.split(vector, [one.numel() for one in params.values()])
    return {
        name: piece.view(one.shape).to(one.dtype)
        for (name, one), piece in zip(params.items(), pieces, strict=True)
    }


@Parameter(name="*")
@dataclass(frozen=True)
class StepOptions:
    """What the command can be told."""

    output: Annotated[Path, Parameter(name=["--output", "-o"])]
    """Folder, RESULTS/figure2."""

    data: Annotated[str | None, shown("what the checkpoint names")] = None
    """As in `landscape.surface`."""

    data_root: Annotated[Path | None, shown("$SHARPSCAPE_DATA, else ./data")] = None
    """Folder of the data sets."""

    examples: Int = 64
    """Images of the batch."""

    rate: float = 0.1
    """Learning rate."""

    rho: float = 0.05
    """Perturbation."""

    name: Annotated[str | None, shown("its file's name")] = None
    """How to call the checkpoint."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""

    def command(checkpoint: Path, /, *, options: StepOptions) -> None:
        """Compute steps.

        Parameters
        ----------
        checkpoint
            A network to start from.
        """
        if options.examples < 1 or not options.rate > 0 or not options.rho > 0:
            raise UserError("--examples, --rate and --rho must be positive")
        out(_run(checkpoint, options))

    run_command("figures.step", "Compute the steps that Figure 2 shows.", "", command, arguments)


def _run(checkpoint: Path, options: StepOptions) -> Path:
    from landscape.checkpoint import load_checkpoint
    from landscape.data import check_model_takes, load_data
    from training.models import ARCHITECTURES

    loaded = load_checkpoint(checkpoint, architectures=ARCHITECTURES)
    if options.name:
        loaded = replace(loaded, name=options.name)
    data = load_data(
        options.data,
        root=options.data_root,
        split="train",
        examples=options.examples,
        stored=loaded.data,
        num_classes=loaded.num_classes,
    )
    check_model_takes(loaded.model, data)
    return compute(loaded, data, options.rate, options.rho, options.output)


if __name__ == "__main__":
    main()
