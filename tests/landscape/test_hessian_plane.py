"""``--plane hessian``: eigenvectors as directions, found once, refused where they make no sense."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Outcome, save_images, surface, tiny
from small_network import bits

sys.path.append(str(Path(__file__).resolve().parents[1] / "analysis"))

from hessian_cases import explicit, kept, seeded

from analysis.hessian import HessianOperator, load_spectrum
from landscape import load_surface
from landscape.commandline.options import DataOptions, NetworkOptions
from landscape.commandline.subject import load_examples, load_network
from landscape.keeping.partial import state_path
from landscape.plot.text import axis_title, conventions_text
from landscape.surface import Surface
from landscape.surface.hessian_plane import spectrum_path
from landscape.viewer.page_data import payload

STEP = 1e-3
SMALL = ["--data", "npz:images.npz", "--threads", 1, "--device", "cpu", "--model", "command:tiny"]
EXACT = [*SMALL, "--points", 3, "--span", STEP, "--dtype", "float64", "--no-page", "--no-plot"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of which half of the convolution is pruned, and images."""
    folder = tmp_path_factory.mktemp("plane")
    state = seeded(tiny, 0).float().state_dict()
    state["0.weight"][:, :, ::2] = 0
    torch.save(state, folder / "net.pt")
    save_images(folder / "images.npz")
    return folder


def run(*arguments: object, folder: Path, output: Path) -> Outcome:
    rest = arguments if "--examples" in arguments else (*arguments, "--examples", 10)
    return surface("net.pt", "--plane", "hessian", *EXACT, *rest, "-o", output, folder=folder)


def made(*arguments: object, folder: Path, output: Path) -> Surface:
    outcome = run(*arguments, folder=folder, output=output)
    assert outcome.code == 0, outcome.err
    return load_surface(output / "net.surface.h5")


def test_axes_are_unit_eigenvectors_of_the_kept_weights(folder: Path, tmp_path: Path) -> None:
    found = made("--keep-directions", folder=folder, output=tmp_path)
    about, loss = found.planes[0].about, found.loss
    first, second = found.planes[0].directions
    loaded = load_network(folder / "net.pt", NetworkOptions(model="command:tiny"))
    data, _ = load_examples(loaded, DataOptions(data=f"npz:{folder / 'images.npz'}", examples=10))
    (batch,) = data["train"].to("cpu", torch.float64).batches(10)
    mask = {"0.weight": loaded.model[0].weight != 0}  # type: ignore[index]
    inside = kept(loaded.model, mask)
    whole = explicit(loaded.model.double(), batch)[2]
    expected = np.linalg.eigvalsh(whole[np.ix_(inside, inside)])[::-1][:2]
    np.testing.assert_allclose(about["eigenvalues"], expected, rtol=1e-4)
    middle = loss[1, 1]
    curvatures = [loss[2, 1] - 2 * middle + loss[0, 1], loss[1, 2] - 2 * middle + loss[1, 0]]
    np.testing.assert_allclose(np.array(curvatures) / STEP**2, expected, rtol=1e-2)
    flat = np.stack([np.concatenate([one.ravel() for one in axis.values()]) for axis in (first, second)])
    np.testing.assert_allclose(flat @ flat.T, np.eye(2), atol=1e-3)
    for axis in (first, second):
        assert not axis["0.weight"][~mask["0.weight"].numpy()].any()
    norm = sum(float(one.detach().double().square().sum()) for one in loaded.model.parameters()) ** 0.5
    assert about["weights_norm"] == pytest.approx(norm)
    assert (about["kind"], about["normalize"], about["mask"]) == ("hessian", "none", "zeros")


