"""Foreign text made harmless for where it goes: the terminal, a spreadsheet, Markdown, LaTeX.

Names of data sets, labels, paths and messages come from files and from users. On a terminal an escape
sequence moves the cursor or sets the title; a bidirectional control makes text read as another; in a
spreadsheet ``=…`` is a formula; in Markdown and LaTeX a bar or a backslash is markup.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable
from typing import TextIO

# Other, not assigned to anything visible: controls, formats, surrogates; and line and paragraph separators.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # between letters of Persian or Hindi, and within emoji
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "−")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)
# An underscore between letters or digits is none to Markdown: names of runs stay as they are.
_MARKDOWN = re.compile(r"([\\`*\[\]<>|#~&$!]|(?<![^\W_])_|_(?![^\W_]))")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "≥": r"$\geq$",
    "λ": r"$\lambda$",
    "∞": r"$\infty$",
    "—": "---",
    "−": "$-$",
    **{one: f"\\{one}" for one in "&%$#_{}"},
}


def plain(text: str) -> str:
    r"""Visible text in one line: what can't be seen stands as ``\x1b`` or ``\u202e``.

    >>> print(plain("a\x1b[2Jb\nc\u202e"))
    a\x1b[2Jb\nc\u202e
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(one) for one in text)


class SafeWriter:
    """Writes CSV with every cell passed through `spreadsheet`; lines end as on Unix."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")

    def writerow(self, cells: Iterable[object]) -> None:
        """One line."""
        self._writer.writerow([spreadsheet(one) for one in cells])


def spreadsheet(value: object) -> object:
    """A CSV cell that no spreadsheet takes for a formula; numbers stay numbers.

    >>> spreadsheet("=HYPERLINK(1)"), spreadsheet("-0.5"), spreadsheet(-0.5)
    ("'=HYPERLINK(1)", '-0.5', -0.5)
    """
    if not isinstance(value, str):
        return value
    text = plain(value)
    formula = text.lstrip().startswith(_FORMULA) or value[:1] in ("\t", "\r", "\n")
    return f"'{text}" if formula and not _NUMBER.fullmatch(text) else text


def markdown(text: str) -> str:
    r"""Plain text for Markdown, in a table too.

    >>> print(markdown("a|b <i> mest_em _em_"))
    a\|b \<i\> mest_em \_em\_
    """
    return _MARKDOWN.sub(r"\\\1", plain(" ".join(text.split())))


def latex(text: str) -> str:
    r"""Plain text for LaTeX, also at a row's start: ``\\`` and rules take ``[…]`` and a star for theirs.

    >>> print(latex("50 % of a_b"), latex("[9cm]net"))
    50 \% of a\_b {}[9cm]net
    """
    shown = plain(" ".join(text.split()))
    return ("{}" if shown[:1] in ("[", "*") else "") + "".join(_LATEX.get(one, one) for one in shown)


def _shown(letter: str) -> str:
    if letter in _JOINERS or unicodedata.category(letter) not in _UNSEEN:
        return letter
    if "\udc80" <= letter <= "\udcff":  # a byte of a file name that is no UTF-8
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")
