"""The bend on disk: the state of an unfinished training, and the finished point as a checkpoint."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.checkpoint.format import Checkpoint, decode, encode, is_checkpoint
from landscape.checkpoint.integrity import check_seal, sealed
from landscape.checkpoint.read import read_file
from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.keeping.partial import State
from landscape.planes.directions import Params

STATE_FORMAT = "sharpscape.connectivity.state"
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


class BendForm:
    """As `landscape.keeping.partial.Form`: a bend is a checkpoint, a state a dict with a digest."""

    holds = "holds a bend"

    def read(self, path: Path) -> tuple[Mapping[str, Any], Params]:
        """A finished one: its parameters by name."""
        content = _load(path)
        if not is_checkpoint(content):
            raise UserError(f"{path} is no bend of analysis.connectivity; choose another --output")
        try:
            checkpoint = decode(content)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        return _settings_in(path, checkpoint.config.get(CONFIG)), checkpoint.state_dict

    def read_state(self, path: Path) -> tuple[Mapping[str, Any], State]:
        """Of an unfinished training."""
        content = _load(path)
        if content.get("format") != STATE_FORMAT:
            raise UserError(f"{path} is no state of analysis.connectivity; remove it")
        check_seal(content, path)
        return _settings_in(path, content.get("settings")), content

    def write_state(self, path: Path, settings: Mapping[str, Any], state: State) -> None:
        """In one step."""
        _write(path, sealed({"format": STATE_FORMAT, "settings": dict(settings), **state}))


def save_bend(
    path: Path,
    module: nn.Module,
    mask: Mapping[str, torch.Tensor] | None,
    identity: Identity,
    settings: Mapping[str, Any],
) -> None:
    """Write the finished bend as a checkpoint, in one step."""
    checkpoint = Checkpoint(
        architecture=identity.architecture,
        arguments=dict(identity.arguments),
        state_dict={name: value.detach().cpu() for name, value in module.state_dict().items()},
        mask={name: kept.cpu() for name, kept in (mask or {}).items()},
        data=dict(identity.data),
        config={CONFIG: dict(settings), **identity.about},
        environment={"torch": str(torch.__version__)},
    )
    _write(path, encode(checkpoint))


def _settings_in(path: Path, settings: Any) -> Mapping[str, Any]:
    if not isinstance(settings, Mapping):
        raise UserError(f"{path} is no bend of analysis.connectivity; choose another --output")
    return settings


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
