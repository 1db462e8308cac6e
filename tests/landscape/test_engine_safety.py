"""The caller's model stays as it was, whatever happens; recalibration; settings of PyTorch."""

from __future__ import annotations

import gc
import re
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from devices import devices
from engine_cases import (
    NETWORKS,
    directions,
    examples,
    images,
    moved,
    network,
    plain_values,
    tensors_or_batches,
    unchanged,
)
from torch import Tensor, nn

from landscape.compute import compute_surface
from landscape.engine import Engine
from landscape.engine.batch_norm import Recalibration
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
        raised = UserError if error is RuntimeError else error
        with pytest.raises(raised) as told:
            engine.evaluate((1.0, 1.0))
        if raised is UserError:
            assert "the loss fails at the point (1, 1): RuntimeError" in str(told.value)
            assert isinstance(told.value.__cause__, RuntimeError)
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


def test_a_single_example_has_no_statistics() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    one = (torch.randn(1, 4), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(UserError, match="a single example; give more examples, or keep"):
        compute_surface(model, one, points=3, batch_norm="recalibrate")


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


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", NETWORKS)
def test_every_device_gives_the_plain_losses(name: str, device: str) -> None:
    model = network(name)
    along = directions(model)
    engine = Engine(model, examples(), classification, along, device=device, batch_size=13)
    for point in ((0.0, 0.0), POINT, (1.0, 0.7), POINT):
        plain = float(plain_values(network(name), along, point)[0].mean())
        assert engine.evaluate(point)["test"].mean("loss") == pytest.approx(plain, rel=1e-4)
    if device == "cuda" and NETWORKS[name][1]:
        assert engine.about["cuda_graph"] is True


def test_an_engine_is_gone_with_its_last_reference() -> None:
    engine = Engine(network("vgg"), examples(), classification, [])
    gone = weakref.ref(engine)
    gc.disable()  # what holds itself in a circle waits for the collector, and a GPU's memory with it
    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()


TYPES = [("bfloat16", 5e-2), ("float64", 1e-6)]
ON_DEVICES = [
    (device, *one)
    for device in devices()
    for one in [*TYPES, *([("tf32", 1e-2)] if device == "cuda" else [])]  # a format of GPUs
]


@pytest.mark.parametrize(("device", "dtype", "tolerance"), ON_DEVICES)
def test_types_of_numbers(device: str, dtype: str, tolerance: float) -> None:
    model = network("resnet option B")
    along = directions(model)
    engine = Engine(model, examples(), classification, along, device=device, dtype=dtype)
    plain = float(plain_values(network("resnet option B"), along, POINT, torch.float64)[0].mean())
    assert engine.evaluate(POINT)["test"].mean("loss") == pytest.approx(plain, rel=tolerance)
    assert engine.about["dtype"] == dtype


class Reading(nn.Module):
    """Applies a norm's statistics by itself, or calls it; a second norm is for training."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.helper, self.reads = nn.BatchNorm1d(4), reads
        with torch.no_grad():
            self.norm.running_mean.fill_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        h, norm = self.layer(x), self.norm
        if self.reads:
            h = F.batch_norm(h, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        else:
            h = norm(h)
        h = F.relu(h).mean((2, 3))
        return self.head(self.helper(h) if self.training else h)


def pixels() -> Examples:
    torch.manual_seed(1)
    return Examples.from_tensors(torch.randn(20, 1, 6, 6) * 5 + 3, torch.randint(3, (20,)))


def recalibrated(model: nn.Module) -> float:
    engine = Engine(model, {"test": pixels()}, classification, [], batch_norm="recalibrate")
    return engine.evaluate([])["test"].mean("loss")


def test_statistics_that_are_used_and_cannot_be_estimated_are_refused() -> None:
    called = recalibrated(Reading(reads=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, its files remain
        script = torch.jit.trace(Reading(reads=False).eval(), pixels().tensors[0])
    for model in (Reading(reads=True), script):
        with pytest.raises(UserError, match=r"running statistics of 'norm' can't be re-estimated.*fixed"):
            recalibrated(model)
    old = Reading(reads=False)
    old.norm.num_batches_tracked = None  # as in files of old versions
    assert recalibrated(old) == called


def test_norms_that_no_batch_passes_keep_their_statistics() -> None:
    model = Reading(reads=False).eval()
    model.helper.running_mean.fill_(7.0)
    one = Recalibration(model, classification, pixels().batches(10))
    one.run()
    one.run()
    assert model.helper.running_mean.tolist() == [7.0] * 4
    assert model.helper.running_var.tolist() == [1.0] * 4


def test_instance_norm_that_keeps_statistics_is_recalibrated() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True), nn.Flatten(), nn.Linear(64, 3)
    ).eval()
    with torch.no_grad():
        features = [model[0](inputs) for inputs, _ in pixels().batches(10)]
    Recalibration(model, classification, pixels().batches(10)).run()
    mean = torch.stack([one.mean((2, 3)).mean(0) for one in features]).mean(0)
    variance = torch.stack([one.var((2, 3)).mean(0) for one in features]).mean(0)
    torch.testing.assert_close(model[1].running_mean, mean)
    torch.testing.assert_close(model[1].running_var, variance)
    assert not model[1]._forward_pre_hooks
    assert not model[1].training


@pytest.mark.parametrize(("first", "refused"), [(lambda x: x.sub_(0.1), True), (Tensor.relu_, False)])
@pytest.mark.parametrize("given", [True, False])
def test_examples_stay_as_they_are_whatever_the_network_does_to_its_input(
    first: Any, refused: bool, given: bool
) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(first(x))

    inputs, labels, data = tensors_or_batches(given)
    before = inputs.clone()
    if refused:
        with pytest.raises(UserError, match="the batch itself changes from call to call"):
            compute_surface(Writing(), data, points=3)
    else:
        found = compute_surface(Writing(), data, points=3, exact_grid=True)
        expected = F.cross_entropy(Writing()(inputs.clone()), labels).detach()
        assert found.loss[1, 1] == pytest.approx(float(expected), rel=1e-5)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("there", [True, False], ids=["workers", "here"])
def test_a_loss_that_fails_off_the_network_is_told_with_its_point(there: bool) -> None:
    torch.manual_seed(0)
    model, data = nn.Linear(5, 3), (torch.randn(20, 5), torch.arange(20) % 3)
    with ThreadPoolExecutor(1) as pool, pytest.raises(UserError) as told:
        compute_surface(
            model, data, loss=narrow, points=3, span=9.0, exact_grid=True, executor=pool if there else None
        )
    words = r"the loss fails at the point \(-?[09], -?9\): ValueError: boom \(test_engine_safety.py:\d+\)"
    assert re.fullmatch(words, str(told.value))


def narrow(model: Any, batch: Any) -> LossResult:
    values = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
    if float(values.mean()) > 3:
        raise ValueError("boom")
    return values, len(values)
