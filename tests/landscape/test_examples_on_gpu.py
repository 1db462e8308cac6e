"""Examples on a pretended GPU: pixels stay bytes, what does not fit stays with the host, no bit changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from torch import nn

import landscape.examples
from analysis.hessian import HessianOperator
from landscape.engine import Engine
from landscape.examples import Examples
from landscape.losses import classification

NORMALIZATION = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def pixels() -> Examples:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (20, 3, 6, 6), generator=generator, dtype=torch.uint8)
    return Examples.from_images(images, torch.arange(20) % 3, *NORMALIZATION)


def floats() -> Examples:
    """The same, normalized beforehand."""
    return Examples.from_tensors(*pixels().to("cpu", torch.float32).tensors)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    ).eval()


def engine(examples: Examples, **options: Any) -> Engine:
    along = {name: torch.full_like(one, 0.1) for name, one in network().named_parameters()}
    told = {"device": "cuda", "batch_size": 7} | options
    return Engine(network(), {"test": examples}, classification, [along], **told)


def losses(one: Engine) -> list[float]:
    return [one.evaluate([place])["test"].mean("loss") for place in (0.0, 0.7, -0.3)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_pixels_take_a_quarter_of_the_memory_and_no_bit_changes(dtype: str) -> None:
    with pretended_gpu() as gpu:
        kept = pixels().to("cuda", torch.float32)
        assert kept.tensors[0].dtype == torch.uint8
        assert 4 * kept.tensors[0].nbytes == floats().to("cuda", torch.float32).tensors[0].nbytes
        exact = Examples.from_tensors(*pixels().to("cpu", torch.float64).tensors)
        one = engine(pixels(), dtype=dtype)
        gpu.waits.clear()
        found = losses(one)
        assert one.about["cuda_graph"] is True
        assert gpu.waits == {
            "copy_": 3,
            "copy from cuda to cpu": 6,
        }  # coordinates, results
        assert found == losses(engine(exact if dtype == "float64" else floats(), dtype=dtype))


@pytest.mark.parametrize("made", [pixels, floats])
def test_what_does_not_fit_is_moved_batch_by_batch(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = np.linspace(-1.0, 1.0, HessianOperator(network(), made()).size, dtype=np.float32)
    with pretended_gpu() as gpu:
        expected = losses(engine(made()))
        product = HessianOperator(network(), made(), device="cuda", batch_size=7) @ vector
        monkeypatch.setattr(landscape.examples, "free_bytes", lambda device: 4000)
        one = engine(made())
        assert one.about["cuda_graph"] == "no: the examples don't fit the GPU and are moved for each point"
        assert losses(one) == expected
        assert (HessianOperator(network(), made(), device="cuda", batch_size=7) @ vector == product).all()
        assert not any(gpu.has(part) for part in made().to("cuda", torch.float32).tensors)
