"""Anyone's checkpoint to a module, its mask, and what is known about it.

The steps: ``read`` (bytes to objects, by way of ``containers``, ``unpickle`` and ``rebuild``), ``state`` and
``choice`` (the weights in these), ``recognize`` and ``models`` (the architecture), ``skeleton`` and ``fit``
(into it). ``format`` is the form of our own files, and ``integrity`` their digest.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checkpoint.choice import CHOOSE, listed, twins, without_script
from landscape.checkpoint.fit import check_finite, compare, load_positional
from landscape.checkpoint.format import Checkpoint, decode, is_checkpoint
from landscape.checkpoint.integrity import check_sidecar
from landscape.checkpoint.models import Architecture, Architectures, describe, find_architecture
from landscape.checkpoint.read import FileContent, printable, quoted, read_file
from landscape.checkpoint.recognize import recognize, suggested_arguments
from landscape.checkpoint.shrunk import SHRUNK, ShrunkModel
from landscape.checkpoint.skeleton import built, shapes_of
from landscape.checkpoint.state import FoundState, find_state, head_classes
from landscape.errors import UserError
from landscape.files import sha256


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A network ready to be looked at, and where it comes from.

    Attributes
    ----------
    model
        In evaluation mode, on the CPU, float32.
    mask
        Bool tensors by parameter name, True = kept, as stored; None where the file has none.
    name
        The file's name without its suffix.
    architecture, arguments
        What builds the model again: a name as ``--model`` takes it, and its arguments.
    how
        One line: what was recognised, and why.
    num_classes
        Number of classes where the file or the classifier's name tells it for certain.
    data
        The data set as stored: ``name``, ``mean``, ``std``, …; None where the file doesn't say.
    config, metrics
        Hyper-parameters and results as stored, empty where there are none.
    sha256
        Of the file's bytes; where one of several sets of weights was chosen, of these and of the choice.
    """

    model: nn.Module
    mask: dict[str, Tensor] | None
    name: str
    architecture: str
    how: str
    num_classes: int | None
    sha256: str = ""
    data: dict[str, Any] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    trust: bool = False,
    weights: str | None = None,
    architectures: Architectures | None = None,
) -> LoadedCheckpoint:
    """Load a checkpoint of any usual form: our own, state_dict (bare or wrapped), safetensors, TorchScript.

    Parameters
    ----------
    path
        The file. Its form is recognised from its content. Where a file ``PATH.sha256`` stands beside it, as
        ``sha256sum`` writes it, the digests have to agree.
    model
        ``NAME`` of `architectures`, ``torchvision:NAME``, ``timm:NAME`` or ``package.module:factory``, each
        also with arguments as ``NAME(widths=[16,32,64])``. By default the file's own, or told from shapes.
    trust
        Unpickle whole modules and run TorchScript as it is, which runs whatever code the file contains.
        Without it, of a script only the weights are read.
    weights
        Which weights of a file with several sets of them: the key under which they stand (``ema``), or the
        first part of their names (``ema_model``).
    architectures
        Known architectures by name.

    Raises
    ------
    UserError
        When the file can't be read, would run code, doesn't fit the model, or holds NaN weights; or when the
        model can't be told. One line that says what to do.
    """
    file = Path(path)
    known = architectures or {}
    read = read_file(file, trust=trust)
    digest = sha256(file)
    check_sidecar(file, digest)
    if is_checkpoint(read.content):
        assert isinstance(read.content, Mapping)
        if weights is not None:
            raise UserError(f"{file} has one set of weights; leave --weights {printable(weights)} out")
        loaded = _own(file, read.content, model, known)
        how = "; ".join([loaded.how, *read.notes])
    else:
        state = find_state(read.content, file, weights=weights, tied=read.tied)
        if state.module is not None and model is None:
            loaded = _whole(file, state, read.form)
        else:
            loaded = _foreign_or_advice(file, state, model, known, read.form)
        how = _with_notes(loaded.how, read, state)
    loaded.model.eval()
    if weights is not None:  # results are told apart by it
        digest = hashlib.sha256(f"{digest} {weights}".encode()).hexdigest()
    return replace(loaded, how=how, sha256=digest)


def _foreign_or_advice(
    file: Path, state: FoundState, model: str | None, architectures: Architectures, form: str
) -> LoadedCheckpoint:
    try:
        return _foreign(file, state, model, architectures)
    except UserError as error:
        if form != "TorchScript archive" or model is not None:
            raise
        raise UserError(
            f"{error}; of a script only the weights are read, --trust-checkpoint (trust=True) runs it"
        ) from error


