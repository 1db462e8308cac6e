"""The space in which a Hessian acts: the kept weights of a network as one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.kept_weights import checked_mask
from landscape.parameters import TRAINABLE, ParamsChoice, moving_names


class WeightSpace:
    """Kept coordinates of a module's parameters, in the order of ``named_parameters``.

    Parameters
    ----------
    module
        Some of its parameters span the space.
    params
        Which; see `landscape.parameters.ParamsChoice`.
    mask
        Bool tensors by parameter name, True = kept; parameters that it doesn't name are wholly kept. None
        keeps everything.

    Attributes
    ----------
    names, shapes
        Of the parameters.
    size
        Number of kept coordinates, n.
    full_size
        Number of all coordinates, N.

    Raises
    ------
    UserError
        When there is no such parameter, the mask doesn't fit them, or it keeps nothing.
    """

    def __init__(
        self,
        module: nn.Module,
        mask: Mapping[str, Tensor] | None = None,
        params: ParamsChoice = TRAINABLE,
    ) -> None:
        every = dict(module.named_parameters())
        moving = {name: every[name] for name in moving_names(module, params)}
        self.names = list(moving)
        self.shapes = [one.shape for one in moving.values()]
        self._lengths = [one.numel() for one in moving.values()]
        self.full_size = sum(self._lengths)
        self._kept = _kept(moving, every, {} if mask is None else mask)
        self._padding = _padding(module)
        self.size = self.full_size if self._kept is None else len(self._kept)
        if not self.size:
            raise UserError("the mask keeps no weight at all; there is no Hessian")

    def without_padding(self, vector: Tensor) -> Tensor:
        """`vector` ``[n]``, zero in padding rows of embeddings: torch takes no derivative there."""
        parts = [one.clone() for one in self.expand(vector)]
        for name, one in zip(self.names, parts, strict=True):
            if name in self._padding:
                one[self._padding[name]] = 0
        return self.restrict(parts)

    def to(self, device: torch.device) -> WeightSpace:
        """Move the bookkeeping to a device, in place."""
        if self._kept is not None:
            self._kept = self._kept.to(device)
        return self

    def expand(self, vector: Tensor) -> list[Tensor]:
        """From ``[n]`` one tensor per parameter, in its shape, exactly zero where pruned."""
        if self._kept is not None:
            full = vector.new_zeros(self.full_size)
            full[self._kept] = vector
            vector = full
        return [
            one.view(shape)
            for one, shape in zip(torch.split(vector, self._lengths), self.shapes, strict=True)
        ]

    def restrict(self, tensors: Sequence[Tensor]) -> Tensor:
        """From one tensor per parameter the kept coordinates, ``[n]``; the transpose of `expand`."""
        full = torch.cat([one.reshape(-1) for one in tensors])
        return full if self._kept is None else full[self._kept]

    def flatten(self, direction: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """The kept coordinates of tensors by parameter name; what isn't named is zero.

        Raises
        ------
        UserError
            When a name or a shape is none of the space's.
        """
        shapes = dict(zip(self.names, self.shapes, strict=True))
        for name, value in direction.items():
            if name not in shapes:
                raise UserError(
                    f"the direction names {name!r}, which is no parameter of the Hessian's space (see params)"
                )
            if value.shape != shapes[name]:
                raise UserError(
                    f"the direction has shape {list(value.shape)} for {name!r}; expected {list(shapes[name])}"
                )
        return self.restrict(
            [direction.get(name, torch.zeros(shape)).to(like) for name, shape in shapes.items()]
        )


def _padding(module: nn.Module) -> dict[str, int]:
    """Rows of look-up tables that stand for padding, by parameter name."""
    names = {id(one): name for name, one in module.named_parameters()}
    return {
        names[id(table.weight)]: table.padding_idx
        for table in module.modules()
        if isinstance(table, nn.Embedding | nn.EmbeddingBag)
        and table.padding_idx is not None
        and id(table.weight) in names
    }


def _kept(
    params: Mapping[str, Tensor], every: Mapping[str, Tensor], mask: Mapping[str, Tensor]
) -> Tensor | None:
    """Indices of the kept coordinates, int64 ``[n]``; None where all are."""
    if not isinstance(mask, Mapping):
        raise UserError(f"the mask is {mask!r}; expected bool tensors by name, or None for the full space")
    mask = checked_mask(mask, every)
    whole = [mask[name].reshape(-1) if name in mask else None for name in params]
    if all(one is None or bool(one.all()) for one in whole):
        return None
    pairs = zip(whole, params.values(), strict=True)
    flat = [torch.ones(value.numel(), dtype=torch.bool) if one is None else one for one, value in pairs]
    return torch.cat(flat).nonzero()[:, 0]
