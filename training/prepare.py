"""What a training needs before its first step: threads, images, and the folder that its files go to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from landscape.commandline.gpus import check_device
from landscape.errors import UserError
from landscape.images import read_images
from training.checkpoint import RunFolder
from training.config import RunConfig, run_name
from training.data import TrainingData
from training.distributed import World
from training.loop import Extras
from training.machine import Machine
from training.photographs import Reading, find_broken, photographs, read_training_data, said_of_broken
from training.progress import TrainingProgress

_MOST_THREADS = 4_096
_MOST_WORKERS = 256


@dataclass(frozen=True)
class Prepared:
    """What `training.loop.train` takes beside settings and device."""

    data: TrainingData
    folder: RunFolder
    extras: Extras


def set_up(machine: Machine) -> None:
    """Take as many threads as are asked for; UserError where something can't be meant."""
    if machine.threads is not None:
        if machine.threads < 1:
            raise UserError(f"threads {machine.threads}: expected 1 or more")
        if machine.threads > _MOST_THREADS:
            raise UserError(f"threads {machine.threads}: expected {_MOST_THREADS} or fewer")
        torch.set_num_threads(machine.threads)
    check_device(machine.device)
    if machine.record_every < 0:
        raise UserError(f"record-every {machine.record_every}: expected a number of steps, or 0 for none")
    if not 0 <= machine.save_every < float("inf"):
        raise UserError(f"save-every {machine.save_every:g}: expected seconds, or 0 for none")
    if machine.workers is not None and not 0 <= machine.workers <= _MOST_WORKERS:
        raise UserError(f"workers {machine.workers}: expected 0 to {_MOST_WORKERS}")


def ready(config: RunConfig, machine: Machine, world: World, device: torch.device) -> Prepared:
    """Read the images, in every process; UserError in all of them where one can't."""
    if machine.download:  # one process downloads, the others find it there
        world.by_first(lambda: len(read_images(config.data, "train", machine.data_root, download=True)))
    local = os.environ.get("LOCAL_WORLD_SIZE", "1")
    beside = int(local) if local.isdecimal() and world.size > 1 else 1
    reading = Reading(machine.data_root, machine.download, machine.workers, max(1, beside))
    streamed = world.by_all(lambda: photographs(config.data, config.image_size))
    if machine.skip_broken and not streamed:
        raise UserError(f"skip-broken: {config.data} holds no photographs; it is for imagefolder:PATH")
    broken = _broken(config.data, reading, world) if machine.skip_broken else []
    data = world.by_all(
        lambda: read_training_data(
            config.data,
            config.validation,
            config.seed,
            device,
            reading,
            examples=config.examples,
            image_size=config.image_size,
            broken=broken,
        )
    )
    return with_data(config, machine, world, data)


def with_data(config: RunConfig, machine: Machine, world: World, data: TrainingData) -> Prepared:
    """The same where the images are there already."""
    settings = config.to_dict(data.name)
    folder = RunFolder(machine.output or Path("runs") / run_name(settings), settings)
    extras = Extras(
        world,
        machine.compile,
        machine.record_every,
        machine.sparse,
        machine.save_every,
        machine.cuda_graph,
    )
    return Prepared(data, folder, extras)


def _broken(data: str, reading: Reading, world: World) -> list[Path]:
    """Photographs that can't be decoded, found by all processes together; says which."""
    with TrainingProgress(silent=not world.first) as progress:
        mine = world.by_all(lambda: find_broken(data, reading, world.part, progress.looked))
        shares = world.gather(mine)
        found = {split: sorted({one for share in shares for one in share[split]}) for split in mine}
        for text in said_of_broken(found, data):
            progress.note(text)
    return [one for paths in found.values() for one in paths]
