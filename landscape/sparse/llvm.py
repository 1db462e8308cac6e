"""IR text to machine code in this process, with a cache on disk; the only place that knows llvmlite."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.sparse.machine import Machine

CACHE_VARIABLE = "SHARPSCAPE_CACHE"
"""Environment variable: the folder of compiled kernels; empty keeps none on disk."""

_lock = RLock()  # LLVM objects of one context belong to one thread at a time
_loaded: dict[str, tuple[int, Any]] = {}


@cache
def _binding() -> Any:
    import llvmlite.binding as binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding


def host_description() -> tuple[str, str, str]:
    """Triple, processor and features of this machine."""
    binding = _binding()
    try:
        features = binding.get_host_cpu_features().flatten()
    except RuntimeError:  # not known on every system
        features = ""
    return str(binding.get_process_triple()), str(binding.get_host_cpu_name()), str(features)


def address(name: str, text: str, machine: Machine) -> int:
    """Address of the function `name` that the IR `text` defines; compiled once per process and machine.

    Raises
    ------
    RuntimeError
        When LLVM can't compile the text; a mistake of ours.
    """
    with _lock:
        key = _key(text, machine)
        if key not in _loaded:
            code = _cached(key)
            if code is None:
                code = object_code(text, machine)
                _store(key, code)
            _loaded[key] = _load(code, name, machine)
        return _loaded[key][0]


def object_code(text: str, machine: Machine) -> bytes:
    """The object file made of an IR module."""
    module, target = _optimized(text, machine)
    return bytes(target.emit_object(module))


def assembly(text: str, machine: Machine) -> str:
    """The same as text; for a machine of any kind."""
    module, target = _optimized(text, machine)
    return str(target.emit_assembly(module))


def _optimized(text: str, machine: Machine) -> tuple[Any, Any]:
    binding = _binding()
    module = binding.parse_assembly(text, binding.create_context())
    module.triple = machine.triple
    target = _target(machine)
    # No loop is unrolled or vectorized beyond what is written: the kernels are written as they should run.
    options = binding.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    options.loop_interleaving = False
    builder = binding.create_pass_builder(target, options)
    builder.getModulePassManager().run(module, builder)
    return module, target


def _target(machine: Machine) -> Any:
    kind = _binding().Target.from_triple(machine.triple)
    return kind.create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=3, reloc="pic", codemodel="default"
    )


def _load(code: bytes, name: str, machine: Machine) -> tuple[int, Any]:
    binding = _binding()
    engine = binding.create_mcjit_compiler(
        binding.parse_assembly("", binding.create_context()), _target(machine)
    )
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    found = int(engine.get_function_address(name))
    if not found:
        raise RuntimeError(f"kernel {name} isn't in its own object file")
    return found, engine


def _key(text: str, machine: Machine) -> str:
    version = ".".join(map(str, _binding().llvm_version_info))
    parts = (text, version, machine.triple, machine.cpu, machine.features, sys.byteorder)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def folder() -> Path | None:
    """Where compiled kernels are kept, or None."""
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None:
        return Path(named) / "kernels" if named else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "sharpscape" / "kernels"


def _cached(key: str) -> bytes | None:
    """The stored object code, if it is whole."""
    place = folder()
    if place is None:
        return None
    try:
        content = (place / f"{key}.o").read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _store(key: str, code: bytes) -> None:
    place = folder()
    if place is None:
        return
    with suppress(OSError, UserError):  # a cache that can't be written costs time only
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_path(place / f"{key}.o") as temporary:
            temporary.write_bytes(hashlib.sha256(code).digest() + code)


def prototype(count: int) -> Any:
    """A ctypes function type of `count` addresses or integers; calls release the GIL."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)
