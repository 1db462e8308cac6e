"""What a command looks at: a checkpoint's network, what of it moves and is kept, its examples, its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from landscape.commandline.console import note, quietly
from landscape.errors import UserError
from landscape.siblings import need

if TYPE_CHECKING:  # torch is imported only when there is something to compute
    from torch import Tensor, nn

    from landscape.checkpoint import LoadedCheckpoint
    from landscape.commandline.options import CheckpointOptions, DataOptions, OutputOptions, SubjectOptions
    from landscape.data import LoadedData
    from landscape.examples import Examples
    from landscape.losses import Loss
    from landscape.parameters import Moving


class Machine(TypedDict):
    """Arguments of every function of the library that computes: what, on what, and how precisely."""

    loss: Loss
    device: str
    dtype: str
    batch_size: int | None


class Arguments(Machine):
    """And of those that look at one network: what of it moves."""

    params: Sequence[str]
    mask: Mapping[str, Tensor] | None


@dataclass(frozen=True, eq=False)
class Subject:
    """A checkpoint as the options of a command say that it is looked at.

    Attributes
    ----------
    path, name
        Its file, and what it is called in tables and files' names.
    loaded
        The network and what the file says of it.
    params
        Its parameters: those that move, and those that stay.
    mask, mask_source
        Kept weights by name, None where all are; and where that comes from.
    options
        Of the command.
    """

    path: Path
    name: str
    loaded: LoadedCheckpoint
    params: Moving
    mask: Mapping[str, Tensor] | None
    mask_source: str
    options: SubjectOptions

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.loaded.model

    @property
    def loss(self) -> Loss:
        """What is averaged over the examples; UserError for a name that is none."""
        from landscape.factories import import_factory
        from landscape.losses import SHIPPED, classification

        name, known = self.options.data.loss, {one.__name__: one for one in SHIPPED}
        if name is None:
            return classification
        if name not in known and ":" not in name:
            raise UserError(f"unknown loss {name!r}; expected {', '.join(known)} or package.module:function")
        return known[name] if name in known else import_factory(name)

    @property
    def density(self) -> float:
        """Kept share of the masked tensors' weights; 1 for a dense network."""
        from landscape.kept_weights import density

        return density(self.mask or {})

    @property
    def machine(self) -> Machine:
        """Arguments for the library, whatever network it is."""
        chosen = self.options.computation
        return {
            "loss": self.loss,
            "device": chosen.device,
            "dtype": chosen.dtype,
            "batch_size": chosen.batch_size,
        }

    @property
    def arguments(self) -> Arguments:
        """Arguments for the library: ``compute_surface(subject.model, data, **subject.arguments)``."""
        return {**self.machine, "params": self.options.network.params, "mask": self.mask}

    def examples(
        self,
        data: DataOptions | None = None,
        *,
        others: Sequence[Subject] = (),
        like: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Examples], dict[str, Any]]:
        """The examples by split, and what a result says of checkpoint and data; says what was chosen.

        They are read anew at each call: only one network's need to be held at a time. `data` are those of the
        command by default; see `load_examples`.
        """
        return load_examples(
            self.loaded,
            data or self.options.data,
            others=[one.loaded for one in others],
            like=like,
            device=self.options.computation.device,
        )


def subjects(paths: Sequence[Path], names: Sequence[str], options: SubjectOptions) -> list[Subject]:
    """The checkpoints' networks, each with its mask checked: all, before hours go into the first.

    Raises
    ------
    UserError
        As `landscape.checkpoint.load_checkpoint`, `moving_params` and `resolve_mask`.
    """
    loaded = [load_network(path, options.network) for path in paths]
    return [subject_of(*one, options) for one in zip(paths, names, loaded, strict=True)]


def subject_of(path: Path, name: str, loaded: LoadedCheckpoint, options: SubjectOptions) -> Subject:
    """A network that is read already, with its mask checked."""
    from landscape.kept_weights import resolve_mask
    from landscape.parameters import moving_params

    params = moving_params(loaded.model, options.network.params)
    mask, source = resolve_mask(options.network.mask, loaded.mask, params)
    found = Subject(path, name, loaded, params, mask, source, options)
    _ = found.loss  # refused before hours go into anything
    return found


def load_network(path: Path, network: CheckpointOptions, *, quiet: bool = False) -> LoadedCheckpoint:
    """The network of a checkpoint, ours among the known architectures; says what was recognised.

    Not so where `quiet`, as for the many networks of a trajectory.

    Raises
    ------
    UserError
        As `landscape.checkpoint.load_checkpoint`.
    """
    from landscape.checkpoint import load_checkpoint

    need("training")
    from training.models import ARCHITECTURES

    loaded = load_checkpoint(
        path,
        model=network.model,
        trust=network.trust_checkpoint,
        weights=network.weights,
        architectures=ARCHITECTURES,
    )
    if not quiet:
        note(f"{path}: {loaded.how}")
    return loaded


def load_examples(
    loaded: LoadedCheckpoint,
    data: DataOptions,
    *,
    others: Sequence[LoadedCheckpoint] = (),
    like: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> tuple[dict[str, Examples], dict[str, Any]]:
    """The examples by split, and what a result says about checkpoint and data; says what was chosen.

    Parameters
    ----------
    loaded, others
        The network that they are for, and further ones that are evaluated on the same examples.
    data
        Which.
    like
        What an earlier result says about its data, where the same examples are wanted again.
    device
        Where to try normalizations, if nobody says which one it is.
    """
    from landscape.data import check_model_takes
    from landscape.data.settle import load_settled

    sets, record = load_settled(loaded, data, data.splits, others=others, like=like, device=device, say=note)
    first = next(iter(sets.values()))
    for one in sets.values():
        check_model_takes(loaded.model, one, labels=data.loss is None)
    about = {
        "checkpoint": {"file": f"{loaded.name}", "sha256": loaded.sha256, "metrics": loaded.metrics},
        "architecture": loaded.architecture,
        "data": {
            "name": first.name,
            "examples": {name: len(one.targets) for name, one in sets.items()},
            "drawn_from": {name: one.drawn_from for name, one in sets.items()},
            "seed": data.example_seed,
            "mean": first.mean,
            "std": first.std,
            "normalization": record,
            "images": None if first.preparation is None else first.preparation.record,
        },
    }
    return {name: _examples_of(one) for name, one in sets.items()}, about


def _examples_of(one: LoadedData) -> Examples:
    """Examples that the library takes, pictures in files among them."""
    from landscape.examples import Examples

    if one.pictures is None:
        return Examples.from_images(one.inputs, one.targets, one.mean, one.std)
    return Examples.from_pictures(one.pictures, one.targets, one.mean or (), one.std or ())


@contextmanager
def computing(threads: int | None, output: OutputOptions) -> Iterator[None]:
    """Compute with that many threads inside the block, None for what there is, and as quietly as is asked."""
    with quietly(output.quiet):
        if threads is None:
            yield
            return
        from landscape.threads import threads as with_threads  # imports torch

        with with_threads(threads):
            yield
