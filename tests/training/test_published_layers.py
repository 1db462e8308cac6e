"""What a method masks and counts by default, and what a result says about the layers that are left."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from loop_helpers import CPU, SMALL, fit
from scoring_cases import FakeSource, NoData, equal, seeded
from torch import Tensor, nn
from torch.func import functional_call, grad

from landscape.checkpoint.format import encode
from landscape.errors import UserError
from training import coverage, masks
from training.__main__ import _print_result, main
from training.checkpoint import RunFolder
from training.config import RunConfig
from training.data import load_splits
from training.masks import Layer, prunable
from training.models import build_model
from training.sparsity import METHODS, Dense
from training.sparsity.base import MaskedMethod
from training.sparsity.dsr import Dsr
from training.sparsity.grasp import GraSP
from training.sparsity.lt import LotteryTicket
from training.sparsity.mest_em import MestEm
from training.sparsity.mest_ems import MestEms
from training.sparsity.random import Random
from training.sparsity.ranking import keep_top
from training.sparsity.rigl import Rigl
from training.sparsity.set_evolution import Set
from training.sparsity.snip import Snip
from training.sweep.length import planned_epochs
from training.sweep.older import completed
from training.sweep.plan import make_plan

STEM, CLASSIFIER = "conv1.weight", "linear.weight"
SHORTCUTS = ["layer2.0.shortcut.0.weight", "layer3.0.shortcut.0.weight"]


@pytest.fixture(scope="module")
def wide() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model("resnet32_wide")


@pytest.mark.parametrize(
    ("method", "dense"),
    [
        (MestEm(), [STEM, *SHORTCUTS, CLASSIFIER]),
        (MestEms(), [STEM, *SHORTCUTS, CLASSIFIER]),
        (Dsr(), [STEM, *SHORTCUTS]),
        (Rigl(), []),
        (Rigl(distribution="uniform"), [STEM]),
        (Set(), []),
        (Set(distribution="uniform"), [STEM]),
        *((METHODS[name](), []) for name in ("snip", "grasp", "synflow", "lt", "magnitude", "random")),
        (MestEm(keep_dense=()), []),
        (Dsr(keep_dense=("last",)), [CLASSIFIER]),
        (Rigl(distribution="uniform", keep_dense=("none",)), []),
    ],
)
def test_what_the_authors_keep_dense(wide: nn.Module, method: MaskedMethod, dense: list[str]) -> None:
    assert [name for name in prunable(wide) if name not in method.maskable(wide)] == dense


def test_sparsity_is_counted_as_the_authors_do(wide: nn.Module) -> None:
    """0.98 of the 1,843,200 weights in 30 block convolutions is 97.1 % of all 1,860,522 parameters."""
    mask = MestEm(0.98).init_mask(wide, NoData(), seeded())
    total = sum(part.numel() for part in mask.values())
    assert (len(mask), total) == (30, 1_843_200)
    parameters = sum(one.numel() for one in wide.parameters())
    assert parameters == 1_860_522
    assert masks.sparsity(mask) == pytest.approx(0.98, abs=1e-6)
    assert (total - masks.kept(mask)) / parameters == pytest.approx(0.97088, abs=1e-5)
    assert sum(weight.numel() for weight in GraSP().maskable(wide).values()) == 1_855_584


def test_one_spelling_for_the_same_layers() -> None:
    """Settings name a run; the order in which layers are said, and how nothing is said, don't."""
    assert MestEm(keep_dense=("shortcut", "first", "first")) == MestEm(keep_dense=("first", "shortcut"))
    assert MestEm(keep_dense=("none",)) == MestEm(keep_dense=())
    assert MestEm(keep_dense=("last", "shortcut", "first")) == MestEm()
    assert MestEm(keep_dense=("published",)) == MestEm()
    for alone in ("none", "published"):
        with pytest.raises(UserError, match=f"keep-dense {alone} first: {alone} goes with no other"):
            GraSP(keep_dense=(alone, "first"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "dense"),
    [
        ("", ("first", "last", "shortcut")),
        ("--keep-dense published", ("first", "last", "shortcut")),
        ("--keep-dense none", ()),
        ("--keep-dense=none", ()),
        ("--keep-dense first last", ("first", "last")),
        ("--keep-dense=last --keep-dense=first", ("first", "last")),
    ],
)
def test_the_command_line_says_the_layers(
    monkeypatch: pytest.MonkeyPatch, words: str, dense: tuple[str, ...]
) -> None:
    trained: list[RunConfig] = []
    monkeypatch.setattr("training.__main__.run", lambda config, machine: trained.append(config))
    main(["--method", "mest_em", *words.split()])
    assert trained[0].method.keep_dense == dense  # type: ignore[attr-defined]


