"""The contract of a sparsity method.

A method is one file with one frozen dataclass: its fields are its hyper-parameters (the command line shows
them by itself), `init_mask` makes the mask before the first step, and dynamic methods say when they change it
(`update_due`) and how (`update_mask`); others pull the weights somewhere (`pull`) and prune at the end
(`last_masks`). The loop applies masks to weights, gradients and optimizer state; a
method only decides them. Methods that train several times over, each time from the same early weights,
override `round_epochs`.

A mask is per weight. A method that removes channels (`structured`) masks their filters and the weights that
read them, says which parameters without a mask go with them (`silenced`), and, if channels return with the
values that they had, gives these (`first_memory`, `restored`). Its result is exported without them, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from training.masks import Layer, Mask, chosen_layers, prunable

Gradient = Literal["none", "last", "dense"]


class Source(Protocol):
    """Training images for methods that look at data: normalized (N, 3, H, W), not augmented, and labels."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` images without replacement; all of them when there are fewer."""
        ...

    def draw_balanced(self, per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`per_class` images of each class, the classes interleaved; as many as each class has."""
        ...


@dataclass(frozen=True)
class Moment:
    """Where the training is: `step` updates of `steps` are done, `steps_per_epoch` make an epoch."""

    step: int
    steps: int
    steps_per_epoch: int


@dataclass(frozen=True)
class Situation:
    """What a dynamic method may look at when it changes the mask.

    Attributes
    ----------
    model
        As it is, with pruned weights exactly 0; a method doesn't change it.
    mask
        The present one.
    moment
        ``moment.step`` updates are done.
    gradients
        By weight name, as the method's `gradient` says: "dense", of the loss at the present weights with
        respect to all prunable weights; "last", those of the latest step, zero where pruned, and empty
        before the first step; "none", empty.
    source, generator
        Training images and the method's randomness (on the CPU, so that every device draws the same).
    memory
        The method's own state (numbers, strings, tensors); saved and restored with the run.
    """

    model: nn.Module
    mask: Mask
    moment: Moment
    gradients: Mapping[str, Tensor]
    source: Source
    generator: torch.Generator
    memory: dict[str, Any]

    def weights(self) -> dict[str, nn.Parameter]:
        """The masked weights by name."""
        return {name: self.model.get_parameter(name) for name in self.mask}


@dataclass(frozen=True)
class SparsityMethod(ABC):
    """Decides which weights are kept."""

    @abstractmethod
    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Return the mask to start with, on the model's device; leaves the model as it is."""

    @property
    def gradient(self) -> Gradient:
        """Which gradients `update_mask` needs.

        "dense" takes the place of the optimizer's step: the batch gives a gradient at the present weights,
        the mask changes, and no weight is updated (Evci et al. 2020, Algorithm 1).
        """
        return "none"

    @property
    def dynamic(self) -> bool:
        """Whether the mask, or what the method keeps beside it, is to change between steps."""
        return type(self).update_due is not SparsityMethod.update_due

    def update_due(self, moment: Moment) -> bool:
        """Whether the mask changes before the next step; asked once for every step, from ``step == 0``."""
        return False

    def update_mask(self, now: Situation) -> Sequence[Mask]:
        """Masks to apply in turn; the last one holds for the next steps.

        Each sets the weights that it doesn't keep to 0 and takes their optimizer state away. A method that
        drops first and grows afterwards, the dropped weights among the candidates, returns two: then a
        weight that is grown again starts from 0 like any other. One mask keeps it with its history.
        """
        return ()

    def pull(self, model: nn.Module, memory: Mapping[str, Any], moment: Moment) -> Mapping[str, Tensor]:
        """By weight name, what is added to the gradient of step ``moment.step``, at the present weights.

        It is no part of what SAM and its like perturb the weights along.
        """
        return {}

    def last_masks(self, now: Situation) -> Sequence[Mask]:
        """Masks to apply in turn after the last step; the model gets `restored` with them, too."""
        return ()

    @property
    def structured(self) -> bool:
        """Whether whole channels are removed."""
        return False

    def first_memory(self, model: nn.Module, mask: Mask) -> dict[str, Any]:
        """The method's own state before the first step; `model` still has the weights that are pruned."""
        return {}

    def silenced(self, model: nn.Module, mask: Mask, image: Tensor, memory: Mapping[str, Any]) -> Mask:
        """Where parameters that have no mask are 0 as long as `mask` holds: bool by name, True = kept.

        `image` is a normalized one (1, 3, H, W), `memory` the method's own state.
        """
        return {}

    def restored(self, now: Situation, mask: Mask) -> Mapping[str, Tensor]:
        """Tensors of the model's state, whole, that get other values now that `mask` holds.

        `now` is the situation that `update_mask` got; the model has the new mask's zeros already.
        """
        return {}

    def round_epochs(self, epochs: int) -> Sequence[int]:
        """Epochs of each training of a run of `epochs`; methods that train once return ``(epochs,)``."""
        return (epochs,)

    @property
    def rewind_step(self) -> int:
        """Each round after the first starts from the weights (and schedule) after so many steps."""
        return 0

    def next_round(self, model: nn.Module, mask: Mask, number: int) -> Mask:
        """Return the mask of round `number` (from 1), looking at the weights trained in the one before."""
        raise ValueError(f"{type(self).__name__} trains in one round")


@dataclass(frozen=True)
class MaskedMethod(SparsityMethod):
    """A method that prunes; what all of them share.

    Attributes
    ----------
    sparsity
        Pruned share of the maskable weights (all convolutions and linear layers but `keep_dense`), in [0, 1).
    keep_dense
        Layers that are neither masked nor counted: first (convolution), last (classifier), shortcut; or none;
        or published, those that the method's authors keep dense.
    empty_layers
        What to do about a mask that leaves no weight in a layer: warn, or fail.
    """

    sparsity: float = 0.9
    # No None here: the command line would take "none" for it.
    keep_dense: tuple[Layer, ...] = field(default=("published",), kw_only=True)
    empty_layers: Literal["warn", "fail"] = field(default="warn", kw_only=True)

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise UserError(f"sparsity {self.sparsity}: expected a pruned share of at least 0 and below 1")
        layers = chosen_layers(self.keep_dense)
        if "published" in self.keep_dense:
            layers = self.published_dense()
        # One spelling for what is the same, so that a run is known again by its settings.
        object.__setattr__(self, "keep_dense", layers)

    def published_dense(self) -> tuple[Layer, ...]:
        """Layers that the method's authors neither mask nor count."""
        return ()

    def maskable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The weights that get a mask, by name, in the model's order.

        Raises
        ------
        UserError
            When `keep_dense` leaves none.
        """
        weights = prunable(model, self.keep_dense)
        if not weights:
            raise UserError(
                f"keep-dense {' '.join(self.keep_dense) or 'none'}: this network has no other convolution or "
                "linear layer to mask; choose --keep-dense none, or a larger network"
            )
        return weights

    def shapes(self, model: nn.Module) -> dict[str, tuple[int, ...]]:
        """Shapes of the maskable weights."""
        return {name: tuple(weight.shape) for name, weight in self.maskable(model).items()}
