"""What defines a run: every setting that can change its result, with its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal

from landscape.checkpoint.models import TORCHVISIONS
from landscape.errors import UserError
from training.optimizers import OPTIMIZERS, SGD, OptimizerConfig
from training.precision import Precision
from training.sparsity import METHODS, Dense, SparsityMethod


@dataclass(frozen=True)
class Recipe:
    """The settings that don't belong to the method or the optimizer.

    The defaults are the recipe of the sparse-training papers for CIFAR (Yuan et al., "MEST", 2021).

    Attributes
    ----------
    model
        Architecture: resnet20, resnet32, resnet44, resnet56, resnet32_wide, vgg19; of torchvision's resnet34,
        resnet50, mobilenet_v2, efficientnet_b0, or any image classifier, as torchvision:resnet101.
    widths
        Channels of the three stages of a ResNet; the architecture's own by default.
    shortcut
        Shortcut of a ResNet: A has no parameters, B is a 1×1 convolution; the architecture's own by default.
    data
        cifar10, cifar100, sample, npz:PATH or imagefolder:PATH.
    validation
        Share of each class's training images that is held out, in whole images; never trained on.
    examples
        Training images to use, class-balanced and drawn by the seed; by default all that aren't held out.
        Fewer than there are classes leave classes out.
    image_size
        Side in pixels of the pictures of an image folder; 224 for photographs by default.
    augment
        Flip at random, and crop at random: photographs 8 to 100 % of their area, smaller pictures after
        padding by an eighth of the side.
    mixup
        Train on mixtures of two images, their shares drawn from a beta distribution with this parameter.
    epochs
        Passes over the training images.
    batch_size
        Images in a step, over all processes; the last step of an epoch takes what is left.
    accumulate
        Pieces in which the gradient of a batch is computed, to save memory; batch norm sees the pieces.
    precision
        float32, or on a GPU tf32; bfloat16 runs the forward pass in it, weights stay float32.
    warmup
        Epochs in which the learning rate rises linearly; then it falls to 0 as a cosine. A method that trains
        in rounds (lt) warms up in each of them, for as many epochs; no round may be shorter.
    milestones
        Epochs after which the learning rate falls by lr_drop, in place of the cosine.
    lr_drop
        Factor of the learning rate at each milestone.
    label_smoothing
        Probability mass given to all classes alike.
    seed
        Decides initial weights, mask, held-out images, order and augmentation.
    """

    model: str = "resnet20"
    widths: tuple[int, int, int] | None = None
    shortcut: Literal["A", "B"] | None = None
    data: str = "cifar10"
    validation: float = 0.1
    examples: int | None = None
    image_size: int | None = None
    augment: bool = True
    mixup: float = 0.0
    epochs: int = 160
    batch_size: int = 64
    accumulate: int = 1
    precision: Precision = "float32"
    warmup: float = 0.0
    # No None here: the command line would take "none" for it.
    milestones: tuple[float, ...] = ()
    lr_drop: float = 0.1
    label_smoothing: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class RunConfig(Recipe):
    """A recipe with its sparsity method and optimizer; stored in the checkpoint."""

    method: SparsityMethod = field(default_factory=Dense)
    optimizer: OptimizerConfig = field(default_factory=SGD)

    def __post_init__(self) -> None:
        ranges = {
            "epochs": (1, 1_000_000),
            "batch_size": (1, 1_000_000),
            "accumulate": (1, 1_000_000),
            "validation": (0, 0.9),
            "warmup": (0, self.epochs),
            "label_smoothing": (0, 0.999),
            "mixup": (0, 100),
            "lr_drop": (0, 1),
            "seed": (0, 2**63 - 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{name.replace('_', '-')} {value}: expected {low:g} to {high:g}")
        if self.image_size is not None and not 8 <= self.image_size <= 4096:
            raise UserError(f"image-size {self.image_size}: expected pixels, 8 to 4096")
        ascending = all(one < two for one, two in pairwise((0.0, *self.milestones, float(self.epochs))))
        if self.milestones and not ascending:
            raise UserError(
                f"milestones {' '.join(f'{one:g}' for one in self.milestones)}: expected ascending epochs "
                f"between 0 and {self.epochs}"
            )
        # One spelling for what is the same, so that a run is known again by its settings.
        object.__setattr__(self, "model", TORCHVISIONS.get(self.model, self.model))
        if self.widths is not None and min(self.widths) < 1:
            raise UserError(f"widths {' '.join(map(str, self.widths))}: expected 1 or more each")
        if self.widths is not None and max(self.widths) > 100_000:
            raise UserError(f"widths {' '.join(map(str, self.widths))}: expected 100,000 or fewer each")
        if not 0 < self.optimizer.lr < float("inf"):
            raise UserError(f"lr {self.optimizer.lr}: expected a positive number")

    def model_arguments(self, num_classes: int) -> dict[str, Any]:
        """The arguments for ``build_model``: the class count, and what was chosen explicitly."""
        chosen = {"widths": self.widths, "shortcut": self.shortcut}
        return {"num_classes": num_classes} | {
            key: value for key, value in chosen.items() if value is not None
        }

    def to_dict(self, data_name: str) -> dict[str, Any]:
        """Plain values for the checkpoint; `data_name` stands for the data, free of this machine's paths."""
        plain = {item.name: getattr(self, item.name) for item in fields(Recipe)}
        plain["data"] = data_name
        plain["method"] = {"name": _name(self.method, METHODS), **asdict(self.method)}
        plain["optimizer"] = {"name": _name(self.optimizer, OPTIMIZERS), **asdict(self.optimizer)}
        return {key: _plain(value) for key, value in plain.items()}


