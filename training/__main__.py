"""The command ``python -m training``: settings to a checkpoint."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

from cyclopts import Group, Parameter, Token

from training.memory import restart_with_large_pages

if __name__ == "__main__":
    restart_with_large_pages("training")  # before torch is loaded: its import would be paid twice

from landscape.commandline.command import run_command
from landscape.commandline.console import guarded_command, leave, out
from landscape.commandline.options import whole
from landscape.errors import UserError
from training.config import Recipe, RunConfig
from training.coverage import coverage_lines
from training.machine import Machine
from training.metrics import SUMMED_UP, check_metrics
from training.optimizers import OPTIMIZERS
from training.sparsity import METHODS

if TYPE_CHECKING:
    from pathlib import Path

    from training.checkpoint import RunFolder
    from training.progress import TrainingProgress

T = TypeVar("T")

HELP = """Train a dense or sparse image classifier and write one sharable checkpoint.

A run that was interrupted goes on when the same command is given again, and ends bit-identical. Its folder
gets final.pt (the model, stored sparsely), last.pt (state after the last epoch), metrics.jsonl and run.json;
of a method that removes channels (chex, chase) also shrunk.pt, the same network without them.
Several processes train one model when torchrun starts them: torchrun --nproc-per-node 2 -m training ...
"""

EXAMPLES = """Examples:

python -m training --data sample --epochs 1

python -m training --data cifar10 --download --method random --distribution erk --sparsity 0.9

python -m training --model resnet32_wide --data npz:cifar10.npz --lr 0.1 --epochs 160 --batch-size 64
"""


_LISTS = Parameter(negative_iterable="", consume_multiple=True)  # --keep-dense first last, no --empty-…


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; bad input ends with one line and exit code 2, a signal with 128 and its number."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    with guarded_command():
        command = _command(tokens)
    run_command(
        "training", HELP, EXAMPLES, command, tokens, _LISTS, config=False
    )  # the method must be known before


def _command(
    tokens: Sequence[str], act: Callable[[RunConfig, Machine], None] | None = None
) -> Callable[..., None]:
    """The command for the method and the optimizer that `tokens` name, with their hyper-parameters.

    `act` gets what was asked for; None for `run`.
    """
    method, optimizer = _named(tokens, "--method", METHODS), _named(tokens, "--optimizer", OPTIMIZERS)

    def command(
        *,
        method: str = next(iter(METHODS)),
        optimizer: str = next(iter(OPTIMIZERS)),
        recipe: Any = Recipe(),  # noqa: B008
        masking: Any = METHODS[method](),  # noqa: B008
        stepping: Any = OPTIMIZERS[optimizer](),  # noqa: B008
        machine: Any = Machine(),  # noqa: B008
    ) -> None:
        (act or run)(RunConfig(**vars(recipe), method=masking, optimizer=stepping), machine)

    # The classes are known only now, so the annotations that cyclopts reads are set here.
    groups = [
        Group(name, sort_key=key)
        for key, name in enumerate(("Run", "Method", "Optimizer", "Machine and files"))
    ]
    command.__annotations__ |= {
        "method": _choice(METHODS, "Which weights are kept", groups[1]),
        "optimizer": _choice(OPTIMIZERS, "How a step is made", groups[2]),
        "recipe": _flat(Recipe, groups[0]),
        "masking": _flat(METHODS[method], groups[1]),
        "stepping": _flat(OPTIMIZERS[optimizer], groups[2]),
        "machine": _flat(Machine, groups[3]),
    }
    return command


def _choice(table: Mapping[str, type], text: str, group: Group) -> Any:
    hint = f"{text}: {', '.join(table)}. With --help, the settings of the one named are shown."
    return Annotated[Literal[tuple(table)], Parameter(help=hint, group=group, show_choices=False)]


def _flat(kind: type, group: Group) -> Any:
    """Each field of a dataclass as an option of its own."""
    # cyclopts reads text annotations in the class's module, which needn't know types of inherited fields.
    hints = {name: _exact(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    vars(kind)["__init__"].__annotations__.update(hints)
    kind.__annotations__ = hints
    return Annotated[kind, Parameter(name="*", group=group, show=bool(fields(kind)))]


def _exact(hint: Any) -> Any:
    """The type of an option; 1.5 isn't a whole number, though the parser's own conversion makes it 2."""
    if hint in (int, int | None):
        return Annotated[hint, Parameter(converter=whole)]
    if hint == tuple[int, int, int] | None:
        return Annotated[hint, Parameter(converter=_wholes)]
    return hint


def _wholes(kind: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    try:
        return tuple(whole(kind, [token]) for token in tokens)
    except ValueError as bad:  # of several words the parser doesn't say whose they are
        raise ValueError(f"Invalid value for {tokens[0].keyword}: {bad}") from None


def _named(tokens: Sequence[str], option: str, table: Mapping[str, Callable[..., T]]) -> str:
    """The entry that the command line names, else the table's first one."""
    name = next(iter(table))
    for index, token in enumerate(tokens):
        if token.startswith(f"{option}="):
            name = token.partition("=")[2]
        elif token == option and index + 1 < len(tokens):
            name = tokens[index + 1]
    if name not in table:
        match = difflib.get_close_matches(name.lower(), table, n=1)
        hint = f" (did you mean {match[0]}?)" if match else ""
        raise UserError(f"unknown {option[2:]} {name!r}{hint}; known: {', '.join(table)}")
    return name


