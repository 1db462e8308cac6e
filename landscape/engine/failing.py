"""What a user's loss or network raises, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from landscape.errors import UserError
from landscape.factories import place_of

_REENTRANT = "use_reentrant=True"
_HINT = (
    "torch.utils.checkpoint is called with use_reentrant=True, for which torch has no torch.autograd.grad; "
    "call it with use_reentrant=False"
)


class FailsError(UserError):
    """A user's loss or network raised something."""


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Around calls of a user's code: any failure of its own is a FailsError of `what` and the cause.

    Memory that runs out is none: whoever chose the batch may choose a smaller one.

    >>> with in_one_line("the loss fails at the point (0, 1)"):
    ...     torch.ones(2) @ torch.ones(3)
    Traceback (most recent call last):
    landscape.engine.failing.FailsError: the loss fails at the point (0, 1): RuntimeError: ...
    """
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = _HINT if _REENTRANT in str(error) else place_of(error)
        raise FailsError(f"{what}: {reason}") from error
