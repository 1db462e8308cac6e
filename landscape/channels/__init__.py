"""Channels of convolutional networks: which tensors share them, and the same network with fewer of them.

`groups` says what belongs together, by way of `labels`, `walk`, `rules` and `follow`; `shrink` removes
channels that nothing reads; `sizes` makes an architecture fit tensors of such a network.
"""

from __future__ import annotations

from landscape.channels.groups import Group, Place, channel_groups
from landscape.channels.shrink import Shrunk, shrink

__all__ = ["Group", "Place", "Shrunk", "channel_groups", "shrink"]
