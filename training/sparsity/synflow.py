"""SynFlow: keep the weights that carry most of the flow from input to output, before training, without data.

Tanaka, Kunin, Yamins and Ganguli, "Pruning neural networks without any data by iteratively conserving
synaptic flow" (2020), Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from training import masks
from training.masks import Mask
from training.sparsity.base import MaskedMethod, Source
from training.sparsity.prune_grow import check_count
from training.sparsity.ranking import Ranking
from training.sparsity.scoring import scored_copy, summed_gradients
from training.sparsity.shrinking import shrink


@dataclass(frozen=True)
class SynFlow(MaskedMethod):
    """Rank the first weights by synaptic flow, again after every small cut.

    The flow is that of the network in evaluation mode with the absolute values of all its tensors, for an
    image of ones, in double precision: products over all layers leave the range of single precision.
    Activations with an upper bound (ReLU6, hard tanh) count as ReLU here, which is ours: the flow is beyond
    the bound, where no weight matters. A layer that no flow depends on otherwise (behind a saturated sigmoid
    of a gate) is refused.

    Attributes
    ----------
    rounds
        Cuts; after the k-th of n, the density is the final one to the power of k / n.
    ranking
        One threshold over all layers (global), or a distribution that says how much each layer keeps.
    """

    rounds: int = 100
    ranking: Ranking = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("rounds", self.rounds)

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Cut in rounds; of the training images only their shape is used."""
        shape = source.draw(1, generator)[0].shape
        with scored_copy(model, generator, training=False) as copied:
            _absolute(copied)
            _unbounded(copied)
            weights = self.maskable(copied)
            device = next(iter(weights.values())).device
            ones = torch.ones(shape, dtype=torch.float64, device=device)
            mask = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
            for number, sparsity in enumerate(self.sparsities()):
                scores = synflow_scores(weights, lambda: copied(ones))
                if number == 0:
                    _check_flow(scores)
                mask = shrink(mask, scores, sparsity, self.ranking, self.keep_dense)
                masks.apply_to_weights(copied, mask)
        return mask

    def sparsities(self) -> Iterable[float]:
        """Sparsity after each round; exactly the final one after the last."""
        for number in range(1, self.rounds):
            yield 1 - (1 - self.sparsity) ** (number / self.rounds)
        yield self.sparsity


def synflow_scores(weights: Mapping[str, Tensor], output: Callable[[], Tensor]) -> dict[str, Tensor]:
    """``|w · ∂R/∂w|``, where R is the sum of the network's output, a function of its absolute weights.

    Without biases and with ReLU each layer's scores sum to R.
    """
    gradients = summed_gradients(weights, [lambda: output().sum()])
    return {name: (weight.detach() * gradients[name]).abs() for name, weight in weights.items()}


def _check_flow(scores: Mapping[str, Tensor]) -> None:
    """Raise UserError where the first scores say nothing: then the order of the layers would choose."""
    bad = [name for name, one in scores.items() if not bool(one.any()) or bool(one.isinf().any())]
    if bad:
        raise UserError(
            f"synflow: the scores of {len(bad)} of {len(scores)} layers are all 0, or infinite ({bad[0]}): "
            "this network's flow can't rank them; choose another method"
        )


def _unbounded(model: nn.Module) -> None:
    """Put ReLU where an activation has an upper bound; the flow is never negative."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Hardtanh):  # ReLU6 is one
                setattr(module, name, nn.ReLU())


@torch.no_grad()
def _absolute(model: nn.Module) -> None:
    for value in model.state_dict().values():
        value.abs_()
