"""Follows labels of channels through a network: `torch.fx` traces it, every operation passes labels on.

Nothing is computed: the network is copied to the device meta, where tensors have shapes only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from landscape.channels.rules import labels_after
from landscape.channels.walk import Followed, Walk
from landscape.engine.tracing import trace
from landscape.errors import UserError


class Follower(fx.Interpreter):
    """Runs a traced network on shapes and labels the channels of every node.

    Parameters
    ----------
    module
        On the device meta.
    tensors
        Names of its parameters and buffers.
    """

    def __init__(self, module: fx.GraphModule, tensors: frozenset[str]) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.walk, self.tensors = Walk(module, {}), tensors

    def run_node(self, node: fx.Node) -> Any:
        """Compute the node's shape, then its labels."""
        result, walk = super().run_node(node), self.walk
        if node.op == "output":
            for one in node.all_input_nodes:
                walk.hold(one, "they are the network's output")
        elif node.op == "get_attr" and str(node.target) in self.tensors:
            walk.found.outside.add(str(node.target))
        elif node.op == "placeholder":
            walk.fresh(node, result, "they are the network's input")
        elif node.op != "get_attr":
            after = labels_after(walk, node, result)
            if after is not None:
                walk.labels[node] = after
        return result


def follow(model: nn.Module, image: Tensor) -> Followed:
    """Follow the channels of a network through its evaluation of one image (1, C, H, W).

    Raises
    ------
    UserError
        When the network can't be traced, or can't take the image.
    """
    try:
        shapes = copy.deepcopy(model).to("meta").float().eval()
        traced = trace(shapes)
        follower = Follower(traced, frozenset(name for name, _ in tensors_of(shapes)))
        with torch.no_grad():
            follower.run(torch.empty_like(image, device="meta").float(), initial_env=follower.walk.env)
    except Exception as error:  # whatever a network's own code raises when it is traced
        raise UserError(
            f"the channels of this {type(model).__name__} can't be followed: {reason(error)}; choose a "
            "network that torch.fx can trace"
        ) from error
    found = follower.walk.found
    found.outside.update(_tied(model))
    return found


def reason(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by every name that they have."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _tied(model: nn.Module) -> Iterable[str]:
    """Names of tensors that the network has under several names."""
    names: dict[int, list[str]] = {}
    for name, value in tensors_of(model):
        names.setdefault(id(value), []).append(name)
    return [name for group in names.values() if len(group) > 1 for name in group]
