"""GraSP: keep the weights without which the gradient would become smaller, before training.

Wang, Zhang and Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow" (2020), eq. 8
and Algorithms 1-2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from training.masks import Mask, prunable
from training.sparsity.base import MaskedMethod, Source
from training.sparsity.prune_grow import check_count
from training.sparsity.ranking import Ranking, check_decided, keep_top
from training.sparsity.scoring import Loss, batch_losses, scored_copy, summed_gradients


@dataclass(frozen=True)
class GraSP(MaskedMethod):
    """Rank the first weights by what their removal does to the squared norm of the gradient.

    Batch norm uses the statistics of the chunk that is looked at; scores are computed in double precision.

    Attributes
    ----------
    per_class
        Training images of each class in a draw.
    draws
        Times that images are drawn; gradients are summed over all.
    chunks
        Parts that each draw is split into, to save memory; the classes are balanced in each.
    temperature
        The logits are divided by it, which brings the softmax close to uniform.
    redraw_classifier
        Score the network with freshly drawn linear layers (Glorot and Bengio 2010, normal); the weights that
        are trained stay as they are.
    ranking
        One threshold over all layers (global), or a distribution that says how much each layer keeps.
    """

    per_class: int = 10
    draws: int = 1
    chunks: int = 2
    temperature: float = 200.0
    redraw_classifier: bool = True
    ranking: Ranking = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("per_class", "draws", "chunks"):
            check_count(name.replace("_", "-"), getattr(self, name))
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature {self.temperature}: expected a positive number")

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Score the weights on class-balanced training images."""
        draws = [source.draw_balanced(self.per_class, generator) for _ in range(self.draws)]
        with scored_copy(model, generator, training=True) as copied:
            if self.redraw_classifier:
                _redraw_linear(copied, generator)
            losses = [loss for images, labels in draws for loss in self._losses(copied, images, labels)]
            scores = grasp_scores(prunable(copied), losses)
        # The largest scores go, and keep_top keeps the largest.
        flipped = {name: -scores[name] for name in self.maskable(model)}
        mask = keep_top(flipped, self.sparsity, self.ranking, self.keep_dense)
        if self.ranking == "global":
            check_decided(flipped, mask)
        return mask

    def _losses(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Loss]:
        size = -(-len(labels) // self.chunks)
        return batch_losses(model, images, labels, size, self.temperature)


def grasp_scores(weights: Mapping[str, Tensor], losses: Sequence[Loss]) -> dict[str, Tensor]:
    """``-w · Hg`` with gradient g and Hessian H of the summed loss.

    To first order, removing a weight changes ‖g‖² by twice its score: a negative one means a weaker gradient.
    Every loss is computed twice, so only one batch's graph is in memory.
    """
    gradients = summed_gradients(weights, losses)
    parameters = list(weights.values())
    flow = [_flow(parameters, list(gradients.values()), loss) for loss in losses]
    products = summed_gradients(weights, flow)
    return {name: -weight.detach() * products[name] for name, weight in weights.items()}


def _flow(parameters: Sequence[Tensor], direction: Sequence[Tensor], loss: Loss) -> Loss:
    """The inner product of the loss's gradient and a fixed direction; its gradient is H · direction."""

    def inner() -> Tensor:
        gradients = torch.autograd.grad(loss(), parameters, create_graph=True, materialize_grads=True)
        products = [(one * other).sum() for one, other in zip(gradients, direction, strict=True)]
        return torch.stack(products).sum()

    return inner


@torch.no_grad()
def _redraw_linear(model: nn.Module, generator: torch.Generator) -> None:
    """Draw on the CPU, so that a seed gives the same weights on every device."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            fresh = torch.empty(module.weight.shape)
            module.weight.copy_(nn.init.xavier_normal_(fresh, generator=generator))
