"""The files of a run: ``run.json`` (settings), ``last.pt`` (to go on), ``final.pt`` (to share), its log.

Methods that remove channels leave ``shrunk.pt``, too: the same network without them.
"""

from __future__ import annotations

import io
import json
import math
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import sharpscape
from landscape.checkpoint.format import Checkpoint, decode, encode
from landscape.checkpoint.integrity import check_seal, sealed
from landscape.checkpoint.read import read_file
from landscape.errors import UserError
from landscape.files import atomic_path, read_text
from landscape.keeping.lock import check_owned
from landscape.keeping.signals import held_back
from training.config import difference

LEFTOVER_SECONDS = 60.0  # an unfinished file that nobody has written to for so long is a killed run's
STATE_FORMAT = "sharpscape.training-state"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; `settings` is the run's config as plain values."""

    path: Path
    settings: dict[str, Any] = field(repr=False)

    @property
    def last(self) -> Path:
        """State after the last whole epoch, for going on."""
        return self.path / "last.pt"

    @property
    def final(self) -> Path:
        """The finished model, stored sparsely, for sharing."""
        return self.path / "final.pt"

    @property
    def shrunk(self) -> Path:
        """The finished model without its lost channels, of methods that remove some."""
        return self.path / "shrunk.pt"

    @property
    def file(self) -> Path:
        """The run's settings, whose lock is that of the folder."""
        return self.path / "run.json"

    def claim(self) -> None:
        """Write the settings into a new folder, or check that they are those of the run that is there.

        Raises
        ------
        UserError
            When the folder holds a run with other settings, or other files.
        """
        file = self.file
        if file.exists():
            try:
                there = json.loads(read_text(file))
                if not isinstance(there, dict):
                    raise ValueError(f"it holds a {type(there).__name__}, no settings")
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(f"{file} can't be read: {error}; choose another --output") from error
            differences = difference(there, self.settings)
            if differences:
                raise UserError(
                    f"{self.path} holds another run: {'; '.join(differences)}; choose another --output"
                )
        elif self.path.is_dir() and any(not item.name.startswith(".") for item in self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and holds no run; choose another --output")
        else:
            _write_text(file, json.dumps(self.settings, indent=2) + "\n")

    def sweep(self, before: float) -> None:
        """Remove half-written files that nobody has written to since `before`, in seconds since 1970."""
        for file in [*self.path.glob(".*.tmp"), *self.path.glob("*/.*.tmp")]:
            with suppress(OSError):  # another process may sweep at the same time
                if file.stat().st_mtime < before:
                    file.unlink()

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace ``last.pt`` and rewrite ``metrics.jsonl`` from the state's history; each atomically.

        A signal waits for both: an epoch that is trained isn't lost.
        """
        with held_back():
            check_owned(self.file)
            with atomic_path(self.last) as temporary:
                save(sealed({"format": STATE_FORMAT, "settings": self.settings, **state}), temporary)
            self.save_log(state["history"])

    def save_log(self, history: Iterable[Mapping[str, Any]]) -> None:
        """Rewrite ``metrics.jsonl``, a line an epoch; what doesn't exist is null, as JSON has no NaN."""
        lines = [json.dumps({key: _or_none(value) for key, value in record.items()}) for record in history]
        _write_text(self.path / "metrics.jsonl", "".join(f"{line}\n" for line in lines))

    def load_state(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state, or None when no epoch is finished yet."""
        if not self.last.exists():
            return None
        state = load_dict(self.last, device)
        there = state.get("settings")
        same = isinstance(there, dict) and not difference(there, self.settings)
        if state.get("format") != STATE_FORMAT or not same:
            raise UserError(f"{self.last} is not of this run; remove it or choose another --output")
        check_seal(state, self.last)
        return state

    def save_final(self, checkpoint: Checkpoint) -> None:
        """Write ``final.pt``; a signal waits."""
        with held_back():
            check_owned(self.file)
            with atomic_path(self.final) as temporary:
                save(encode(checkpoint), temporary)

    def save_shrunk(self, checkpoint: Checkpoint) -> None:
        """Write ``shrunk.pt``."""
        with atomic_path(self.shrunk) as temporary:
            save(encode(checkpoint), temporary)

    def finished(self) -> Checkpoint | None:
        """The finished model, or None when the run isn't finished; UserError when it is another run's."""
        if not self.final.exists():
            return None
        self.claim()
        content = load_dict(self.final)
        try:
            checkpoint = decode(content)
        except UserError as error:
            raise UserError(f"{self.final}: {error}, or remove it") from error
        check_result(self.final, checkpoint.config, self.settings)
        return checkpoint


def check_result(path: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise UserError unless the result in a run's folder, which may have been copied there, is the run's."""
    differences = difference(config, settings)
    if differences:
        raise UserError(
            f"{path} is another run's: {'; '.join(differences)}; remove it or choose another --output"
        )


def save(content: Mapping[str, Any], path: Path) -> None:
    """By way of memory: ``torch.save`` into a file hides a full disk behind a RuntimeError."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getbuffer())


def load_dict(path: Path, device: torch.device | None = None) -> dict[str, Any]:
    """Read a dict without running anything in it; UserError when it is damaged or something else."""
    try:
        content = read_file(path).content
    except UserError as error:
        reason = str(error).removeprefix(f"{path} is ").removeprefix(f"{path} ")
        raise UserError(
            f"{path} can't be read: {reason}; or remove it, or choose another --output"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, expected a dict; remove it")
    return content if device is None or device.type == "cpu" else _moved(content, device)


def _moved(value: Any, device: torch.device) -> Any:
    """Nested dicts and lists with their tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(one, device) for key, one in value.items()}
    return type(value)(_moved(one, device) for one in value) if isinstance(value, (list, tuple)) else value


def _or_none(value: Any) -> Any:
    """None for NaN, which states saved by earlier versions have; everything else as it is."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware, without names of machines or paths."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "sharpscape": sharpscape.version(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "torchvision": version("torchvision"),
        "numpy": version("numpy"),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device.type,
        "hardware": hardware,
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
