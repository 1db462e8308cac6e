"""The caller's model stays as it was, whatever happens; recalibration; settings of PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from engine_cases import NETWORKS, directions, examples, images, moved, network, unchanged
from torch import nn

from landscape.engine import Engine
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import LossResult, classification

POINT = (0.4, -0.3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("name", ["resnet option A", "undecided"])
def test_interrupted_in_the_middle_of_a_point(name: str, error: type[BaseException]) -> None:
    armed = False

    def loss(model: Any, batch: Any) -> LossResult:
        if armed and batch[1].data_ptr() != first:
            raise error
        return classification(model, batch)

    model = network(name)
    data = examples()
    first = data["test"].tensors[1].data_ptr()
    with unchanged(model):
        engine = Engine(model, data, loss, directions(model), batch_size=8)
        before = engine.evaluate(POINT)["test"].sums["loss"].tobytes()
        armed, threads = True, torch.get_num_threads()
        with pytest.raises(error):
            engine.evaluate((1.0, 1.0))
        assert torch.get_num_threads() == threads
        armed = False
        assert engine.evaluate(POINT)["test"].sums["loss"].tobytes() == before


def test_model_that_changes_later_does_not_change_the_engine() -> None:
    model = network("vgg")
    engine = Engine(model, examples(), classification, directions(model))
    before = engine.evaluate(POINT)["test"].mean("loss")
    with torch.no_grad():
        for one in model.parameters():
            one.zero_()
    assert engine.evaluate(POINT)["test"].mean("loss") == before


def test_settings_of_pytorch_stay() -> None:
    model = network("vgg")

    def state() -> list[object]:
        return [
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.random.get_rng_state().tolist(),
            torch.backends.cudnn.deterministic,
        ]

    before = state()
    Engine(model, examples(), classification, directions(model), batch_size=5).evaluate(POINT)
    assert state() == before


def test_works_inside_the_callers_inference_mode() -> None:
    model = network("resnet option A")
    expected = Engine(model, examples(), classification, directions(model)).evaluate(POINT)["test"]
    with torch.inference_mode():
        found = Engine(model, examples(), classification, directions(model)).evaluate(POINT)["test"]
    assert found.mean("loss") == expected.mean("loss")


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "perceptron"])
def test_recalibrated_running_statistics(name: str) -> None:
    model = network(name)
    along = directions(model)
    with unchanged(model):
        engine = Engine(model, examples(), classification, along, batch_norm="recalibrate")
        found = [engine.evaluate(point)["test"].mean("loss") for point in (POINT, (0.0, 0.0), POINT)]
    assert found[0] == found[2]
    inputs, labels = images()
    other = moved(network(name), along, POINT)
    with torch.no_grad():
        for norm in (one for one in other.modules() if isinstance(one, nn.BatchNorm2d)):
            norm.train()
            norm.momentum = 1.0  # all 50 examples are one batch, so its statistics are the average
        other(inputs)
        expected = F.cross_entropy(other.eval()(inputs), labels)
    assert found[0] == pytest.approx(float(expected), rel=1e-5)


def test_recalibration_on_other_examples() -> None:
    model = network("vgg")
    bright = Examples.from_tensors(images()[0] + 1.0, images()[1])
    kind: dict[str, Any] = {"batch_norm": "recalibrate"}
    own = Engine(model, examples(), classification, [], **kind)
    other = Engine(model, examples(), classification, [], recalibration=bright, **kind)
    assert own.evaluate([])["test"].mean("loss") != other.evaluate([])["test"].mean("loss")
    assert own.about["batch_norm"] == "recalibrate"


def test_model_that_cannot_be_copied() -> None:
    class Stuck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def __deepcopy__(self, memo: object) -> nn.Module:
            raise TypeError("no copies")

    with pytest.raises(UserError, match="no copies"):
        Engine(Stuck(), examples(), classification, [])


@pytest.mark.gpu
@pytest.mark.parametrize("name", NETWORKS)
def test_cuda_equals_cpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    model = network(name)
    along = directions(model)
    kinds = ("cpu", "cuda")
    engines = [Engine(model, examples(), classification, along, device=kind, batch_size=13) for kind in kinds]
    for point in ((0.0, 0.0), POINT, (1.0, 0.7), POINT):
        one, two = (engine.evaluate(point)["test"].mean("loss") for engine in engines)
        assert two == pytest.approx(one, rel=1e-4)
    assert engines[1].about["cuda_graph"] is (True if NETWORKS[name][1] else engines[1].about["cuda_graph"])


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [("tf32", 1e-2), ("bfloat16", 5e-2), ("float64", 1e-6)])
def test_cuda_types(dtype: str, tolerance: float) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    model = network("resnet option B")
    engine = Engine(model, examples(), classification, directions(model), device="cuda", dtype=dtype)
    expected = Engine(model, examples(), classification, directions(model)).evaluate(POINT)["test"]
    assert engine.evaluate(POINT)["test"].mean("loss") == pytest.approx(expected.mean("loss"), rel=tolerance)
