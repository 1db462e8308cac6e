"""A run's network before its first step, and whether it can be trained on such images."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from landscape.channels.groups import channel_groups
from landscape.channels.shrink import shrink
from landscape.errors import UserError
from training.config import RunConfig
from training.data import TrainingData, generator_for
from training.masks import Mask
from training.models import build_model
from training.sparsity.channels import kept_mask
from training.sparsity.scoring import scored_copy


def first_network(
    config: RunConfig, data: TrainingData, device: torch.device, processes: int
) -> tuple[nn.Module, Mask]:
    """The model with fresh weights and the method's first mask for it.

    Raises
    ------
    UserError
        When the architecture can't take such images, a step would have too few of them for batch norm, or
        the method removes channels and the network computes something else without some.
    """
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
        torch.manual_seed(generator_for(config.seed, "weights").initial_seed())
        model = build_model(config.model, **config.model_arguments(data.num_classes))
    model = model.to(device).to(memory_format=torch.channels_last)
    _check_size(config.model, model, data)
    if ":" in config.model:  # not ours
        _check_outputs(config.model, model, data)
    if smallest_piece(len(data.train), config.batch_size, processes, config.accumulate) == 1:
        _check_single_image(config, model, data)
    with _batch_norm_gets_enough("the method's images, seen singly"):
        mask = config.method.init_mask(model, data.train, generator_for(config.seed, "mask"))
    if config.method.structured:
        _check_smaller(model, data.train.head(1))
    return model, mask


def smallest_piece(images: int, batch_size: int, processes: int, accumulate: int) -> int:
    """Images in the smallest forward pass of an epoch; `accumulate` and `processes` divide a batch.

    >>> smallest_piece(71, 10, 1, 1), smallest_piece(80, 10, 2, 2), smallest_piece(80, 10, 2, 5)
    (1, 2, 1)
    """
    batches = {min(batch_size, images), images % batch_size or batch_size}
    parts = [batch if batch < processes else batch // processes for batch in batches]
    return min(part // min(accumulate, part) for part in parts)


def _check_single_image(config: RunConfig, model: nn.Module, data: TrainingData) -> None:
    """Try one image in training mode, on a copy: batch norm can't average a map of one pixel."""
    images = f"{len(data.train)} training images in steps of {config.batch_size}, of which one has"
    with (
        _batch_norm_gets_enough(f"{images} a single image, or a piece of it has"),
        scored_copy(model, generator_for(config.seed, "trial"), training=True) as copied,
        torch.no_grad(),
    ):
        copied(data.train.head(1).double())


@contextmanager
def _batch_norm_gets_enough(what: str) -> Iterator[None]:
    """Turn torch's ValueError about a single value per channel into a UserError about `what`."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"{what}: too few for batch norm, whose maps have one pixel here; choose another --batch-size, "
            "--examples or --accumulate, or larger images"
        ) from error


def _check_outputs(name: str, model: nn.Module, data: TrainingData) -> None:
    """Refuse a network that gives more than logits in training, such as those of auxiliary heads.

    On a copy without values, which computes nothing; where that can't be done, the first step will tell.
    """
    with suppress(RuntimeError, ValueError), torch.random.fork_rng(devices=[]), torch.no_grad():
        copied = copy.deepcopy(model).to("meta").train()
        found = copied(data.train.head(2).to("meta"))
        if not isinstance(found, Tensor):
            raise UserError(
                f"{name} gives {type(found).__name__} in training, expected logits; auxiliary heads can't be "
                "trained here: choose another --model"
            )


def _check_smaller(model: nn.Module, image: Tensor) -> None:
    """Take half of all removable channels out of a copy: after the training a refusal would come too late."""
    copied = copy.deepcopy(model)
    groups = [group for group in channel_groups(copied, image) if not group.held]
    halves = [torch.arange(group.size) < (group.size + 1) // 2 for group in groups]
    with torch.no_grad():
        for name, part in kept_mask(copied, groups, halves).items():
            copied.get_parameter(name).mul_(part)
    shrink(copied, image)


def _check_size(name: str, model: nn.Module, data: TrainingData) -> None:
    """Try one image, in evaluation mode, which changes nothing."""
    images = data.train.head(1)
    try:
        with torch.no_grad():
            model.eval()(images)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name} can't take images of {tuple(images.shape[2:])} pixels: {reason}") from error
    model.train()
