"""Options that several commands have, each with its help in one place: annotations for fields of options."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter, Token

from landscape.errors import UserError

MODEL = (
    "Architecture: one of ours (`resnet20`), `torchvision:NAME`, `timm:NAME` or `package.module:factory`; "
    'arguments go in brackets, as in `"resnet20(num_classes=100)"`.'
)
TRUST = (
    "Unpickle whole modules and run TorchScript as it is. This runs code that is in the file: only for files "
    "of your own."
)
WEIGHTS = (
    "Of a file with several sets of weights, the one under this key (`ema`) or this first part of names "
    "(`ema_model`)."
)
PARAMS = (
    "Which parameters move: `trainable` ones, `all`, or names and patterns such as `'layer3.*'`; "
    "`'!PATTERN'` leaves out. The others stay where they are."
)


def whole(_: Any, tokens: Sequence[Token]) -> int:
    """An integer as it stands; the parser's own conversion would round 1.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"expected a whole number, got {tokens[0].value!r}") from None


Int: TypeAlias = Annotated[int, Parameter(converter=whole)]
Flag: TypeAlias = Annotated[bool, Parameter(negative=(), show_default="off")]

Model: TypeAlias = Annotated[
    str | None, Parameter(help=MODEL, show_default="told by the checkpoint, or by its shapes")
]
Weights: TypeAlias = Annotated[
    str | None, Parameter(help=WEIGHTS, show_default="those of the network, not averaged ones")
]
TrustCheckpoint: TypeAlias = Annotated[bool, Parameter(help=TRUST, negative=(), show_default="off")]
ParamsOption: TypeAlias = Annotated[
    tuple[str, ...], Parameter(help=PARAMS, show_default="trainable", consume_multiple=True, negative=())
]
Mask: TypeAlias = Literal["auto", "checkpoint", "zeros", "none"]

Device: TypeAlias = Annotated[
    str, Parameter(help="`cpu`, `cuda`, `cuda:N`, or `auto`: CUDA where there is a device.")
]
BatchSize: TypeAlias = Annotated[
    int | None,
    Parameter(help="Examples per pass.", show_default="what suits the caches or the device", converter=whole),
]
GraphMemory: TypeAlias = Annotated[
    float,
    Parameter(
        help="GiB that the gradient's graph may take; what doesn't fit is computed again for each product."
    ),
]
Threads: TypeAlias = Annotated[
    int | None, Parameter(help="CPU threads.", show_default="all cores", converter=whole)
]
SparseChoice: TypeAlias = Annotated[
    Literal["auto", "on", "off"],
    Parameter(
        help="Compute with kept weights only, on a CPU: where that is faster (`auto`), always, or never. "
        "What is resumed goes on as it began."
    ),
]

GIB = 1 << 30


def memory_bytes(gib: float) -> float:
    """Of ``--memory``; UserError below 0 and for what is no number."""
    if not 0 <= gib < inf:
        raise UserError(f"--memory {gib}: expected GiB, 0 or more")
    return gib * GIB
