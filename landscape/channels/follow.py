"""Follows labels of channels through a network: `torch.fx` traces it, every operation passes labels on.

Nothing is computed: the network is copied to the device meta, where tensors have shapes only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from landscape.channels.labels import Atoms, Labels
from landscape.engine.tracing import trace
from landscape.errors import UserError

Role = Literal["filter", "input", "depthwise", "scale", "bias", "statistic"]


@dataclass(frozen=True)
class Touch:
    """A dimension of a tensor of the network whose positions are channels."""

    name: str
    dim: int
    role: Role
    labels: Labels


@dataclass
class Followed:
    """What is known of a network's channels, and what an operation's rule may look at.

    Attributes
    ----------
    outside
        Names of tensors that are used elsewhere than in their own layer.
    """

    atoms: Atoms = field(default_factory=Atoms)
    touches: list[Touch] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)
    made: dict[str, tuple[Labels, Labels]] = field(default_factory=dict)

    def touch(self, layer: str, module: nn.Module, labels: Labels, **roles: tuple[Role, int]) -> None:
        """Note that dimensions of a layer's tensors have these channels; tensors that it lacks don't."""
        for key, (role, dim) in roles.items():
            if isinstance(getattr(module, key, None), Tensor):
                self.touches.append(Touch(f"{layer}.{key}" if layer else key, dim, role, labels))


class Follower(fx.Interpreter):
    """Runs a traced network on shapes; `labels` has those of every node's channels (dimension 1)."""

    def __init__(self, module: fx.GraphModule, tensors: frozenset[str]) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.found, self.labels, self.tensors = Followed(), dict[fx.Node, Labels](), tensors

    def run_node(self, node: fx.Node) -> Any:
        """Compute the node's shape, then its labels."""
        from landscape.channels.rules import labels_after

        result = super().run_node(node)
        if node.op == "output":
            for one in node.all_input_nodes:
                self.hold(one, "they are the network's output")
        elif node.op == "get_attr" and str(node.target) in self.tensors:
            self.found.outside.add(str(node.target))
        elif node.op == "placeholder":
            self._made_held(node, result, "they are the network's input")
        elif node.op != "get_attr":
            after = labels_after(self, node, result)
            if after is not None:
                self.labels[node] = after
        return result

    def of(self, node: object) -> Labels | None:
        """The labels of a node's channels; None for anything but a tensor with at least two dimensions."""
        if not isinstance(node, fx.Node) or not isinstance(self.env.get(node), Tensor):
            return None
        value = self.env[node]
        if value.dim() < 2:
            return None
        if node not in self.labels:  # of an operation without a rule
            self._made_held(node, value, f"they come out of {describe(node, self.module)}")
        return self.labels[node]

    def hold(self, node: object, reason: str) -> None:
        """Say why the channels of a node must stay."""
        labels = self.of(node)
        if labels is not None:
            self.found.atoms.hold(labels, reason)

    def _made_held(self, node: fx.Node, value: Any, reason: str) -> None:
        if isinstance(value, Tensor) and value.dim() >= 2:
            self.labels[node] = self.found.atoms.new(value.shape[1], reason)


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
            follower.run(torch.empty_like(image, device="meta").float())
    except Exception as error:  # whatever a network's own code raises when it is traced
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the channels of this {type(model).__name__} can't be followed: {reason}; choose a network that "
            "torch.fx can trace"
        ) from error
    follower.found.outside.update(_tied(model))
    return follower.found


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


def describe(node: fx.Node, module: nn.Module) -> str:
    """An operation as a person knows it: ``Softmax head.softmax``, ``permute``."""
    if node.op == "call_module":
        return f"{type(module.get_submodule(str(node.target))).__name__} {node.target}"
    return str(getattr(node.target, "__name__", node.target))