def test_kind_eigenvalues_and_unit_are_stated(folder: Path, tmp_path: Path) -> None:
    found = made(folder=folder, output=tmp_path)
    plane = found.planes[0]
    titles = [f"{axis} (distance, λ{number} = {value:.3g})" for axis, number, value in zip(
        "αβ", "₁₂", plane.about["eigenvalues"], strict=True)]  # fmt: skip
    assert [axis_title(plane.about, "α", "alpha_to"), axis_title(plane.about, "β", "beta_to")] == titles
    assert "Hessian eigenvectors\u00a0· not normalized" in conventions_text(found, plane, "loss", "train")
    shown = payload([found], [{}])["surfaces"][0]["planes"][0]
    assert (shown["axes"], shown["name"]) == (titles, "Hessian eigenvectors")


def test_a_line_takes_the_top_one(folder: Path, tmp_path: Path) -> None:
    found = made("--dim", 1, folder=folder, output=tmp_path)
    assert found.dim == 1
    assert len(found.planes[0].about["eigenvalues"]) == 1


def test_normalized_it_says_so(folder: Path, tmp_path: Path) -> None:
    found = made("--normalize", "layer", "--keep-directions", folder=folder, output=tmp_path)
    about = found.planes[0].about
    assert about["axes"][0].startswith("layer-normalized, λ₁ = ")
    state = torch.load(folder / "net.pt")
    axis = found.planes[0].directions[0]
    assert np.linalg.norm(axis["5.weight"]) == pytest.approx(float(state["5.weight"].norm()), rel=1e-5)


def test_eigenvectors_are_found_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(folder=folder, output=tmp_path)
    assert load_spectrum(spectrum_path(tmp_path / "net.surface.h5")).converged
    (tmp_path / "net.surface.h5").unlink()
    monkeypatch.setattr(HessianOperator, "multiply", None)
    assert bits(made(folder=folder, output=tmp_path)) == bits(first)


def test_a_stopped_search_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(folder=folder, output=tmp_path / "whole")
    products = load_spectrum(spectrum_path(tmp_path / "whole" / "net.surface.h5")).products
    multiply, calls = HessianOperator.multiply, 0

    def stopping(self: HessianOperator, vectors: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            signal.raise_signal(signal.SIGINT)
        return multiply(self, vectors)

    monkeypatch.setattr(HessianOperator, "multiply", stopping)
    outcome = run(folder=folder, output=tmp_path / "two")
    assert outcome.code == 130
    assert "same command" in outcome.err
    assert state_path(spectrum_path(tmp_path / "two" / "net.surface.h5")).exists()
    assert bits(made(folder=folder, output=tmp_path / "two")) == bits(whole)
    assert calls <= products + 1  # what was found is not computed again
    assert sorted(one.name for one in (tmp_path / "two").iterdir()) == [
        "net.plane.hessian.h5",
        "net.surface.h5",
    ]


def test_other_settings_are_refused_and_overwritten(folder: Path, tmp_path: Path) -> None:
    made(folder=folder, output=tmp_path)
    before = (tmp_path / "net.surface.h5").read_bytes()
    assert "other settings" in run("--examples", 20, folder=folder, output=tmp_path).error
    assert (tmp_path / "net.surface.h5").read_bytes() == before
    found = made("--examples", 20, "--overwrite", folder=folder, output=tmp_path)
    assert found.planes[0].about["examples"] == 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--between", "net.pt"], "--between exclude"),
        (["--directions", "net.pt"], "--directions exclude"),
        (["--planes", 2], "leave out --planes"),
        (["--batch-norm", "recalibrate"], "fixed batch norm"),
    ],
)
def test_combinations_without_sense(arguments: list[object], said: str, folder: Path, tmp_path: Path) -> None:
    assert said in run(*arguments, folder=folder, output=tmp_path).error
    assert not list(tmp_path.iterdir())


def test_random_beside_other_kinds_is_refused(folder: Path, tmp_path: Path) -> None:
    outcome = surface("net.pt", "--plane", "random", "--between", "net.pt", "-o", tmp_path, folder=folder)
    assert "--plane random and --between exclude" in outcome.error
