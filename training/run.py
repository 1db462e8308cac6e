"""A training in progress: everything that changes during it, from its start or from ``last.pt``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.sparse.choice import Sparse
from training import masks
from training.captured import Graphs, Passes
from training.captured import obstacle as against_graphs
from training.checkpoint import RunFolder
from training.config import RunConfig
from training.data import TrainingData
from training.distributed import World
from training.flops import ForwardFlops, forward_flops
from training.kept import KeptForward, check_same_path, choose, obstacle
from training.masks import AppliedMask, Mask
from training.network import first_network
from training.optimizers.perturbing import Perturbing
from training.schedule import Epoch, lr_factor, plan
from training.sparsity.base import MaskedMethod, Moment
from training.state import check_state


@dataclass
class Within:
    """How far an epoch is that isn't finished.

    Attributes
    ----------
    step
        Steps done.
    losses
        Mean losses of the epoch's steps, over all processes; 0 for those that are to come.
    examples, changed, flops
        As in the epoch's record: images, weights grown, cost.
    seconds, reading
        That it took so far, and of these for making batches.
    """

    step: int
    losses: Tensor
    examples: int = 0
    changed: int = 0
    flops: int = 0
    seconds: float = 0.0
    reading: float = 0.0


@dataclass
class Run:
    """What a run is and where it stands.

    Attributes
    ----------
    forward
        What is called in training: the model, compiled or shared between processes where that is asked for.
    ever_active
        By name, the weights that some mask of this run kept.
    changed, flops
        Weights that masks of the present epoch grew, and what its forward and backward passes cost.
    memory
        The method's own state.
    rewind
        The model's state that later rounds start from, once it is reached; empty for methods of one round.
    epoch, within
        Epochs done, over all rounds; and how far the next one is, None at its beginning.
    notes
        Remarks for whoever watches, each made once.
    sparse, kept, dense_because
        Whether to compute with kept weights only; the forward pass that does, in place of `forward`, or None
        and why not.
    latest
        Copies of the latest gradients, where steps overwrite these and the method looks at them.
    graphs
        Whether passes may be CUDA graphs.
    lanes
        Runs that take turns in this process.
    """

    config: RunConfig
    data: TrainingData
    folder: RunFolder
    device: torch.device
    world: World
    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    applied: AppliedMask
    ever_active: Mask
    changed: int = 0
    flops: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    rewind: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    within: Within | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sparse: Sparse = "auto"
    kept: KeptForward | None = None
    dense_because: str = ""
    graphs: Graphs = "auto"
    lanes: int = 1
    latest: dict[str, Tensor] = field(default_factory=dict)
    _priced: tuple[AppliedMask, tuple[int, int]] | None = None  # since the mask last changed

    @property
    def mask(self) -> Mask:
        """The present mask."""
        return self.applied.mask

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return math.ceil(len(self.data.train) / self.config.batch_size)

    @cached_property
    def plan(self) -> list[Epoch]:
        """All epochs of the run."""
        method = self.config.method
        return plan(
            method.round_epochs(self.config.epochs),
            method.rewind_step,
            self.steps_per_epoch,
            self.config.warmup,
            self.config.milestones,
        )

    def lr(self, epoch: Epoch, step: int) -> float:
        """Learning rate of a step (from 0) of the epoch's round."""
        config = self.config
        return config.optimizer.lr * lr_factor(
            step, self.steps_per_epoch, epoch.epochs, config.warmup, config.milestones, config.lr_drop
        )

    @cached_property
    def forward_flops(self) -> ForwardFlops:
        """What one image costs."""
        return forward_flops(self.model, self.image)

    def count(self, images: int, dense_gradient: bool) -> None:
        """Add a pass of so many images forward and back to what the epoch has cost."""
        if not self.config.optimizer.masks_gradients:  # it moves pruned weights, too
            self.flops += 3 * self.forward_flops.dense * images
            return
        if self._priced is None or self._priced[0] is not self.applied:
            step = self.forward_flops.step
            self._priced = self.applied, (step(self.mask), step(self.mask, dense_gradient=True))
        self.flops += self._priced[1][dense_gradient] * images

    def use(self, mask: Mask) -> None:
        """Make `mask` the present one: weights and optimizer state outside it become 0.

        Raises
        ------
        UserError
            When a layer would be left empty and the method's settings forbid that.
        """
        masks.check(self.model, mask)
        mask = self.world.agree(mask)
        empty = masks.empty_layers(mask)
        if empty and isinstance(self.config.method, MaskedMethod):
            text = f"no weight is kept in {', '.join(empty)}"
            if self.config.method.empty_layers == "fail":
                raise UserError(f"{text}; choose a lower --sparsity, another method, or --empty-layers warn")
            self.remark(text)
        self.changed += sum(
            int((part & ~self.mask[name]).sum()) for name, part in mask.items() if name in self.mask
        )
        for name, part in mask.items():
            self.ever_active[name] = part | self.ever_active.get(name, part)
        # By the old mask too: a weight that grows has no history, even where pruned ones gather some.
        masks.apply_to_state(self.optimizer, self.model, self.applied.whole)
        self.applied = self._bound(mask)
        self.applied.to_weights()
        masks.apply_to_state(self.optimizer, self.model, self.applied.whole)
        if self.kept is not None:
            self.kept.use(mask)

    def remark(self, text: str) -> None:
        """Let whoever watches know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def _bound(self, mask: Mask) -> AppliedMask:
        """A mask bound to the model, with what the method silences beside it."""
        beside = self.config.method.silenced(self.model, mask, self.image, self.memory)
        return AppliedMask(self.model, mask, beside)

    @cached_property
    def image(self) -> Tensor:
        """A normalized training image (1, 3, H, W)."""
        return self.data.train.head(1)

    @torch.no_grad()
    def write(self, values: Mapping[str, Tensor]) -> None:
        """Set tensors of the model's state to other values."""
        state = self.model.state_dict()
        for name, value in values.items():
            state[name].copy_(value)

    def save(self) -> None:
        """Write the state to ``last.pt``; all processes call this at the same place."""
        processes = self.world.gather(self._apart()) if self.is_apart else []
        self.world.by_first(lambda: self.folder.save_state(self.state(processes)))

    @property
    def is_apart(self) -> bool:
        """Whether each process has optimizer state of its own."""
        return self.world.size > 1 and isinstance(self.optimizer, Perturbing) and bool(self.optimizer.apart)

    def _apart(self) -> dict[int, dict[str, Tensor]]:
        """By a parameter's number in the optimizer, what this process alone has; on the CPU, to travel."""
        assert isinstance(self.optimizer, Perturbing)
        keys, values = self.optimizer.apart, self.optimizer.state_dict()["state"]
        return {number: {key: one[key].cpu() for key in keys if key in one} for number, one in values.items()}

    def state(self, processes: Sequence[Mapping[int, Mapping[str, Tensor]]] = ()) -> dict[str, Any]:
        """Everything that going on needs, after a whole step; what only one has, by `processes`."""
        state = {
            "epoch": self.epoch,
            "history": self.history,
            "notes": self.notes,
            "model": self.model.state_dict(),
            "mask": self.mask,
            "ever_active": self.ever_active,
            "memory": self.memory,
            "rewind": self.rewind,
            "optimizer": self.optimizer.state_dict(),
            "data_sha256": self.data.sha256,
            "sparse": self.path,
            "within": None if self.within is None else vars(self.within),
        }
        if self.config.method.gradient == "last":
            state["gradients"] = self.gradients()
        if processes:
            state["processes"] = list(processes)
        return state

    @property
    def path(self) -> dict[str, int] | None:
        """What the kernels are, for the state; None for the dense forward pass."""
        return None if self.kept is None else self.kept.described()

    @property
    def compiled(self) -> bool:
        """Whether the only process has its passes from torch.compile."""
        return self.world.size == 1 and self.forward is not self.model

    @cached_property
    def passes(self) -> Passes:
        """What computes the gradients of batches."""
        train, size = self.data.train, self.world.size
        against = against_graphs(
            self.config, self.device.type, size, self.compiled, train.streamed, self.graphs
        )
        return Passes(self.model, min(self.config.batch_size, len(train)), against, self.remark)

    def choose_path(self) -> None:
        """Decide whether steps compute with kept weights only.

        Raises
        ------
        UserError
            Where that is asked for and impossible.
        """
        against = obstacle(self.config, self.device.type, self.world.size, self.compiled)
        found = choose(self.model, self.mask, self.image, self.sparse, against)
        self.kept, self.dense_because = (None, found) if isinstance(found, str) else (found, "")

    def check_changes(self) -> None:
        """Remark it where a dynamic method never changes anything, as the training is too short.

        Raises
        ------
        UserError
            Where it would then not reach its sparsity.
        """
        method = self.config.method
        steps = max(one.epochs for one in self.plan) * self.steps_per_epoch
        moments = (Moment(step, steps, self.steps_per_epoch) for step in range(steps))
        if not method.dynamic or any(map(method.update_due, moments)):
            return
        text = f"no change by the method is due in a training of {steps} step{'s' * (steps > 1)}"
        more = "or more --epochs"
        if method.structured:
            raise UserError(f"{text}, so no channel would go; choose a smaller --batch-size, {more}")
        names = [one.name.replace("_", "-") for one in fields(method) if one.name.endswith("interval")]
        self.remark(f"{text}; choose a shorter {' or '.join(f'--{name}' for name in names)}, {more}")

    def keep_gradients(self) -> None:
        """Copy the present gradients of the masked weights, before a step overwrites them."""
        self.latest = {}
        self.latest = {name: gradient.clone() for name, gradient in self.gradients().items()}

    def gradients(self) -> dict[str, Tensor]:
        """The latest gradients of the masked weights: copies where there are some, else what they hold."""
        if self.latest:
            return self.latest
        found = {name: self.model.get_parameter(name).grad for name in self.mask}
        return {name: gradient for name, gradient in found.items() if gradient is not None}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state.

        Raises
        ------
        UserError
            When the state is of other data, or can't be one of this run.
        """
        check_state(state, self)
        if state["data_sha256"] != self.data.sha256:
            raise UserError(
                f"{self.folder.path}: the run was started with other {self.data.name} images or another order"
            )
        self.model.load_state_dict(state["model"])
        optimizer = dict(state["optimizer"])
        if self.is_apart:
            own = state["processes"][self.world.rank]
            optimizer["state"] = {key: one | own.get(key, {}) for key, one in optimizer["state"].items()}
        self.optimizer.load_state_dict(optimizer)
        begun = state.get("sparse")  # early states don't say: dense
        if self.sparse == "auto" and begun is None:
            self.kept, self.dense_because = None, "the run began so"
        check_same_path(begun, self.path, self.folder.last, self.dense_because)
        self.ever_active, self.memory, self.rewind = state["ever_active"], state["memory"], state["rewind"]
        self.applied = self._bound(state["mask"])
        if self.kept is not None:
            self.kept.use(self.applied.mask)
        self.epoch, self.history, self.notes = state["epoch"], state["history"], state["notes"]
        within = state.get("within")  # early states are of whole epochs
        self.within = None if within is None else Within(**within)
        for name, gradient in state.get("gradients", {}).items():
            self.model.get_parameter(name).grad = gradient


def start_run(
    config: RunConfig,
    data: TrainingData,
    folder: RunFolder,
    device: torch.device,
    world: World,
    compiled: bool,
    sparse: Sparse = "auto",
    graphs: Graphs = "auto",
) -> Run:
    """Fresh weights and the method's first mask.

    Raises
    ------
    UserError
        When settings, architecture and images don't fit together; in all processes.
    """
    model, mask = world.by_all(lambda: first_network(config, data, device, world.size))
    forward: Callable[[Tensor], Tensor] = world.forward(model, device)
    if compiled:
        forward = torch.compile(forward)
    run = Run(
        config,
        data,
        folder,
        device,
        world,
        model,
        forward,
        config.optimizer.build(model),
        AppliedMask(model, {}),
        ever_active={},
        sparse=sparse,
        graphs=graphs,
    )
    run.memory = config.method.first_memory(model, mask)
    run.use(mask)
    run.choose_path()
    run.check_changes()  # and the plan: bad settings must be noticed before anything is written
    return run
