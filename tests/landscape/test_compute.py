"""`compute_surface` against a plain double loop; the caller's model stays as it was; what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small_network import EXAMPLES, bits, brute_force, examples, small_network, state
from torch import Tensor, nn

from landscape.compute import compute_surface
from landscape.errors import UserError
from landscape.kept_weights import infer_mask
from landscape.losses import classification, regression
from landscape.planes import BetweenPlane, GivenPlane, PlaneSpec, RandomPlane
from landscape.planes.directions_file import read_directions
from landscape.progress import Progress
from landscape.surface import load_surface


def kept(model: nn.Module) -> dict[str, Tensor]:
    mask = infer_mask(dict(model.named_parameters()))
    assert mask is not None
    return mask


@pytest.mark.parametrize(
    ("dtype", "batch_size", "tolerance"),
    [("float32", None, 1e-5), ("float32", 5, 1e-5), ("float64", 7, 1e-10)],
)
def test_equals_a_double_loop(dtype: str, batch_size: int | None, tolerance: float) -> None:
    """7 × 3 points, a short last batch, two splits of different size, a mask."""
    model = small_network()
    data = {"train": examples(0), "test": examples(1, 10)}
    surface = compute_surface(
        model,
        data,
        points=(7, 3),
        span=0.8,
        plane=RandomPlane(4),
        dtype=dtype,
        batch_size=batch_size,
        device="cpu",
    )
    directions = RandomPlane(4).directions(dict(model.named_parameters()), kept(model), 2)
    assert surface.shape == (7, 3)
    assert surface.splits == ("train", "test")
    assert surface.complete
    assert surface.planes[0].computed.all()
    for name, part in data.items():
        loss, accuracy = brute_force(model, part, directions, surface.alpha, surface.beta)
        np.testing.assert_allclose(surface.metric("loss", split=name).values, loss, rtol=tolerance)
        np.testing.assert_allclose(surface.metric("accuracy", split=name).values, accuracy, atol=1e-12)
        assert surface.planes[0].splits[name].examples == len(part[1])
    assert surface.center == (3, 1)
    assert surface.planes[0].about["mask"] == "zeros"


def test_standard_errors_and_blocks_are_those_of_the_examples() -> None:
    model, (inputs, targets) = small_network(), examples()
    surface = compute_surface(model, (inputs, targets), points=3, device="cpu")
    with torch.no_grad():
        each = F.cross_entropy(model.eval()(inputs), targets, reduction="none").double().numpy()
    split = surface.planes[0].splits["data"]
    metric = split.metrics["loss"]
    assert metric.values[1, 1] == pytest.approx(each.mean(), rel=1e-6)
    assert metric.stderr[1, 1] == pytest.approx(each.std(ddof=1) / EXAMPLES**0.5, rel=2**-9)
    assert split.block_counts.sum() == EXAMPLES
    assert metric.blocks is not None
    cut = np.split(each, np.cumsum(split.block_counts)[:-1])
    np.testing.assert_allclose(metric.blocks[1, 1], [part.mean() for part in cut], rtol=2**-13 + 1e-6)


def test_adaptive_surface_is_the_exact_one_within_its_error() -> None:
    options: dict[str, Any] = {"points": 13, "plane": RandomPlane(1), "dtype": "float64", "device": "cpu"}
    sampled = compute_surface(small_network(), examples(), tolerance=0.03, **options)
    exact = compute_surface(small_network(), examples(), exact_grid=True, **options)
    computed = sampled.planes[0].computed
    assert exact.planes[0].computed.all()
    np.testing.assert_array_equal(sampled.loss[computed], exact.loss[computed])
    assert not computed.all()
    error = np.abs(sampled.loss - exact.loss).max()
    assert error <= 2 * sampled.metric("loss").error  # a network of 52 weights has kinks
    assert sampled.metric("loss").error <= 0.03 * np.ptp(exact.loss)


@pytest.mark.parametrize("points", [1, (1, 1), (5, 9)])
def test_lines(points: int | tuple[int, int]) -> None:
    model = small_network()
    surface = compute_surface(model, examples(), points=points, dim=1, device="cpu")
    count = points if isinstance(points, int) else points[0]
    assert surface.shape == (count, 1)
    assert surface.dim == 1
    assert surface.beta.tolist() == [0.0]
    directions = RandomPlane().directions(dict(model.named_parameters()), kept(model), 1)
    loss, _ = brute_force(model, examples(), directions, surface.alpha, surface.beta)
    np.testing.assert_allclose(surface.loss, loss, rtol=1e-5)


def test_single_point_is_the_network_itself() -> None:
    model = small_network()
    surface = compute_surface(model, examples(), points=1, device="cpu")
    loss, accuracy = brute_force(model, examples(), [], np.zeros(1), np.zeros(1))
    assert surface.shape == (1, 1)
    assert surface.center == (0, 0)
    assert surface.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert surface.accuracy.item() == accuracy.item()


def test_the_other_networks_lie_at_one() -> None:
    networks = [small_network(seed) for seed in range(3)]
    params = [dict(one.named_parameters()) for one in networks]
    for other in networks[1:]:  # the plane moves parameters only; statistics are the first network's
        other[1].load_state_dict({**other[1].state_dict(), **buffers(networks[0])})
    surface = compute_surface(
        networks[0], examples(), plane=BetweenPlane(params[1], params[2]), points=5, device="cpu"
    )
    at = {
        name: int(np.flatnonzero(surface.alpha == value)[0])
        for name, value in (("here", 0.0), ("there", 1.0))
    }
    expected = [brute_force(one, examples(), [], np.zeros(1), np.zeros(1))[0].item() for one in networks]
    assert surface.loss[at["here"], at["here"]] == pytest.approx(expected[0], rel=1e-5)
    assert surface.loss[at["there"], at["here"]] == pytest.approx(expected[1], rel=1e-5)
    assert surface.loss[at["here"], at["there"]] == pytest.approx(expected[2], rel=1e-5)


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("1."): value for name, value in model.named_buffers()}


def test_kept_directions_give_the_same_surface_again(tmp_path: Path) -> None:
    model, path = small_network(), tmp_path / "x.surface.h5"
    options: dict[str, Any] = {"points": (5, 3), "device": "cpu"}
    first = compute_surface(model, examples(), path=path, keep_directions=True, **options)
    assert bits(load_surface(path)) == bits(first)
    again = compute_surface(model, examples(), plane=read_directions(path, "none"), **options)
    np.testing.assert_array_equal(again.loss, first.loss)
    torch.save(
        [{k: torch.from_numpy(v) for k, v in one.items()} for one in first.planes[0].directions],
        tmp_path / "d.pt",
    )
    third = compute_surface(model, examples(), plane=read_directions(tmp_path / "d.pt", "none"), **options)
    np.testing.assert_array_equal(third.loss, first.loss)


def test_unusable_direction_files_are_refused(tmp_path: Path) -> None:
    compute_surface(small_network(), examples(), points=1, path=tmp_path / "bare.h5", device="cpu")
    (tmp_path / "text.pt").write_text("no tensors")
    torch.save({"w": torch.zeros(2)}, tmp_path / "dict.pt")
    torch.save([], tmp_path / "empty.pt")
    for name, words in {
        "none.pt": "no file",
        "none.h5": "no such file",
        "bare.h5": "holds no directions",
        "text.pt": "can't be read as directions",
        "dict.pt": "expected a list of dicts",
        "empty.pt": "expected a list of dicts",
    }.items():
        with pytest.raises(UserError, match=words):
            read_directions(tmp_path / name, "none")


def test_several_planes_share_grid_and_examples() -> None:
    planes: list[PlaneSpec] = [RandomPlane(0), RandomPlane(1), GivenPlane([{"5.bias": torch.ones(3)}] * 2)]
    surface = compute_surface(small_network(), examples(), plane=planes, points=3, device="cpu")
    assert [plane.about["kind"] for plane in surface.planes] == ["random", "random", "given"]
    losses = [surface.metric("loss", plane=number).values for number in range(3)]
    assert losses[0][1, 1] == losses[1][1, 1] == losses[2][1, 1]
    assert not np.allclose(losses[0], losses[1])
    np.testing.assert_allclose(losses[2], losses[2][1, 1], rtol=1e-5)  # softmax ignores a common bias
    alone = compute_surface(small_network(), examples(), plane=planes[1], points=3, device="cpu")
    np.testing.assert_array_equal(alone.loss, losses[1])


def dict_loss(model: Callable[..., Any], batch: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """A sum over the batch, of batches that are dicts: the smallest contract there is."""
    return F.mse_loss(model(batch["x"]), batch["y"], reduction="sum"), len(batch["x"])


def test_any_loss_on_any_batches() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        x, y = torch.randn(11, 3), torch.randn(11, 1)
    batches = [{"x": x[i : i + 4], "y": y[i : i + 4]} for i in range(0, 11, 4)]
    surface = compute_surface(model, batches, loss=dict_loss, points=5, device="cpu")
    assert list(surface.planes[0].splits["data"].metrics) == ["loss"]
    assert surface.planes[0].splits["data"].examples == 11
    same = compute_surface(model, (x, y), loss=regression, points=5, device="cpu")
    np.testing.assert_allclose(surface.loss, same.loss, rtol=1e-5)
    with torch.no_grad():
        assert surface.loss[2, 2] == pytest.approx(float(F.mse_loss(model(x), y)), rel=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("exact", [True, False])
def test_points_where_the_loss_is_no_number_are_marked(bad: float, exact: bool) -> None:
    def diverging(model: nn.Module, batch: Any) -> tuple[Tensor, int, dict[str, Tensor]]:
        loss, count, metrics = classification(model, batch)
        return torch.where(loss.mean() > 2.0, bad, loss), count, metrics

    surface = compute_surface(
        small_network(), examples(), loss=diverging, points=11, exact_grid=exact, batch_size=64, device="cpu"
    )
    plain = compute_surface(
        small_network(), examples(), points=11, exact_grid=True, batch_size=64, device="cpu"
    )
    computed = surface.planes[0].computed
    assert surface.complete
    assert not np.isnan(surface.loss).any()
    expected = np.where(plain.loss > 2.0, np.inf, plain.loss)
    np.testing.assert_allclose(surface.loss[computed], expected[computed], rtol=1e-5)
    assert np.isinf(surface.loss[computed]).any()
    assert np.isfinite(surface.loss[5, 5])
    assert np.isfinite(surface.accuracy).all()


def test_progress_is_told_after_every_point() -> None:
    told: list[Progress] = []
    surface = compute_surface(
        small_network(),
        examples(),
        plane=[RandomPlane(0), RandomPlane(1)],
        points=(5, 3),
        progress=told.append,
    )
    assert [one.done for one in told] == list(range(1, 31))
    assert {one.expected for one in told} == {30}
    assert [one.plane for one in told] == [1] * 15 + [2] * 15
    assert {one.planes for one in told} == {2}
    assert all(one.seconds_per_point > 0 for one in told)
    assert surface.about["timing"]["points"] == 30


def test_adaptive_progress_stays_below_what_is_expected() -> None:
    told: list[Progress] = []
    options: dict[str, Any] = {"points": 11, "tolerance": 0.05, "progress": told.append}
    surface = compute_surface(small_network(), examples(), plane=[RandomPlane(0), RandomPlane(1)], **options)
    assert all(one.done <= one.expected <= 2 * 121 for one in told)
    assert told[-1].done == sum(int(plane.computed.sum()) for plane in surface.planes)
    assert told[-1].done == len(told)


def failing_loss(kind: type[BaseException]) -> tuple[Callable[..., Any], list[bool]]:
    armed = [False]

    def loss(model: nn.Module, batch: Any) -> Any:
        result = classification(model, batch)
        if armed[0]:
            raise kind("stop")
        return result

    return loss, armed


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError, UserError])
@pytest.mark.parametrize("training", [True, False])
def test_model_is_bit_identical_afterwards(kind: type[BaseException], training: bool) -> None:
    model = small_network().train(training)
    before, grads = state(model), [value.requires_grad for value in model.parameters()]
    pointers = [value.data_ptr() for value in model.parameters()]
    torch_state, threads = torch.get_rng_state(), torch.get_num_threads()
    compute_surface(model, examples(), points=3, device="cpu")
    loss, armed = failing_loss(kind)

    def arm(_: Progress) -> None:
        armed[0] = True

    raised = UserError if issubclass(kind, Exception) else kind
    with pytest.raises(raised, match="stop"):
        compute_surface(model, examples(), loss=loss, points=3, device="cpu", progress=arm)
    assert state(model) == before
    assert [value.data_ptr() for value in model.parameters()] == pointers
    assert [value.requires_grad for value in model.parameters()] == grads
    assert all(value.grad is None for value in model.parameters())
    assert all(part.training == training for part in model.modules())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


def spoiled(value: float) -> nn.Module:
    model = small_network()
    with torch.no_grad():
        next(model.parameters()).view(-1)[:2] = value
    return model


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"points": 0}, "points must be at least 1"),
        ({"points": (3, 0)}, "points must be at least 1"),
        ({"span": float("nan")}, "span must be a positive, finite number"),
        ({"span": -1.0}, "span must be a positive, finite number"),
        ({"span": 1e-300}, "between 1e-30 and 1e"),
        ({"span": 1e300}, "between 1e-30 and 1e"),
        ({"tolerance": 0.0}, "tolerance must lie between 0 and 1"),
        ({"tolerance": float("nan")}, "tolerance must lie between 0 and 1"),
        ({"max_points": 0}, "max_points must be at least 1"),
        ({"plane": []}, "no plane given"),
        ({"device": "gpu7"}, "unknown device 'gpu7'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"mask": "magic"}, "unknown mask 'magic'"),
        ({"mask": {"none.weight": torch.ones(2, dtype=torch.bool)}}, "the mask names 'none.weight'"),
        ({"mask": {"5.weight": torch.ones(16, dtype=torch.bool)}}, "the mask of '5.weight'"),
        ({"mask": {"5.weight": torch.ones(3, 16)}}, "expected torch.bool"),
        ({"mask": {"5.weight": [[True] * 16] * 3}}, "is a list; expected a bool tensor of shape"),
        ({"mask": {"5.weight": None}}, "is a NoneType; expected a bool tensor"),
        ({"about": ["x"]}, "about is a list"),
        ({"plane": RandomPlane(0, "model")}, "unknown normalization 'model'"),  # type: ignore[arg-type]
        ({"plane": BetweenPlane({})}, "lacks the parameter"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        compute_surface(small_network(), examples(), **{"points": 3, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"about": {"x": object()}}, "can't be written: what it says of itself is no JSON .*expected texts"),
        ({"about": {"x": 1, 2: "y"}}, "is no JSON"),
        ({"label": 5}, "about.label is '5'; expected a text"),
        ({"mask_source": 5}, "mask is '5'; expected a text"),
    ],
)
def test_what_no_file_can_say_is_refused_before_anything_is_computed(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    calls = []

    def loss(model: Any, batch: Any) -> Any:
        calls.append(1)
        return classification(model, batch)

    with pytest.raises(UserError, match=words):
        compute_surface(small_network(), examples(), loss=loss, points=3, path=tmp_path / "a.h5", **options)
    assert not calls
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"max_points": np.int64(9)},
        {"tolerance": np.float32(0.1)},
        {"plane": RandomPlane(seed=np.int64(1))},  # type: ignore[arg-type]
        {"batch_size": np.int32(7)},
        {"at_a_time": np.int64(2)},
        {"keep_directions": np.bool_(True)},
        {"about": {"made": np.int64(3), "by": np.float32(0.5)}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_numpys_numbers_are_pythons_in_files(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.surface.h5"
    given = {"points": 3, **options}
    first, again = (compute_surface(small_network(), examples(), path=path, **given) for _ in range(2))
    assert bits(first) == bits(again)
    assert load_surface(path).settings == again.settings


def test_numbers_that_pytorch_can_only_store_are_refused() -> None:
    model = nn.Linear(4, 3)
    model.weight = nn.Parameter(model.weight.detach().to(torch.float8_e4m3fn))
    with pytest.raises(UserError, match=r"'weight' is float8_e4m3fn.*convert it: .to\(torch.float32\)"):
        compute_surface(model, (torch.randn(4, 4), torch.zeros(4, dtype=torch.int64)), points=3)


def test_parameters_without_entries_are_in_nobodys_way() -> None:
    class Empty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_network()
            self.none, self.flat = nn.Parameter(torch.empty(0, 4)), nn.Parameter(torch.empty(0))

        def forward(self, x: Any) -> Any:
            return self.inner(x)

    found = compute_surface(Empty(), examples(), points=3, exact_grid=True)
    plain = compute_surface(small_network(), examples(), points=1)
    assert found.loss[1, 1] == pytest.approx(plain.loss[0, 0], rel=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(UserError, match=r"2 NaN or infinite value\(s\), the first in '0.weight'"):
        compute_surface(spoiled(value), examples(), points=3)


def test_nothing_to_compute_is_refused() -> None:
    with pytest.raises(UserError, match="no parameters"):
        compute_surface(nn.Flatten(), examples(), points=3)
    for data in ({}, [], (torch.zeros(0, 1, 6, 6), torch.zeros(0, dtype=torch.int64))):
        with pytest.raises(UserError, match="no examples"):
            compute_surface(small_network(), data, points=3)


def test_a_given_mask_is_used_and_named() -> None:
    model = small_network(pruned=0.0)
    mask = {"5.weight": torch.zeros(3, 16, dtype=torch.bool)}
    surface = compute_surface(
        model, examples(), mask=mask, mask_source="mine", points=3, keep_directions=True
    )
    assert surface.planes[0].about["mask"] == "mine"
    assert surface.planes[0].about["density"] == 0.0
    for direction in surface.planes[0].directions:
        assert not direction["5.weight"].any()
        assert direction["0.weight"].any()
    dense = compute_surface(small_network(), examples(), mask="none", points=3, keep_directions=True)
    assert dense.planes[0].about["mask"] == "none"
    assert dense.planes[0].about["density"] is None
    assert (dense.planes[0].directions[0]["5.weight"] != 0).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("batch_norm", ["fixed", "recalibrate"])
def test_a_later_plane_has_the_bits_that_it_has_alone(dtype: str, batch_norm: str) -> None:
    """Whatever the plane before it left in the engine."""
    options: dict[str, Any] = {"points": 3, "device": "cpu", "dtype": dtype, "batch_norm": batch_norm}
    model, planes = small_network(), [RandomPlane(seed=seed) for seed in (0, 7)]
    both = compute_surface(model, examples(), plane=planes, **options)
    alone = compute_surface(model, examples(), plane=planes[1], **options)
    first, second = (plane.splits["data"].metrics["loss"].values for plane in both.planes)
    wanted = alone.planes[0].splits["data"].metrics["loss"].values
    assert np.array_equal(second, wanted)
    assert not np.array_equal(first, wanted)
