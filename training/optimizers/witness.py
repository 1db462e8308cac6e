"""Whether gradients came from where they belong: from inside a block, or from outside of it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from training.optimizers.flat import strided


class Witness:
    """Hears of every gradient that autograd adds to `params`, by a hook that costs about a microsecond.

    Gradients that are put there by other means (``one.grad = …``, a replayed CUDA graph) it doesn't hear of,
    so it never says that something is wrong unless it heard a gradient arrive outside, and saw that nobody
    zeroed it before the block.
    """

    def __init__(self) -> None:
        self._hooked: dict[int, RemovableHandle] = {}
        self._watched = False
        weakref.finalize(self, _remove, self._hooked).atexit = False
        self.forget()

    def forget(self) -> None:
        """Begin anew: after a step, and where gradients are zeroed."""
        self.inside = 0
        self._outside: dict[int, Tensor] = {}
        self._mixed = False
        self._stale: tuple[Tensor, Tensor, int] | None = None

    def watch(self, params: Sequence[Tensor]) -> None:
        """Listen to these, too."""
        known = weakref.ref(self)
        for one in params:
            if id(one) not in self._hooked and one.is_leaf and one.requires_grad and not is_lazy(one):

                def hear(param: Tensor) -> None:
                    witness = known()
                    if witness is not None:
                        witness.hear(param)

                self._hooked[id(one)] = one.register_post_accumulate_grad_hook(hear)  # type: ignore[no-untyped-call]

    def hear(self, param: Tensor) -> None:
        """A gradient was added to this one."""
        if not self._watched:
            self._outside[id(param)] = param
            return
        self.inside += 1
        if self._stale is not None and self._stale[0] is param:
            _, gradient, version = self._stale
            # Zeroed in place, its version would have grown twice; zeroed to None, it would be another.
            self._mixed |= param.grad is gradient and gradient._version == version + 1
            self._stale = None

    @contextmanager
    def block(self) -> Iterator[None]:
        """Gradients belong here."""
        left = sorted((one for one in self._outside.values() if one.grad is not None), key=Tensor.numel)
        # Only where gradients arrived outside, as in a critic's, a device is waited for.
        first = next((one for one in left if one.grad is not None and _any(one.grad)), None)
        if first is None or first.grad is None:
            self._outside = {}
        else:
            self._stale = (first, first.grad, first.grad._version)
        self._watched = True
        try:
            yield
        finally:
            self._watched = False
        if self._stale is not None:
            param, gradient, version = self._stale
            if param.grad is not gradient or gradient._version != version:
                self._outside = {}  # zeroed, or put there by hand
        elif not self._mixed:
            self._outside = {}
        self._stale = None

    @property
    def outside(self) -> bool:
        """Whether a gradient from outside the block is still there."""
        return any(one.grad is not None for one in self._outside.values())


def _any(gradient: Tensor) -> bool:
    return bool((strided([gradient])[0] != 0).any())


def _remove(handles: dict[int, RemovableHandle]) -> None:
    for handle in handles.values():
        handle.remove()
