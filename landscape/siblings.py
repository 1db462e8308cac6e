"""The other packages, where `landscape` asks for one inside a function: refused when a folder hides it."""

from __future__ import annotations

import sharpscape
from landscape.errors import UserError


def need(package: str) -> None:
    """Make sure that ``import package`` gives ours; a user's program may have one of that name.

    Raises
    ------
    UserError
        With the folder that hides it and what helps.
    """
    try:
        sharpscape.check_own(package)
    except ImportError as error:
        raise UserError(str(error)) from None
