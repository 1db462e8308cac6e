"""The bend on disk: the state of an unfinished training, and the finished point as a checkpoint."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.connectivity.bend import BendTraining
from landscape.checkpoint.format import Checkpoint, decode, encode, is_checkpoint
from landscape.checkpoint.integrity import check_seal, sealed
from landscape.checkpoint.read import read_file
from landscape.checks.identity import result_difference
from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.planes.directions import Params

STATE_FORMAT = "sharpscape.connectivity.state"
STATE_SUFFIX = ".partial"
SAVE_EVERY_SECONDS = 5.0
SAVE_SHARE = 0.05  # of the time that saving may take where the network is large
CONFIG = "connectivity"  # the key of a checkpoint's config that holds a bend's settings


@dataclass(frozen=True)
class Identity:
    """What a bend's checkpoint says about its network besides the weights.

    Attributes
    ----------
    architecture, arguments
        As ``--model`` takes them.
    data
        Name, mean and standard deviation of the data set.
    about
        What else is known of the two ends; JSON types.
    """

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


class BendFile:
    """The checkpoint at `path`, and the state at ``PATH.partial`` until it is there.

    Parameters
    ----------
    path
        None keeps nothing.
    settings
        Everything that determines the bend; JSON types. Files of other settings are refused.

    Attributes
    ----------
    finished
        The bend's parameters, where they are there already.

    Raises
    ------
    UserError
        For a bend or a state with other settings, or a file that is neither.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, dict(settings)
        self.finished: Params | None = None
        self._state: dict[str, Any] | None = None
        self._save_at = time.monotonic() + SAVE_EVERY_SECONDS
        if path is None:
            return
        if path.exists():
            self.finished = self._read_finished(path)
        elif state_path(path).exists():
            self._state = self._read_state(state_path(path))

    def resume(self, training: BendTraining) -> None:
        """Put the stored state into a training."""
        if self._state is not None:
            try:
                training.restore(self._state)
            except UserError as error:
                raise UserError(f"{self.path and state_path(self.path)}: {error}; remove it") from error

    def save_sometimes(self, training: BendTraining) -> None:
        """Save if the last time is long enough ago."""
        if time.monotonic() >= self._save_at:
            self.save(training)

    def save(self, training: BendTraining) -> None:
        """Replace the state on disk by the present one, in one step; not in the middle of a change."""
        if self.path is None or not training.consistent or not training.step:
            return
        began = time.monotonic()
        state = {"format": STATE_FORMAT, "settings": self.settings, **training.state()}
        _write(state_path(self.path), sealed(state))
        now = time.monotonic()
        self._save_at = now + max(SAVE_EVERY_SECONDS, (now - began) / SAVE_SHARE)

    def finish(self, module: nn.Module, mask: Mapping[str, torch.Tensor] | None, identity: Identity) -> None:
        """Write the checkpoint and remove the state."""
        if self.path is None:
            return
        checkpoint = Checkpoint(
            architecture=identity.architecture,
            arguments=dict(identity.arguments),
            state_dict={name: value.detach().cpu() for name, value in module.state_dict().items()},
            mask={name: kept.cpu() for name, kept in (mask or {}).items()},
            data=dict(identity.data),
            config={CONFIG: self.settings, **identity.about},
            environment={"torch": str(torch.__version__)},
        )
        _write(self.path, encode(checkpoint))
        state_path(self.path).unlink(missing_ok=True)

    def _read_finished(self, path: Path) -> Params:
        content = _load(path)
        if not is_checkpoint(content):
            raise UserError(f"{path} is no bend of analysis.connectivity; choose another --output")
        try:
            checkpoint = decode(content)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        self._check(path, checkpoint.config.get(CONFIG))
        return checkpoint.state_dict

    def _read_state(self, path: Path) -> dict[str, Any]:
        content = _load(path)
        if content.get("format") != STATE_FORMAT:
            raise UserError(f"{path} is no state of analysis.connectivity; remove it")
        self._check(path, content.get("settings"))
        check_seal(content, path)
        return content

    def _check(self, path: Path, settings: Any) -> None:
        if not isinstance(settings, Mapping):
            raise UserError(f"{path} is no bend of analysis.connectivity; choose another --output")
        difference = result_difference(dict(settings), self.settings)
        if difference is not None:
            raise UserError(
                f"{path} was trained with other settings ({difference}); "
                "choose another output path, or overwrite it with --overwrite"
            )


def state_path(path: Path) -> Path:
    """Where the state of the training of this bend is kept."""
    return path.with_name(path.name + STATE_SUFFIX)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()  # torch.save into a file hides a full disk behind a RuntimeError
    torch.save(dict(content), buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _load(path: Path) -> dict[str, Any]:
    try:
        content = read_file(path).content
    except UserError as error:
        reason = str(error).removeprefix(f"{path} is ").removeprefix(f"{path} ")
        raise UserError(f"{path} can't be read: {reason}; or remove it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no file of analysis.connectivity; choose another --output")
    return content
