"""Symbolic traces that other threads neither disturb nor notice.

While `torch.fx` traces, every call of every module in the process goes through the tracer. Calls of other
threads are passed on here, and two traces wait for each other: each puts back what it found, so they must not
overlap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

_ONE_AT_A_TIME = threading.Lock()


class EntersAutocast(Exception):  # noqa: N818
    """A part of the network runs in another precision, which a trace doesn't have."""


def trace(network: nn.Module, *, to_run: bool = False) -> fx.GraphModule:
    """As `torch.fx.symbolic_trace`; EntersAutocast for a network that does, where the trace is `to_run`."""
    with _ONE_AT_A_TIME:
        tracer = _OwnThread()
        graph = tracer.trace(network)
        if to_run and tracer.enters_autocast:
            raise EntersAutocast("it enters or leaves autocast")
        return fx.GraphModule(tracer.root, graph, type(network).__name__)


def _autocast() -> list[bool]:
    return [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")]


class _OwnThread(fx.Tracer):
    """Traces what its own thread does, and notes whether it goes into autocast or out of it on the way."""

    def __init__(self) -> None:
        super().__init__()
        self._thread, self._autocast = threading.get_ident(), _autocast()
        self.enters_autocast = False

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Look where each operation stands; a trace keeps operations only."""
        self.enters_autocast |= _autocast() != self._autocast
        return super().create_node(*args, **kwargs)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Pass on other threads' calls."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Leave other threads' attributes alone."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)
