"""Where following channels through a network stands: the labels so far, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, fx, nn

from landscape.channels.labels import Atoms, Labels

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
    """What is known of a network's channels.

    Attributes
    ----------
    touches
        Dimensions of tensors that have channels, by name and dimension, in the network's order.
    outside
        Names of tensors that are used elsewhere than in their own layer.
    """

    atoms: Atoms = field(default_factory=Atoms)
    touches: dict[tuple[str, int], Touch] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)

    def touch(self, layer: str, module: nn.Module, labels: Labels, **roles: tuple[Role, int]) -> None:
        """Note that dimensions of a layer's tensors have these channels; tensors that it lacks don't.

        A layer that is called again has a place for every channel still: those that meet it belong together.
        """
        for key, (role, dim) in roles.items():
            if isinstance(getattr(module, key, None), Tensor):
                name = f"{layer}.{key}" if layer else key
                first = self.touches.setdefault((name, dim), Touch(name, dim, role, labels))
                self.atoms.join(first.labels, labels)


@dataclass
class Walk:
    """What an operation's rule may look at.

    Attributes
    ----------
    module
        The traced network, on the device meta.
    env
        Values of its nodes so far: tensors without numbers.
    labels
        Of the nodes' channels (dimension 1), where they are known.
    """

    module: nn.Module
    env: dict[fx.Node, Any]
    found: Followed = field(default_factory=Followed)
    labels: dict[fx.Node, Labels] = field(default_factory=dict)

    def tensors(self, node: fx.Node) -> list[fx.Node]:
        """The nodes that give an operation tensors, each once."""
        return [one for one in node.all_input_nodes if isinstance(self.env.get(one), Tensor)]

    def of(self, node: object) -> Labels | None:
        """The labels of a node's channels; None for anything but a tensor with at least two dimensions."""
        if not isinstance(node, fx.Node) or not isinstance(self.env.get(node), Tensor):
            return None
        value = self.env[node]
        if value.dim() < 2:
            return None
        if node not in self.labels:  # of an operation without a rule
            self.fresh(node, value, f"they come out of {describe(node, self.module)}")
        return self.labels[node]

    def hold(self, node: object, reason: str) -> None:
        """Say why the channels of a node must stay."""
        labels = self.of(node)
        if labels is not None:
            self.found.atoms.hold(labels, reason)

    def fresh(self, node: fx.Node, value: Any, reason: str) -> None:
        """Give a node's channels labels of their own that must stay."""
        if isinstance(value, Tensor) and value.dim() >= 2:
            self.labels[node] = self.found.atoms.new(value.shape[1], reason)


def describe(node: fx.Node, module: nn.Module) -> str:
    """An operation as a person knows it: ``Softmax head.softmax``, ``permute``."""
    if node.op == "call_module":
        return f"{type(module.get_submodule(str(node.target))).__name__} {node.target}"
    return str(getattr(node.target, "__name__", node.target))
