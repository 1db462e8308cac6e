"""Random generators, told which numbers to give: does what a loss draws make a difference at all?

A layer that is skipped in one of thirty calls (stochastic depth that stays on) gives the same value in the
few calls that anybody makes to compare. Numbers next to 0, and numbers next to 1, show on which side of its
threshold it would act; numbers spread over all that can be drawn show branches in the middle, and choices
among a few. Python's, NumPy's legacy and torch's generators are Mersenne twisters (Matsumoto and Nishimura,
1998) whose next outputs stand in their state, up to a bijection; of ``numpy.random.default_rng`` (PCG64,
O'Neill 2014) the next one can be chosen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Words = npt.NDArray[np.uint32]

GENERATORS = (random.Random, np.random.RandomState, np.random.Generator, torch.Generator)
SPREAD = 64  # calls that numbers in between are tried in
_WORDS, _EXTREME = 624, 64  # in a state; outputs that are extreme, before ordinary ones end any rejection
_ORDINARY = 0.25  # share of ordinary outputs among those spread, for the same reason
_NEXT_TO_ZERO = 32  # 2e-6 in torch's float32, 4e-9 in doubles; log and 1/x of a 0 would be no fair test
_TORCH_LEFT, _TORCH_NEXT, _TORCH_STATE = 8, 16, 24  # bytes in torch's
_PCG_FACTOR, _PCG_SIZE = 0x2360ED051FC65DA44385DF649FCCF645, 1 << 128


@contextmanager
def steered(own: Sequence[Any] = ()) -> Iterator[Callable[[Words], None]]:
    """Give a function that sets the next outputs of Python's, NumPy's, torch's and the given generators.

    All states return afterwards.

    >>> with steered() as steer:
    ...     steer(extreme(high=True))
    ...     round(random.random(), 6), round(float(np.random.rand()), 6), round(float(torch.rand(1)), 6)
    (1.0, 1.0, 1.0)
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    states = [state_of(one) for one in own]

    def steer(words: Words) -> None:
        random.setstate((3, (*map(int, words), 0), None))
        np.random.set_state(("MT19937", words, 0, 0, 0.0))
        torch.set_rng_state(_torch_state(before[2], words))
        for one in own:
            _steer(one, words)

    try:
        yield steer
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        for one, state in zip(own, states, strict=True):
            _restore(one, state)


def extreme(high: bool) -> Words:
    """A state whose first outputs are next to the largest, or to 0."""
    words = _ordinary(0)
    words[:_EXTREME] = _before_tempering(np.full(_EXTREME, 0xFFFFFFFF if high else _NEXT_TO_ZERO))
    return words


def spread() -> Iterator[Words]:
    """States whose outputs are mostly near one share of the largest, each near another one."""
    for number in range(SPREAD):
        draw = np.random.default_rng(number)
        shares = (number + draw.random((2, _WORDS))) / SPREAD
        # Python and NumPy make their numbers from the highest bits, torch its float32 from the lowest 24.
        outputs = (shares[0] * 256).astype(np.int64) << 24 | (shares[1] * 2**24).astype(np.int64)
        words = _ordinary(number)
        chosen = draw.random(_WORDS) >= _ORDINARY
        words[chosen] = _before_tempering(outputs[chosen])
        yield words


def state_of(generator: Any) -> Any:
    """What a generator is at, comparable."""
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):  # as bytes, which compare as a whole
        kind, keys, *places = generator.get_state(legacy=True)
        return kind, np.asarray(keys).tobytes(), *places
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state().numpy().tobytes()


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.RandomState):
        kind, keys, *places = state
        generator.set_state((kind, np.frombuffer(keys, np.uint32), *places))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _steer(generator: Any, words: Words) -> None:
    """As far as the next outputs can be chosen; the others go on."""
    if type(generator) is random.Random:
        generator.setstate((3, (*map(int, words), 0), None))
    elif isinstance(generator, np.random.RandomState) and _is_twister(generator):
        generator.set_state(("MT19937", words, 0, 0, 0.0))
    elif isinstance(generator, torch.Generator) and generator.device.type == "cpu":
        generator.set_state(_torch_state(generator.get_state(), words))
    elif isinstance(generator, np.random.Generator):
        state: dict[str, Any] = dict(generator.bit_generator.state)
        if state["bit_generator"] != "PCG64":
            return
        # The high half of the new state 0, its output is the low half.
        output = int(_tempered(words[:1])[0])
        new = output << 32 | output
        increment = state["state"]["inc"]
        old = (new - increment) * pow(_PCG_FACTOR, -1, _PCG_SIZE) % _PCG_SIZE
        state |= {"state": {"state": old, "inc": increment}, "has_uint32": 0, "uinteger": 0}
        generator.bit_generator.state = state


def _is_twister(generator: np.random.RandomState) -> bool:
    kind: Any = generator.get_state(legacy=True)
    return bool(kind[0] == "MT19937")


def _ordinary(seed: int) -> Words:
    return np.random.default_rng(seed).integers(1, 2**32, _WORDS, dtype=np.uint64).astype(np.uint32)


def _torch_state(like: torch.Tensor, words: Words) -> torch.Tensor:
    state = like.numpy().copy()
    state[_TORCH_LEFT : _TORCH_LEFT + 4] = np.array([_WORDS], np.int32).view(np.uint8)
    state[_TORCH_NEXT : _TORCH_NEXT + 8] = np.array([0], np.uint64).view(np.uint8)
    state[_TORCH_STATE : _TORCH_STATE + 8 * _WORDS] = words.astype(np.uint64).view(np.uint8)
    return torch.from_numpy(state)


def _tempered(words: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """What a Mersenne twister gives for words of its state."""
    word = words.astype(np.int64)
    word ^= word >> 11
    word ^= (word << 7) & 0x9D2C5680
    word ^= (word << 15) & 0xEFC60000
    return np.asarray(word ^ (word >> 18), np.int64)


def _before_tempering(outputs: npt.NDArray[Any]) -> Words:
    """The words of the state that give outputs."""
    word = outputs.astype(np.int64)
    word ^= word >> 18
    word ^= (word << 15) & 0xEFC60000
    found = word
    for _ in range(4):  # seven bits at a time
        found = word ^ ((found << 7) & 0x9D2C5680)
    word = found & 0xFFFFFFFF
    found = word
    for _ in range(2):  # eleven
        found = word ^ (found >> 11)
    return (found & 0xFFFFFFFF).astype(np.uint32)
