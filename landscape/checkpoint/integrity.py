"""Digests of what was written, to notice what changed since: our own files' values, and others' sidecars."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from landscape.errors import UserError

KEY = "digest"


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 over every key, number and tensor of a dict of plain values, but its own ``digest``.

    Tensors count with name, type, shape and bytes in row-major order; where they lie in memory doesn't.
    """
    found = hashlib.sha256()
    _add(found, {key: value for key, value in content.items() if key != KEY})
    return found.hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The dict with its digest beside its values."""
    return {**content, KEY: digest_of(content)}


def check_seal(content: Mapping[str, Any], source: object = "") -> None:
    """Compare a dict with its digest; earlier versions wrote none.

    Raises
    ------
    UserError
        When they differ.
    """
    if KEY in content and content[KEY] != digest_of(content):
        prefix = f"{source}: " if source else ""
        raise UserError(
            f"{prefix}its values aren't those that were written (SHA-256); it is damaged or was changed: "
            "fetch or save it again"
        )


def check_sidecar(path: Path, digest: str) -> None:
    """Compare a file's SHA-256 with that in ``PATH.sha256``, where there is one as sha256sum writes it.

    Raises
    ------
    UserError
        When they differ.
    """
    sidecar = path.with_name(f"{path.name}.sha256")
    try:
        with sidecar.open("rb") as file:
            stated = re.match(rb"\\?([0-9a-fA-F]{64})\b", file.read(200))
    except OSError:
        return
    if stated and stated[1].decode().lower() != digest:
        raise UserError(
            f"{path} isn't the file that {sidecar.name} is of (SHA-256 {digest[:12]}…, expected "
            f"{stated[1].decode().lower()[:12]}…); fetch it again"
        )


def _add(found: _Hash, value: object) -> None:
    """A value with its kind and length, so that no two values give the same bytes."""
    if isinstance(value, Mapping):
        found.update(b"d%d;" % len(value))
        for key, one in value.items():
            _add(found, key)
            _add(found, one)
    elif isinstance(value, (list, tuple)):
        found.update(b"l%d;" % len(value))
        for one in value:
            _add(found, one)
    elif isinstance(value, Tensor):
        _add_tensor(found, value)
    elif isinstance(value, (bool, np.bool_)):
        found.update(b"b1;" if value else b"b0;")
    elif isinstance(value, (int, np.integer)):
        found.update(b"i%d;" % int(value))
    elif isinstance(value, (float, np.floating)):
        found.update(b"f" + struct.pack("<d", float(value)))
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        found.update(b"s%d;" % len(text) + text)
    elif value is None:
        found.update(b"n;")
    else:
        text = str(value).encode()
        found.update(b"o%d;" % len(text) + text)


def _add_tensor(found: _Hash, value: Tensor) -> None:
    plain = value.detach().cpu()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    head = f"t{plain.dtype}{list(plain.shape)};".encode()
    found.update(head)
    if plain.numel():
        row = plain.resolve_conj().resolve_neg().contiguous().reshape(-1)
        found.update(row.view(torch.uint8).numpy().data)
