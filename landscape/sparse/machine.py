"""What the kernels are compiled for: the processor, its vectors, and the element type."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal

from landscape.errors import UserError

Element = Literal["float", "double"]
CPU_VARIABLE = "SHARPSCAPE_SPARSE_CPU"
"""Environment variable: ``x86-64-v3`` (AVX2) or ``x86-64-v4`` (AVX-512), in place of all that is there."""

_SIZES: dict[str, int] = {"float": 4, "double": 8}


@dataclass(frozen=True)
class Machine:
    """A target of compilation.

    Attributes
    ----------
    triple, cpu, features
        As LLVM names them; an empty triple is that of this process.
    vector_bytes
        Width of a vector register.
    registers
        How many of them there are.
    """

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int

    def lanes(self, element: Element) -> int:
        """Images that one vector holds."""
        return self.vector_bytes // _SIZES[element]

    @property
    def tile(self) -> int:
        """Output positions whose sums are held in registers at a time; the rest is for weights and inputs."""
        return self.registers // 2


X86_64_V3 = Machine("x86_64-unknown-linux-gnu", "x86-64-v3", "", 32, 16)
AARCH64 = Machine("aarch64-unknown-linux-gnu", "generic", "+neon", 16, 32)


def itemsize(element: Element) -> int:
    """Bytes of one number."""
    return _SIZES[element]


@cache
def missing() -> str | None:
    """Why there can be no kernels on this machine, or None."""
    if find_spec("llvmlite") is None:
        return "llvmlite is not installed (pip install sharpscape[sparse])"
    try:
        host()
    except UserError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"llvmlite doesn't work here: {lines[0][:200]}"
    return None if host().vector_bytes else "no kernels for this kind of processor"


@cache
def host() -> Machine:
    """The present machine, or the part of its abilities that `CPU_VARIABLE` names.

    Raises
    ------
    UserError
        When the variable names a processor that isn't one of ours to restrict to.
    """
    from landscape.sparse.llvm import host_description

    triple, cpu, features = host_description()
    named = os.environ.get(CPU_VARIABLE)
    enabled = {one[1:] for one in features.split(",") if one.startswith("+")}
    x86 = triple.startswith(("x86_64", "i686", "amd64"))
    if named:
        if named not in ("x86-64-v3", "x86-64-v4"):
            raise UserError(f"{CPU_VARIABLE}={named}: expected x86-64-v3 or x86-64-v4")
        needed = {"avx2", "fma"} if named == "x86-64-v3" else {"avx512f", "avx512vl", "avx512dq"}
        if not (x86 and needed <= enabled):
            raise UserError(f"{CPU_VARIABLE}={named}: this processor can't run that; leave it out")
        wide = named == "x86-64-v4"
        return Machine(triple, named, "", 64 if wide else 32, 32 if wide else 16)
    if x86 and "avx512f" in enabled:
        return Machine(triple, cpu, features, 64, 32)
    if x86 and {"avx2", "fma"} <= enabled:
        return Machine(triple, cpu, features, 32, 16)
    if triple.startswith(("aarch64", "arm64")):
        return Machine(triple, cpu, features, 16, 32)
    return Machine(triple, cpu, features, 0, 0)
