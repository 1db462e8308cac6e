"""The one exception that a user can cause: its text is a complete answer in one line."""

from __future__ import annotations

import sys
from typing import NoReturn

from landscape.escaping import plain


class UserError(Exception):
    """Something outside the program is not as it must be.

    The text says what came, what was expected and what to do, in one line. Commands print it as
    ``error: …`` and exit with code 2; library callers catch it like any exception.
    """

    def __init__(self, message: str) -> None:
        super().__init__(plain(" ".join(message.split())))


def exit_with(error: UserError | str) -> NoReturn:
    """Print one line on standard error and leave with exit code 2, as for any bad input."""
    print(f"error: {plain(' '.join(str(error).split()))}", file=sys.stderr)
    raise SystemExit(2)
