"""Labels of channels: two channels with one label can only be removed together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
"""One label per position along a tensor's channel dimension; they follow channels through the network."""


class Atoms:
    """Sets of labels (union-find), some of them held: their channels must stay, for a reason."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, count: int, held: str = "") -> Labels:
        """Fresh labels, each a set of its own."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        made = np.arange(first, first + count)
        self.hold(made, held)
        return made

    def join(self, one: Labels, other: Labels) -> None:
        """Make the labels at the same position one set."""
        for left, right in zip(one.tolist(), other.tolist(), strict=True):
            low, high = sorted((self._root(left), self._root(right)))
            self._parents[high] = low

    def hold(self, labels: Labels, reason: str) -> None:
        """Say why these may not be removed; the first reason counts. Without a reason nothing happens."""
        for label in labels.tolist() if reason else ():
            self._reasons.setdefault(label, reason)

    def roots(self, labels: Labels) -> Labels:
        """The smallest label of each one's set."""
        return np.array([self._root(label) for label in labels.tolist()], dtype=np.int64)

    def reasons(self) -> dict[int, str]:
        """Why sets are held, by their smallest label."""
        found: dict[int, str] = {}
        for label, reason in self._reasons.items():
            found.setdefault(self._root(label), reason)
        return found

    def _root(self, label: int) -> int:
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label
