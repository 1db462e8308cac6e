"""Hessians, sharpness and curvature maps of workers: what one process gives, several checkpoints at once."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "landscape"))

from command import save_images, surface, tiny
from hessian_cases import seeded
from inside_cluster import inside_cluster

from analysis.curvature.__main__ import main as curvature
from analysis.hessian.__main__ import main as hessian
from analysis.hessian.spectrum_file import load_spectrum
from analysis.sharpness.__main__ import main as sharpness
from landscape import load_surface

pytest.importorskip("distributed")

MODEL = ["--model", "command:tiny", "--device", "cpu", "--data", "npz:images.npz", "--quiet"]
SPECTRUM = ["--top", "2", "--tolerance", "0.05", "--density-probes", "2", "--density-steps", "4"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate("abc"):
        torch.save(seeded(tiny, number).float().state_dict(), tmp_path / f"{name}.pt")
    save_images(tmp_path / "images.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Of the clusters that commands start, which are threads of this process."""
    items = list[Any]()

    @contextlib.contextmanager
    def local(count: int, **_: Any) -> Iterator[Any]:
        with inside_cluster(count) as cluster:
            usual = cluster.several

            def several(parcel: Any, some: Any) -> Any:
                items.extend(some)
                return usual(parcel, some)

            cluster.several = several  # type: ignore[method-assign]
            yield cluster

    monkeypatch.setattr("landscape.workers.local.local_cluster", local)
    return items


NETS = ["a.pt", "b.pt", "c.pt"]


def test_spectra_of_several_checkpoints(folder: Path, sent: list[Any]) -> None:
    for output, more in (("here", []), ("there", ["--workers", "2"])):
        hessian([*NETS, *MODEL, *SPECTRUM, "--examples", "10", "-o", output, *more])
    assert set(sent) == {"spectrum"}
    assert len(sent) >= 3  # again where a worker had no time for network and examples yet
    known = len(sent)
    for name in "abc":
        one, other = (load_spectrum(folder / place / f"{name}.hessian.h5") for place in ("here", "there"))
        assert one.settings == other.settings
        assert one.top.values.tobytes() == other.top.values.tobytes()
        assert (one.trace, one.frobenius, one.products) == (other.trace, other.frobenius, other.products)
        assert one.density is not None
        assert other.density is not None
        for first, second in zip(one.density.nodes, other.density.nodes, strict=True):
            assert np.asarray(first).tobytes() == np.asarray(second).tobytes()
    assert not list((folder / "there").glob("*.partial"))
    hessian([*NETS, *MODEL, *SPECTRUM, "--examples", "10", "-o", "there", "--workers", "2"])
    assert len(sent) == known, "what is finished isn't sent"


def test_measures_of_several_checkpoints(folder: Path, sent: list[Any]) -> None:
    few = [
        "--examples",
        "10",
        "--measures",
        "sam",
        "gaussian",
        "keskar",
        "--draws",
        "2",
        "--dtype",
        "float64",
    ]
    for output, more in (("here.json", []), ("there.json", ["--workers", "2"])):
        sharpness([*NETS, *MODEL, *few, "-o", output, *more])
    assert set(sent) == {"sam", "gaussian", "keskar"}
    assert len(sent) >= 9
    one, other = (json.loads((folder / name).read_text())["results"] for name in ("here.json", "there.json"))
    assert one == other
    assert [list(entry["measures"]) for entry in one] == [list(entry["measures"]) for entry in other]


def test_a_map(folder: Path, sent: list[Any]) -> None:
    for name in ("here", "there"):
        told = ["a.pt", *MODEL, "--examples", "20", "--points", "3", "--no-page", "--no-plot"]
        assert surface(*told, "-o", f"{name}.surface.h5", folder=folder).code == 0
    for name, more in (("here", []), ("there", ["--workers", "2"])):
        told = [f"{name}.surface.h5", "a.pt", *MODEL, "--max-points", "4", "--no-page", "--no-plot"]
        curvature([*told, *more])
    assert len(sent) >= 4
    one, other = (load_surface(folder / f"{name}.surface.h5").planes[0] for name in ("here", "there"))
    for metric in ("lambda_max", "lambda_min", "lambda_ratio"):
        found = [plane.splits["train"].metrics[metric].values.tobytes() for plane in (one, other)]
        assert found[0] == found[1]
