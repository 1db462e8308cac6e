"""What float32 means on a GPU, however it was set: PyTorch keeps the settings on a CPU as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from landscape.engine.cuda_graph import numerics
from landscape.gpu_numerics import gpu_numerics, own_precisions, places_of
from training.precision import numerics as training_numerics

PLACES = places_of(torch.backends.cuda, "matmul") + places_of(torch.backends.cudnn, "conv", "rnn")
NEW = pytest.mark.skipif(not PLACES, reason="this PyTorch has no fp32_precision")


def everything(value: str) -> None:
    torch.backends.fp32_precision = value  # type: ignore[assignment]


def products(value: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = value


def convolutions(value: str) -> None:
    torch.backends.cudnn.conv.fp32_precision = value


def old(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def mixed() -> None:
    old(False)
    everything("tf32")


SETTINGS: dict[str, Callable[[], None]] = {
    "as torch begins": lambda: None,
    "old, allowed": lambda: old(True),
    "old, forbidden": lambda: old(False),
    "old, medium": lambda: torch.set_float32_matmul_precision("medium"),
    "new, everything": lambda: everything("tf32"),
    "new, nothing": lambda: everything("ieee"),
    "new, products": lambda: products("tf32"),
    "new, no convolutions": lambda: convolutions("ieee"),
    "both: old forbids, new allows everything": mixed,
}


def readable(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RuntimeError:
        return "mixed"


def state() -> list[Any]:
    cudnn = torch.backends.cudnn
    above = [torch.backends.fp32_precision, cudnn.fp32_precision] if PLACES else []
    return [
        *above,
        *own_precisions(PLACES),
        *(one.fp32_precision for one in PLACES),
        readable(lambda: torch.backends.cuda.matmul.allow_tf32),
        readable(lambda: cudnn.allow_tf32),
        readable(torch.get_float32_matmul_precision),
        cudnn.benchmark,
        cudnn.deterministic,
    ]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The test's settings end with it."""
    before, was = own_precisions(PLACES), torch.backends.cudnn.allow_tf32
    yield
    if PLACES:
        everything("none")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = was
    for place, own in zip(PLACES, before, strict=True):
        place.fp32_precision = own
    torch.backends.cudnn.benchmark = False


@NEW
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_float32_is_what_was_asked_for_whatever_the_caller_set(name: str, tf32: bool) -> None:
    SETTINGS[name]()
    torch.backends.cudnn.benchmark = True
    before = state()
    with gpu_numerics(tf32):
        assert {one.fp32_precision for one in PLACES} == {"tf32" if tf32 else "ieee"}
        assert not torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.deterministic
    assert state() == before
    if before[0] == "tf32":  # a place that inherits goes on inheriting
        everything("none")
        assert [one.fp32_precision for one in PLACES] == own_precisions(PLACES)


@pytest.mark.parametrize("name", SETTINGS)
def test_training_and_engine_can_run_under_any_settings(name: str) -> None:
    if PLACES or not name.startswith(("new", "both")):
        SETTINGS[name]()
    before = state()
    with training_numerics("float32"), numerics(torch.device("cuda"), tf32=False):
        pass
    with pytest.raises(ValueError, match="inside"), training_numerics("tf32"):
        raise ValueError("inside")
    assert state() == before


def test_torchs_own_context_works_inside() -> None:
    with gpu_numerics(False), torch.backends.cudnn.flags(enabled=False):
        assert not torch.backends.cudnn.enabled
    assert torch.backends.cudnn.enabled