@pytest.mark.parametrize("keep_dense", [("published",), ("last",)])
def test_networks_of_dense_layers_alone_are_refused(keep_dense: tuple[Layer, ...]) -> None:
    with pytest.raises(UserError, match=r"keep-dense .*no other convolution or linear layer to mask"):
        MestEm(keep_dense=keep_dense).init_mask(nn.Sequential(nn.Linear(4, 3)), NoData(), seeded())


def test_specs_take_none_and_the_default() -> None:
    def keep_dense(options: dict[str, Any]) -> list[str]:
        matrix = {"methods": ["mest_em"], "sparsities": [0.9], "optimizers": ["sgd"]}
        spec = {"output": "x", "matrix": [matrix], "method": {"mest_em": options}}
        found: list[str] = make_plan(spec, "here.toml").runs[0].settings["method"]["keep_dense"]
        return found

    assert keep_dense({}) == ["first", "last", "shortcut"]
    assert keep_dense({"keep-dense": ["none"]}) == []
    assert keep_dense({"keep-dense": ["shortcut", "first"]}) == ["first", "shortcut"]


def small_resnet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model("resnet20", num_classes=3, widths=(4, 6, 8))


def test_snip_ranks_in_double_precision() -> None:
    """The mask of scores computed by torch.func in float64, weight for weight."""
    images, labels = FakeSource().draw(64, seeded(2))
    model = small_resnet().double().eval()
    weights = {name: weight.detach() for name, weight in prunable(model).items()}

    def loss(at: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(model, at, (images.double(),)), labels)

    gradients = grad(loss)(weights)
    expected = keep_top({name: (weights[name] * gradients[name]).abs() for name in weights}, 0.9)
    found = Snip(0.9, images_per_batch=64).init_mask(small_resnet(), FakeSource(), seeded(2))
    assert equal(found, expected)


def test_grasp_ranks_in_double_precision() -> None:
    """The same for the Hessian's product with the gradient: the gradient of g · ∇L at fixed g."""
    images, labels = FakeSource().draw_balanced(10, seeded(2))
    model = small_resnet().double()
    weights = {name: weight.detach() for name, weight in prunable(model).items()}

    def loss(at: dict[str, Tensor]) -> Tensor:
        fresh = copy.deepcopy(model)  # batch norm writes its statistics
        for module in fresh.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None
        return F.cross_entropy(functional_call(fresh, at, (images.double(),)) / 200, labels)

    gradients = grad(loss)(weights)
    products = grad(lambda at: sum((grad(loss)(at)[name] * gradients[name]).sum() for name in at))(weights)
    expected = keep_top({name: weights[name] * products[name] for name in weights}, 0.9)
    method = GraSP(0.9, chunks=1, redraw_classifier=False)
    assert equal(method.init_mask(small_resnet(), FakeSource(), seeded(2)), expected)


def test_filters_and_classes_without_a_weight() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(4, 5))
    first = torch.tensor([1, 0, 1, 0]).bool().reshape(4, 1, 1, 1)
    last = torch.zeros(5, 4, dtype=torch.bool)
    last[[0, 2, 3], [1, 1, 2]] = True
    mask = {"0.weight": first, "2.weight": last}
    assert coverage.layer_counts(mask, mask) == {
        "0.weight": {"weights": 4, "kept": 2, "ever_active": 2, "filters": 4, "dead_filters": 2},
        "2.weight": {"weights": 20, "kept": 3, "ever_active": 3, "filters": 5, "dead_filters": 2},
    }
    assert coverage.classes_without_input(model, mask) == [1, 4]
    assert coverage.dense_layers(model, mask) == {}
    only_first = {"0.weight": first}
    assert coverage.classes_without_input(model, only_first) == []
    assert coverage.dense_layers(model, only_first) == {"2.weight": 20}
    found = {
        "layers": coverage.layer_counts(mask, mask),
        "dense_layers": {},
        "classes_without_input": [1, 4],
    }
    assert coverage.coverage_lines(found) == [
        "density       0 0.5, 2 0.15",
        "dead filters  4 of 9: 0 2, 2 2",
        "no input      2 classes: 1, 4; their logits are constant",
    ]
    assert coverage.coverage_lines({"layers": {}, "dense_layers": {"0.weight": 4}}) == [
        "density       1 in all 1 layers"
    ]