def run(config: RunConfig, machine: Machine) -> None:
    """Train as configured and print the result."""
    from training.distributed import joined
    from training.loop import train
    from training.prepare import ready, set_up
    from training.progress import TrainingProgress

    set_up(machine)
    with joined(machine.device) as (world, device):
        prepared = ready(config, machine, world, device)
        data, folder = prepared.data, prepared.folder
        images, batch = len(data.train), config.batch_size
        with TrainingProgress(silent=not world.first, images=images, batch=batch) as progress:
            try:
                checkpoint = train(config, data, folder, device, progress, prepared.extras)
            except KeyboardInterrupt as error:
                progress.bar.stop()
                leave(error, f": {_saved(folder, progress)}")
        if world.first:
            _print_result(folder, checkpoint.metrics)


def parsed(words: Sequence[str]) -> tuple[RunConfig, Machine]:
    """What a command line asks for; bad input as of the command: one line, and SystemExit."""
    asked: list[tuple[RunConfig, Machine]] = []
    with guarded_command():
        command = _command(words, lambda *both: asked.append(both))
    run_command("training", HELP, EXAMPLES, command, words, _LISTS, config=False)
    return asked[0]


def _saved(folder: RunFolder, progress: TrainingProgress) -> str:
    """What an interrupted run has, and how it goes on."""
    if folder.final.exists():
        return f"the run is finished; {folder.final} is its result"
    if not folder.last.exists():
        return "no epoch is saved; the same command starts the run again"
    known = f"epoch {progress.saved_epochs} of {progress.epochs}" if progress.epochs else "the epochs so far"
    if progress.saved_step:
        known += f" and {progress.saved_step} steps"
    return f"{folder.last} has {known}; the same command goes on from there"


def _print_result(folder: RunFolder, metrics: Mapping[str, Any]) -> None:
    path = folder.final
    check_metrics(metrics, path, SUMMED_UP)
    accuracy, examples = metrics["test_accuracy"], metrics["test_examples"]
    error = (accuracy * (1 - accuracy) / examples) ** 0.5
    lines = [
        f"test accuracy {100 * accuracy:.2f} ± {100 * error:.2f} % (standard error, {examples} images)",
        f"test loss     {metrics['test_loss']:.4f}",
        f"sparsity      {100 * metrics['sparsity']:.3f} % of {_masked(metrics)} masked weights, "
        f"{100 * metrics['sparsity_overall']:.3f} % of all {metrics['parameters']} parameters",
    ]
    if "dense_layers" in metrics:  # not in results of earlier versions
        lines += coverage_lines(metrics)
    lines += [
        f"spent         {_spent(metrics)}",
        *_flops_line(metrics),
        f"seconds       {metrics['seconds']:.0f}",
        f"checkpoint    {path} ({path.stat().st_size / 1024:.0f} KiB)",
        *_shrunk_line(folder.shrunk, metrics),
    ]
    for line in lines:
        out(line)


def _spent(metrics: Mapping[str, Any]) -> str:
    """Epochs and images of all rounds."""
    examples = metrics.get("examples_trained")
    known = "an unknown number of" if examples is None else examples
    return f"{metrics['epochs_trained']} epochs, {known} examples, over all rounds"


def _flops_line(metrics: Mapping[str, Any]) -> list[str]:
    """Of an image and of the training; nothing for results of earlier versions."""
    if "flops" not in metrics:
        return []
    image, training = metrics["flops"], metrics["training_flops"]
    known = "of the training unknown"
    if training is not None:
        known = f"{training:.3g} in training, {training / metrics['training_flops_dense']:.3g} of a dense one"
    return [f"FLOPs         {image:.3g} an image, {image / metrics['flops_dense']:.3g} of dense; {known}"]


def _shrunk_line(path: Path, metrics: Mapping[str, Any]) -> list[str]:
    """Of the network without its lost channels; nothing for methods that remove none."""
    if "shrunk_flops" not in metrics:
        return []
    kept, before = (sum(metrics[key].values()) for key in ("channels", "channels_dense"))
    share = metrics["shrunk_flops"] / metrics["flops_dense"]
    return [
        f"smaller       {path}: {kept} of {before} channels, {metrics['shrunk_parameters']} parameters, "
        f"{share:.3g} of the dense network's FLOPs"
    ]


def _masked(metrics: Mapping[str, Any]) -> int:
    return sum(layer["weights"] for layer in metrics["layers"].values())


if __name__ == "__main__":
    main()
