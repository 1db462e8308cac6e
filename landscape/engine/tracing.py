"""Symbolic traces that other threads neither disturb nor notice.

While `torch.fx` traces, every call of every module in the process goes through the tracer. Calls of other
threads are passed on here, and two traces wait for each other: each puts back what it found, so they must not
overlap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import fx, nn

_ONE_AT_A_TIME = threading.Lock()


def trace(network: nn.Module) -> fx.GraphModule:
    """As `torch.fx.symbolic_trace`."""
    with _ONE_AT_A_TIME:
        tracer = _OwnThread()
        graph = tracer.trace(network)
        return fx.GraphModule(tracer.root, graph, type(network).__name__)


class _OwnThread(fx.Tracer):
    """Traces what its own thread does."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

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
