"""Global random generators, told to give extreme numbers: does what a loss draws make a difference at all?

A layer that is skipped in one of thirty calls (stochastic depth that stays on) gives the same value in the
few calls that anybody makes to compare. Numbers next to 0, and numbers next to 1, show on which side of its
threshold it would act. All three generators are Mersenne twisters (Matsumoto and Nishimura, 1998) whose next
outputs stand in their state, up to a bijection.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_WORDS, _EXTREME = 624, 64  # in a state; outputs that are extreme, before ordinary ones end any rejection
_TORCH_LEFT, _TORCH_NEXT, _TORCH_STATE = 8, 16, 24  # bytes in torch's


@contextmanager
def extreme_draws(high: bool) -> Iterator[None]:
    """Python's, NumPy's and torch's next numbers are next to 1, or to 0; the states return afterwards.

    >>> with extreme_draws(True):
    ...     round(random.random(), 6), round(float(np.random.rand()), 6), round(float(torch.rand(1)), 6)
    (1.0, 1.0, 1.0)
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        words = _words(high)
        random.setstate((3, (*map(int, words), 0), None))
        np.random.set_state(("MT19937", words, 0, 0, 0.0))
        torch.set_rng_state(_torch_state(before[2], words))
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _words(high: bool) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    words = np.random.default_rng(0).integers(1, 2**32, _WORDS, dtype=np.uint64).astype(np.uint32)
    words[:_EXTREME] = _before_tempering(0xFFFFFFFF if high else 0)
    return words


def _torch_state(like: torch.Tensor, words: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> torch.Tensor:
    state = like.numpy().copy()
    state[_TORCH_LEFT : _TORCH_LEFT + 4] = np.array([_WORDS], np.int32).view(np.uint8)
    state[_TORCH_NEXT : _TORCH_NEXT + 8] = np.array([0], np.uint64).view(np.uint8)
    state[_TORCH_STATE : _TORCH_STATE + 8 * _WORDS] = words.astype(np.uint64).view(np.uint8)
    return torch.from_numpy(state)


def _before_tempering(output: int) -> int:
    """The word of the state that gives an output."""
    word = output ^ (output >> 18)
    word ^= (word << 15) & 0xEFC60000
    found = word
    for _ in range(4):  # seven bits at a time
        found = word ^ ((found << 7) & 0x9D2C5680)
    word = found & 0xFFFFFFFF
    found = word
    for _ in range(2):  # eleven
        found = word ^ (found >> 11)
    return found & 0xFFFFFFFF
