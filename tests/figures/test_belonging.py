"""Results are those of the run whose name they carry, and no copy counts as another run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_results import NETWORK, loss_of, run_name, surface_of

from figures.measures import measures_of
from figures.report import report
from figures.results import Results
from figures.studies import Studies
from landscape.errors import UserError
from landscape.files import sha256
from landscape.surface import Surface

SGD, S2SAM = (run_name("snip", 0.9, optimizer) for optimizer in ("sgd", "s2sam"))
SHA = {SGD: "a" * 64, S2SAM: "b" * 64}
LOSS = {SGD: 1.25, S2SAM: 1.5}
HEAD = "run,state,model,data,method,sparsity_asked,optimizer,seed,test_accuracy,test_loss,seconds\n"


def told(name: str, **more: Any) -> dict[str, Any]:
    metrics = {"test_accuracy": 0.5, "test_loss": LOSS[name], "kept_weights": 10}
    return {"checkpoint": {"file": "final", "sha256": SHA[name], "metrics": metrics}, **more}


def surface(name: str, about: Mapping[str, Any] | None = None) -> Surface:
    optimizer = "sgd" if name == SGD else "s2sam"
    one = surface_of(loss_of("snip", 0.9, optimizer))
    return replace(one, about={**one.about, **(about or told(name))})


def row(name: str, seconds: float, **other: str) -> str:
    optimizer = "sgd" if name == SGD else "s2sam"
    cells = {"model": "resnet20", "data": "cifar10", "method": "snip", "sparsity": "0.9",
             "optimizer": optimizer, "seed": "0", **other}  # fmt: skip
    return f"{name},finished,{','.join(cells.values())},0.5,{LOSS[name]},{seconds}\n"


def save(root: Path, name: str, one: Surface, kind: str = "surfaces") -> None:
    one.save(root / kind / f"{name}.surface.h5")


def table(root: Path, *rows: str) -> None:
    (root / "runs").mkdir(exist_ok=True)
    (root / "runs" / "results.csv").write_text(HEAD + "".join(rows))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (SGD, S2SAM):
        save(tmp_path, name, surface(name))
    table(tmp_path, row(SGD, 61.5), row(S2SAM, 62.5))
    return tmp_path


def missing(root: Path) -> dict[str, str]:
    return {name: why for cell in Results(root).cells for name, why in cell.missing.items()}


def test_own_surfaces_are_drawn(root: Path) -> None:
    assert missing(root) == {}


def test_swapped_surfaces_are_none_of_the_runs(root: Path) -> None:
    save(root, SGD, surface(S2SAM))
    save(root, S2SAM, surface(SGD))
    assert missing(root) == {
        SGD: "surface of another checkpoint: test loss 1.5, in results.csv 1.25",
        S2SAM: "surface of another checkpoint: test loss 1.25, in results.csv 1.5",
    }
    assert "another checkpoint: test loss" in report(Results(root))


def test_a_checkpoint_that_is_here_decides(root: Path) -> None:
    checkpoint = root / "runs" / SGD / "final.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    one = told(SGD)
    one["checkpoint"] |= {"sha256": sha256(checkpoint), "metrics": {"test_loss": 9.0}}
    save(root, SGD, surface(SGD, one))
    assert missing(root) == {}
    save(root, SGD, surface(SGD))
    assert missing(root) == {SGD: "surface of an earlier checkpoint"}


def test_one_checkpoint_never_counts_for_two_runs(root: Path) -> None:
    (root / "runs" / "results.csv").unlink()
    save(root, run_name("snip", 0.9, "sgd", 1), surface(SGD))
    with pytest.raises(UserError, match=f"{SGD} and .*seed1: their surfaces are of one checkpoint"):
        report(Results(root))


def test_a_copied_row_never_counts_as_another_seed(root: Path) -> None:
    copied = row(SGD, 61.5, seed="1").replace("seed0", "seed1")
    table(root, row(SGD, 61.5), row(S2SAM, 62.5), copied)
    with pytest.raises(UserError, match="equal seconds, test loss and accuracy"):
        Results(root)


@pytest.mark.parametrize(
    ("key", "value"),
    [("model", "resnet32"), ("data", "cifar100"), ("method", "grasp"), ("sparsity", "0.5"),
     ("optimizer", "sam"), ("seed", "7")],
)  # fmt: skip
def test_a_run_whose_row_contradicts_its_name_is_left_out(root: Path, key: str, value: str) -> None:
    table(root, row(SGD, 61.5, **{key: value}), row(S2SAM, 62.5))
    found = Results(root)
    (why,) = missing(root).values()
    assert why.startswith(f"its row of results.csv says {'network' if key == 'model' else key} {value}, its")
    assert why.endswith("rename its folder and files, and repeat the sweep")
    assert [one["run"] for one in found.every_row] == [S2SAM]
    assert why in report(found)
    (root / "surfaces" / f"{SGD}.surface.h5").rename(root / "surfaces" / "mine.surface.h5")
    table(root, row(SGD, 61.5, **{key: value}))
    (root / "surfaces" / f"{S2SAM}.surface.h5").unlink()
    with pytest.raises(UserError, match=rf"{SGD} is left out, its row of results\.csv says .*{value}"):
        _ = Results(root).network


@pytest.mark.parametrize(
    ("part", "label"),
    [("-snip-", "-snip2-"), ("-sgd-", "-sgd2-"), ("resnet20-", "resnet20w8-"), ("-snip-", "-snip_mine-")],
)
def test_a_label_of_ones_own_may_stand_in_a_name(root: Path, part: str, label: str) -> None:
    name = SGD.replace(part, label)
    (root / "surfaces" / f"{SGD}.surface.h5").rename(root / "surfaces" / f"{name}.surface.h5")
    table(root, row(SGD, 61.5).replace(SGD, name), row(S2SAM, 62.5))
    found = Results(root, f"{label}cifar10" if "resnet" in label else NETWORK)
    assert name in [run.name for run in found.runs]
    assert len(found.every_row) == 2


@pytest.mark.parametrize(
    ("part", "other"),
    [("-snip-", "-mest_ems-"), ("-cifar10-", "-cifar100-"), ("resnet20-", "resnet32_wide-")],
)
def test_a_known_name_is_no_label(root: Path, part: str, other: str) -> None:
    model, method = "resnet32" if "_wide" in other else "resnet20", "mest_em" if "mest" in other else "snip"
    name = SGD.replace(part, other)
    table(root, row(SGD, 61.5, model=model, method=method).replace(SGD, name), row(S2SAM, 62.5))
    assert [one["run"] for one in Results(root).every_row] == [S2SAM]


def test_a_distribution_stands_in_the_name_alone(root: Path) -> None:
    table(root, row(SGD, 61.5).replace("-snip-", "-snip_uniform-"))
    assert Results(root).network == NETWORK


def test_a_surface_of_another_network_is_none_of_the_run(root: Path) -> None:
    save(root, SGD, surface(SGD, told(SGD, architecture="vgg19")))
    assert missing(root) == {SGD: "surface of another checkpoint: architecture vgg19"}
    save(root, SGD, surface(SGD, told(SGD, architecture="my.module:net")))
    assert missing(root) == {}


def test_a_study_is_of_the_runs_checkpoint(root: Path) -> None:
    save(root, f"{SGD}.dense", surface(S2SAM), "studies")
    with pytest.raises(UserError, match=r"made otherwise.* of the checkpoints aaaaaaaaaaaa and bbbbbbbbbbbb"):
        assert Studies(Results(root)).all
    save(root, f"{SGD}.dense", surface(SGD), "studies")
    assert len(Studies(Results(root)).all) == 1


def test_a_hessian_is_of_the_runs_checkpoint(root: Path) -> None:
    (root / "hessian").mkdir()
    top = {"top": [{"value": 3.0, "residual": 0.1, "converged": True}], "trace": None}
    path = root / "hessian" / f"{SGD}.json"
    path.write_text(json.dumps({**top, "about": told(S2SAM)}))
    with pytest.raises(UserError, match=r"of another checkpoint than the run's: test loss 1\.5"):
        measures_of(root, SGD, "", Results(root).row(SGD))
    path.write_text(json.dumps({**top, "about": told(SGD)}))
    assert measures_of(root, SGD, "", Results(root).row(SGD))["lambda_max"].value == 3.0


def test_a_name_that_is_a_path_opens_no_file(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "runs", tmp_path / "runs" / "a"):
        (place / "final.pt").write_bytes(b"another's")
    found = Results(tmp_path)
    told = [
        found.not_of(name, {}, "0" * 64) for name in ("a", "../runs/a", "..", ".", "", "a/", str(tmp_path))
    ]
    assert told == ["an earlier checkpoint", *[""] * 6]