def _plain(value: Any) -> Any:
    """Tuples as lists, so that settings equal what JSON gives back."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _name(entry: object, table: Mapping[str, type]) -> str:
    """The entry's name in its table, or its class name for one that a user brought along."""
    names = [name for name, kind in table.items() if kind is type(entry)]
    return names[0] if names else type(entry).__qualname__


def _method_name(settings: Mapping[str, Any]) -> str:
    """The method's, and its distribution where that isn't the default."""
    name = str(settings["name"])
    for own in fields(METHODS[name]) if name in METHODS else ():
        value = settings.get(own.name)
        if own.name in ("distribution", "ranking") and value not in (None, own.default):
            return f"{name}_{str(value).replace('+', '_plus')}"
    return name


def run_name(settings: Mapping[str, Any]) -> str:
    """Name of a run and its folder, made of its settings: model-data-method-sparsity-optimizer-seedN.

    A method that shares its weights among the layers by another distribution than its own says which, as
    ``rigl_uniform``: such runs stand beside the usual ones, in a table of both.
    """
    sparsity = settings["method"].get("sparsity")
    level = [] if sparsity is None else [f"{sparsity:g}"]
    model = settings["model"].replace(":", "-")  # of libraries' networks; no good in names of folders
    parts = [model, settings["data"], _method_name(settings["method"]), *level]
    return "-".join([*parts, settings["optimizer"]["name"], f"seed{settings['seed']}"])


_LATER: dict[str, Any] = {"image_size": None, "mixup": 0.0, "milestones": [], "lr_drop": 0.1}
"""Settings that runs of earlier versions don't have, and what these did."""


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Each setting that differs, as ``lr 0.1, now 0.2``; nested settings by their own names.

    A run of an earlier version, on either side, has later settings at what they stand for.
    """
    lines = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, now = (settings.get(key, _LATER.get(key)) for settings in (old, new))
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            same = before.get("name") == now.get("name")
            lines += (
                difference(before, now) if same else [f"{key} {before.get('name')}, now {now.get('name')}"]
            )
        elif before != now:
            lines.append(f"{key} {before}, now {now}")
    return lines