def test_a_result_says_what_was_spent_and_what_is_left(
    tiny_npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """72 images in steps of 16: rounds of 2 epochs, rewound to step 7 of 10, train 144 + 40 images."""
    method = LotteryTicket(0.8, prune_fraction=0.8, rewind_step=7)
    config = dataclasses.replace(SMALL, data=f"npz:{tiny_npz}", epochs=2, method=method)
    data = load_splits(config.data, config.validation, config.seed, CPU)
    checkpoint = fit(config, data, tmp_path)
    metrics = checkpoint.metrics
    assert (metrics["epochs_trained"], metrics["examples_trained"]) == (3, 144 + 16 + 16 + 8)
    assert planned_epochs(config) == 3
    assert metrics["dense_layers"] == {}
    for name, part in checkpoint.mask.items():
        rows = part.flatten(1).any(dim=1)
        assert metrics["layers"][name]["dead_filters"] == int((~rows).sum())
        assert metrics["layers"][name]["filters"] == len(rows)
    classes = checkpoint.mask[CLASSIFIER]
    assert metrics["classes_without_input"] == [n for n in range(4) if not classes[n].any()]
    _print_result(RunFolder(tmp_path, {}), metrics)
    shown = capsys.readouterr().out
    assert "3 epochs, 184 examples, over all rounds" in shown
    assert "dead filters" in shown
    assert f"linear {int(classes.sum()) / 32:.3g}\n" in shown


def test_results_of_earlier_versions_are_completed(tiny_npz: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, examples=70, epochs=2, method=Snip(0.95, images_per_batch=16))
    data = load_splits(f"npz:{tiny_npz}", config.validation, config.seed, CPU, examples=70)
    checkpoint = fit(config, data, tmp_path)
    new = checkpoint.metrics
    assert new["examples_trained"] == 140
    layers = {
        name: {key: one[key] for key in ("weights", "kept", "ever_active")}
        for name, one in new["layers"].items()
    }
    later = ("examples_trained", "classes_without_input", "dense_layers")
    old = {key: value for key, value in new.items() if key not in later} | {"layers": layers}
    found = completed(encode(dataclasses.replace(checkpoint, metrics=old)))
    assert found == {key: value for key, value in new.items() if key != "dense_layers"}
    assert sum(one["dead_filters"] for one in new["layers"].values()) > 0
    assert completed(encode(checkpoint)) == new
    assert completed({"metrics": old}) == old
    assert completed({"metrics": old, "sparse": {}}) == old


@pytest.mark.parametrize("steps", [0, 5, 7, 9])
def test_planned_epochs_are_those_of_the_run(tiny_npz: Path, steps: int) -> None:
    method = LotteryTicket(0.95, prune_fraction=0.8, rewind_step=steps)
    config = dataclasses.replace(SMALL, data=f"npz:{tiny_npz}", epochs=2, warmup=0.0, method=method)
    assert planned_epochs(config) == 2 + method.cuts * (2 - steps // 5)
    named = dataclasses.replace(config, data="cifar100", batch_size=64, epochs=4)
    assert planned_epochs(named) == 4 * (1 + method.cuts)
    late = dataclasses.replace(named, method=dataclasses.replace(method, rewind_step=2 * 704))
    assert planned_epochs(late) == 4 + method.cuts * 2  # 45,000 images, 704 steps an epoch
    absent = dataclasses.replace(late, data="npz:nowhere.npz")
    assert planned_epochs(absent) == 4 * (1 + method.cuts)
    assert planned_epochs(dataclasses.replace(SMALL, method=Dense())) == SMALL.epochs


def test_rounds_that_do_not_fit_fail_at_planning(tiny_npz: Path) -> None:
    def plan(**options: Any) -> None:
        matrix = {"methods": ["lt"], "sparsities": [0.9], "optimizers": ["sgd"]}
        recipe = {"data": f"npz:{tiny_npz}", "epochs": 2, "batch-size": 16, "warmup": 1}
        make_plan(
            {"output": "x", "recipe": recipe, "matrix": [matrix], "method": {"lt": options}}, "here.toml"
        )

    plan()
    with pytest.raises(UserError, match=r"here.toml: matrix 1: rewinding to step 10: .* only 10 steps"):
        plan(**{"rewind-step": 10})
    with pytest.raises(UserError, match=r"rewinding to step 7: .* only 5 steps"):
        plan(**{"rewind-step": 7, "search-epochs": 1})


def test_densities_are_of_every_layer(wide: nn.Module) -> None:
    mask = Random(0.9).init_mask(wide, NoData(), seeded())
    counts = coverage.layer_counts(mask, mask)
    assert list(counts) == list(prunable(wide))
    assert math.isclose(sum(one["kept"] for one in counts.values()), masks.kept(mask))
