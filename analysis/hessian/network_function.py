"""The network as a function of few, large tensors, and how these follow from its parameters.

In evaluation mode a batch norm after a convolution is part of it: ``norm(conv(x))`` is one convolution whose
weight and bias φ are functions of the parameters θ of both (`landscape.engine.fold`). The Hessian by φ takes
far fewer passes over the activations, and the chain rule leads back to θ exactly:

    H_θ v = Jᵀ (H_φ J v) + Σ_i (∂L/∂φ_i) (∂²φ_i/∂θ²) v,     J = ∂φ/∂θ.

Neither J nor the second derivatives are formed: ``J v`` and the second term are the derivatives of
``⟨J(θ)ᵀ g, v⟩`` by g and by θ, and cost passes over the weights only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from analysis.hessian.space import WeightSpace
from analysis.hessian.twice import FastTwice
from landscape.engine.fold import CannotFold, FoldedConv, FoldedNet, fold
from landscape.engine.network import tolerance_of
from landscape.engine.probe import Probe
from landscape.engine.totals import batch_values
from landscape.losses import Loss


class Reparametrized:
    """A network that reads its weights from leaves φ, which are functions of the parameters θ.

    Attributes
    ----------
    call
        ``x -> output``, pure: several threads may call it.
    leaves
        φ, each requiring a gradient.
    reason
        Why nothing is folded (φ = θ), or None.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        leaves: Sequence[Tensor],
        chain: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
        reason: str | None = None,
    ) -> None:
        self.call, self.leaves, self.reason = call, leaves, reason
        self._chain = chain  # θ, and φ with the history of its computation from θ

    @property
    def pure(self) -> bool:
        """Whether `call` is known to touch nothing but its input."""
        return self._chain is not None

    def at(self, gradient: Sequence[Tensor]) -> ChainRule:
        """The way between φ and θ where the loss has this gradient by the leaves."""
        return ChainRule(gradient) if self._chain is None else Folded(gradient, *self._chain)


class ChainRule:
    """From vectors by θ to vectors by φ and back; here φ = θ."""

    def __init__(self, gradient: Sequence[Tensor]) -> None:
        self.gradient = list(gradient)

    def down(self, direction: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """``J v`` by φ, and ``Σ_i (∂L/∂φ_i) (∂²φ_i/∂θ²) v`` by θ, which may be empty for zero."""
        return direction, []

    def up(self, vector: list[Tensor]) -> list[Tensor]:
        """``Jᵀ u`` by θ."""
        return vector


class Folded(ChainRule):
    """The same where φ are the tensors of folded convolutions."""

    def __init__(self, gradient: Sequence[Tensor], theta: Sequence[Tensor], phi: Sequence[Tensor]) -> None:
        super().__init__(gradient)
        self._theta, self._phi = list(theta), list(phi)
        self._weights = [one.detach().clone().requires_grad_(True) for one in gradient]
        with torch.enable_grad():
            self._pulled = self._differentiate(self._phi, self._theta, self._weights, create_graph=True)

    def down(self, direction: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Both are derivatives of ``⟨Jᵀ g, v⟩``, by g and by θ."""
        found = self._differentiate(self._pulled, [*self._weights, *self._theta], direction)
        return found[: len(self._weights)], found[len(self._weights) :]

    def up(self, vector: list[Tensor]) -> list[Tensor]:
        """A backward pass from φ to θ."""
        return self._differentiate(self._phi, self._theta, vector)

    @staticmethod
    def _differentiate(
        outputs: Sequence[Tensor],
        inputs: Sequence[Tensor],
        vectors: Sequence[Tensor],
        create_graph: bool = False,
    ) -> list[Tensor]:
        found = torch.autograd.grad(
            outputs, inputs, vectors, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
        return list(found)


def reparametrize(
    module: nn.Module, space: WeightSpace, loss: Loss, batch: Any, seen: Probe, dtype: torch.dtype
) -> Reparametrized:
    """Fold what can be folded, if the loss on `batch` agrees with the plain network's.

    Parameters
    ----------
    module
        The operator's own copy, in evaluation mode; its parameters become leaves.
    space
        Which of them span the space.
    loss, batch, seen
        A few examples, and how the loss uses the network on them.
    dtype
        Of the parameters.
    """
    params = dict(module.named_parameters())
    for one in params.values():
        one.requires_grad_(False)
    theta = [params[name] for name in space.names]
    reason = seen.obstacle
    if reason is None:
        try:
            folded = _folded(module, params, space)
            difference = _difference(folded.call, seen, loss, batch)
            if difference <= tolerance_of(dtype, theta[0].device):
                return folded
            reason = f"the folded network differs by {difference:.1e}"
        except CannotFold as error:
            reason = str(error)
        except Exception as error:
            reason = f"the folded network fails: {str(error).strip().splitlines()[:1]}"
    for one in theta:
        one.requires_grad_(True)
    return Reparametrized(module, theta, reason=reason)


def _difference(call: Callable[..., Any], seen: Probe, loss: Loss, batch: Any) -> float:
    with seen.mode(), FastTwice():
        found = batch_values(loss(call, batch)).values["loss"].double()
    expected = seen.values.values["loss"].double()
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-300))


def _folded(module: nn.Module, params: Mapping[str, Tensor], space: WeightSpace) -> Reparametrized:
    net = fold(module, module)
    net.module.delete_all_unused_submodules()
    names = {id(one): name for name, one in params.items()}
    left = {id(one) for one in net.module.parameters()}
    direct = [name for name in space.names if id(params[name]) in left]
    theta = {name: params[name].detach().clone().requires_grad_(True) for name in space.names}
    values = {name: one.detach() for name, one in params.items()} | theta
    with torch.enable_grad():
        # Kept as they are, too: views, so that a leaf is never its own function.
        phi = [theta[name].view_as(theta[name]) for name in direct]
        for conv in net.convolutions:
            weight, bias = _fold(conv, values, names)
            phi += [weight] if bias is None else [weight, bias]
    leaves = [params[name].requires_grad_(True) for name in direct] + _install(net, phi[len(direct) :])
    return Reparametrized(net.module.forward, leaves, (list(theta.values()), phi))


def _fold(
    folded: FoldedConv, values: Mapping[str, Tensor], names: Mapping[int, str]
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a convolution together with its batch norm, as functions of `values`."""

    def value(parameter: Tensor | None) -> Tensor | None:
        return None if parameter is None else values[names[id(parameter)]]

    weight, bias = value(folded.conv.weight), value(folded.conv.bias)
    assert weight is not None
    norm = folded.norm
    if norm is None:
        return weight, bias
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gamma, beta = value(norm.weight), value(norm.bias)
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if gamma is None else scale * gamma
    shift = (-norm.running_mean if bias is None else bias - norm.running_mean) * scale
    shift = shift if beta is None else shift + beta
    return weight * scale.view(-1, *[1] * (weight.dim() - 1)), shift


def _install(net: FoldedNet, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Put leaves in the place of the traced network's folded tensors."""
    names = [name for conv in net.convolutions for name in (conv.weight, conv.bias) if name is not None]
    leaves = []
    for name, value in zip(names, tensors, strict=True):
        layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
        delattr(net.module, name)
        leaf = value.detach().clone(memory_format=layout).requires_grad_(True)
        setattr(net.module, name, leaf)
        leaves.append(leaf)
    return leaves