def _own(
    file: Path, content: Mapping[str, Any], model: str | None, architectures: Architectures
) -> LoadedCheckpoint:
    try:
        checkpoint = decode(content)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    named = checkpoint.architecture
    if model is None and named not in {*architectures, SHRUNK} and not named.startswith("torchvision:"):
        raise UserError(
            f"{file} holds a {checkpoint.architecture!r}, which isn't known here; "
            "name what builds it with --model package.module:factory"
        )
    spec = model if model is not None else checkpoint.architecture
    architecture, arguments = Architecture(SHRUNK, ShrunkModel(architectures), "known"), dict[str, Any]()
    if spec != SHRUNK:
        architecture, arguments = find_architecture(spec, architectures)
    if architecture.name == checkpoint.architecture:
        arguments = checkpoint.arguments | arguments
    try:
        module, _ = built(architecture, arguments, checkpoint.state_dict, source=file)
    except UserError as error:  # the arguments are the file's
        raise UserError(str(error) if str(file) in str(error) else f"{file}: {error}") from error
    classes = checkpoint.data.get("num_classes", arguments.get("num_classes"))
    return LoadedCheckpoint(
        model=module,
        mask=checkpoint.mask or None,
        name=file.stem,
        architecture=architecture.name,
        arguments=arguments,
        how=f"{describe(architecture.name, arguments)}, {'given' if model else 'named in the checkpoint'}",
        num_classes=classes if isinstance(classes, int) else head_classes(checkpoint.state_dict),
        data=_data_of(checkpoint) or None,
        config=checkpoint.config,
        metrics=checkpoint.metrics,
    )


def _data_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """With the number of training examples, which earlier checkpoints state beside their indices only."""
    selection, count = checkpoint.data.get("selection"), checkpoint.config.get("examples")
    if not isinstance(selection, Mapping) or "trained" in selection or count is None:
        return checkpoint.data
    return checkpoint.data | {"selection": {**selection, "examples": count}}


def _whole(file: Path, state: FoundState, form: str) -> LoadedCheckpoint:
    """A module that came with its code: TorchScript, or a trusted pickle."""
    module = state.module
    assert module is not None
    check_finite(state.tensors, file)
    if isinstance(module, torch.jit.ScriptModule):
        # A copy of a scripted module would keep the autograd history of having been copied.
        for parameter in module.parameters():
            parameter.requires_grad_(False)
    name = getattr(module, "original_name", type(module).__name__)
    kind = "run as it is" if form == "TorchScript archive" else "a pickled module, trusted"
    return LoadedCheckpoint(
        model=module.float(),
        mask=None,
        name=file.stem,
        architecture=str(name),
        how=f"{name}, {kind}",
        num_classes=head_classes(state.tensors),
        config=state.config,
        metrics=state.metrics,
    )


def _foreign(
    file: Path, state: FoundState, model: str | None, architectures: Architectures
) -> LoadedCheckpoint:
    """Weights alone: as they are, else without what belongs to a training script's loss."""
    try:
        return _placed(file, state, model, architectures)
    except UserError as error:
        if copies := twins(state.tensors):
            raise UserError(f"{file} holds several sets of weights ({listed(copies)}); {CHOOSE}") from error
        fewer, beside = without_script(state.tensors)
        if not beside:
            raise
    loaded = _placed(file, replace(state, tensors=fewer), model, architectures)
    return replace(loaded, how=f"{loaded.how}, {listed(beside, 3)} left out as no part of a network")


def _placed(
    file: Path, state: FoundState, model: str | None, architectures: Architectures
) -> LoadedCheckpoint:
    if model is not None:
        architecture, given = find_architecture(model, architectures)
        arguments, why = _arguments(architecture, given, state.tensors), "given"
    else:
        candidate, why = recognize(state.tensors, architectures, source=file, hint=state.architecture)
        architecture, arguments = candidate.architecture, candidate.arguments
    module, fit = built(architecture, arguments, state.tensors, source=file, extra=state.extra)
    if state.positional:
        load_positional(module, state.positional, source=file)
    mask = {fit.names[name]: kept for name, kept in (state.mask or {}).items() if name in fit.names}
    return LoadedCheckpoint(
        model=module,
        mask=mask or None,
        name=file.stem,
        architecture=architecture.name,
        arguments=arguments,
        how=f"{describe(architecture.name, arguments)}, {why}",
        num_classes=arguments.get("num_classes", head_classes(state.tensors)),
        config=state.config,
        metrics=state.metrics,
    )


def _arguments(
    architecture: Architecture, given: dict[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The given arguments, completed by what the shapes suggest where that makes the weights fit better."""
    suggested = suggested_arguments(architecture, tensors) | given
    if suggested == given:
        return given
    plain, completed = (_differences(architecture, choice, tensors) for choice in (given, suggested))
    return given if plain <= completed else suggested


def _differences(
    architecture: Architecture, arguments: dict[str, Any], tensors: Mapping[str, Tensor]
) -> float:
    try:
        return compare(tensors, shapes_of(architecture, arguments, tensors)).differences
    except UserError:  # an argument is left without value, or a suggested one makes no network
        return math.inf


def _with_notes(how: str, read: FileContent, state: FoundState) -> str:
    place = f" under {quoted('.'.join(state.place))}" if state.place else ""
    return "; ".join([f"{how} ({read.form}{place})", *state.notes, *read.notes])
