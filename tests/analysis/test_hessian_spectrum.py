"""Whole spectra of networks with known Hessians, and runs that are stopped and go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hessian_cases import convolutional, examples, explicit, kept, random_mask, seeded
from torch import Tensor, nn

import analysis.hessian
from analysis.hessian.operator import HessianOperator
from analysis.hessian.planes import eigenvector_plane
from analysis.hessian.result import Spectrum
from analysis.hessian.spectrum import hessian_spectrum
from analysis.hessian.spectrum_file import load_spectrum
from landscape.compute import compute_surface
from landscape.errors import UserError
from landscape.keeping import pace
from landscape.keeping.partial import state_path
from landscape.losses import regression
from landscape.progress import Progress

pytestmark = pytest.mark.slow  # among the first files that start

EXACT: dict[str, Any] = {"dtype": "float64", "device": "cpu", "tolerance": 1e-9, "mask": "none"}
SMALL: dict[str, Any] = {"device": "cpu", "top": 2, "density_probes": 2, "density_steps": 5, "batch_size": 9}


@pytest.mark.parametrize("masked", [False, True])
def test_a_network_against_its_explicit_hessian(masked: bool) -> None:
    model, data = convolutional(), examples()
    mask = random_mask(model) if masked else None
    inside = kept(model, mask or {})
    loss, gradient, hessian = explicit(model, data)
    hessian = hessian[np.ix_(inside, inside)]
    found = hessian_spectrum(
        model, data, **EXACT | {"mask": mask or "none"}, top=5, bottom=3, density_probes=20, density_steps=60
    )
    exact = np.linalg.eigvalsh(hessian)
    assert (found.n, found.full_size) == (len(exact), 99)
    assert found.converged
    np.testing.assert_allclose(found.top.values, exact[::-1][:5], rtol=1e-8)
    np.testing.assert_allclose(found.bottom.values, exact[:3], rtol=1e-8)
    assert abs(found.trace.value - exact.sum()) <= found.trace.error + 1e-9
    assert abs(found.frobenius.value - np.linalg.norm(exact)) <= found.frobenius.error + 1e-9
    assert found.stable_rank.value == pytest.approx((found.frobenius.value / exact[-1]) ** 2)
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert found.gradient_norm == pytest.approx(np.linalg.norm(gradient[inside]), rel=1e-10)
    assert found.density is not None
    second = found.density.moment(2)
    assert abs(second.value - np.mean(exact**2)) <= second.error + 1e-9
    directions = [*found.top.directions, *found.bottom.directions]
    for name, kept_weights in (mask or {}).items():
        assert all(not one[name][~kept_weights].any() for one in directions)
        assert any(one[name].any() for one in directions)
    vector = np.concatenate([one.reshape(-1).numpy() for one in found.bottom.directions[0].values()])[inside]
    np.testing.assert_allclose(hessian @ vector, exact[0] * vector, atol=1e-8)


def quadratic(values: list[float]) -> tuple[nn.Module, Callable[..., Any]]:
    """``½ Σ a_i w_i²`` at w = 0: the gradient is zero and the Hessian diagonal."""
    model = nn.Linear(len(values), 1, bias=False).double()
    nn.init.zeros_(model.weight)
    scale = torch.tensor(values, dtype=torch.float64)

    def loss(network: Any, batch: Any) -> tuple[Tensor, int]:
        weights = network(torch.eye(len(values), dtype=torch.float64))[:, 0]
        return (weights.square() * scale).sum() / 2 * len(batch[0]), len(batch[0])

    return model, loss


@pytest.mark.parametrize(
    ("values", "top", "bottom"),
    [
        ([4.0, 2.0, 1.0, -3.0], [4.0, 2.0], [-3.0]),
        ([0.0] * 8 + [5.0, 5.0], [5.0, 5.0], [0.0]),
        ([0.0] * 5, [0.0, 0.0], [0.0]),
    ],
)
def test_quadratic(values: list[float], top: list[float], bottom: list[float]) -> None:
    model, loss = quadratic(values)
    found = hessian_spectrum(model, (torch.zeros(3, 1), torch.zeros(3)), loss=loss, top=2, bottom=1, **EXACT)
    np.testing.assert_allclose(found.top.values, top, atol=1e-12)
    np.testing.assert_allclose(found.bottom.values, bottom, atol=1e-12)
    assert found.trace.value == pytest.approx(sum(values), abs=1e-9)
    assert found.gradient_norm == 0
    assert found.converged


def test_logistic_regression_in_closed_form() -> None:
    inputs = torch.randn(11, 4, generator=torch.Generator().manual_seed(0)).double()
    targets = torch.arange(11) % 3
    model = nn.Linear(4, 3).double()
    with_one = torch.cat([inputs, torch.ones(11, 1).double()], 1)
    share = torch.softmax(model(inputs), 1).detach()
    curved = torch.diag_embed(share) - share[:, :, None] * share[:, None, :]
    hessian = torch.einsum("nab,ni,nj->aibj", curved, with_one, with_one).reshape(15, 15) / 11
    found = hessian_spectrum(model, (inputs, targets), top=10, bottom=5, **EXACT)
    exact = np.linalg.eigvalsh(hessian.numpy())
    np.testing.assert_allclose(found.top.values, exact[::-1][:10], rtol=1e-8)
    np.testing.assert_allclose(
        found.bottom.values, np.zeros(5), atol=1e-9 * exact[-1]
    )  # 5 shifts of all scores
    assert found.trace.value == pytest.approx(float(hessian.trace()), rel=1e-9)


def test_a_saddle_shows_its_negative_eigenvalue() -> None:
    """``mean (t − w₂ w₁ x)²`` at w = 0: gradient zero, eigenvalues ±2 mean(t x)."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    for one in model.parameters():
        nn.init.zeros_(one)
    inputs, targets = torch.tensor([[1.0], [2.0]]).double(), torch.tensor([[3.0], [-1.0]]).double()
    found = hessian_spectrum(model, (inputs, targets), loss=regression, top=1, bottom=1, **EXACT)
    assert found.top.values[0] == pytest.approx(1.0)
    assert found.bottom.values[0] == pytest.approx(-1.0)
    assert found.gradient_norm == 0


def bits(spectrum: Spectrum) -> list[Any]:
    """Everything that was computed."""
    found: list[Any] = [spectrum.settings, spectrum.products, spectrum.loss, spectrum.gradient_norm]
    found += [spectrum.trace, spectrum.frobenius, spectrum.effective_rank, spectrum.n]
    for pairs in (spectrum.top, spectrum.bottom):
        found += [pairs.values.tobytes(), pairs.residuals.tobytes(), pairs.converged.tobytes()]
        found += [one[name].numpy().tobytes() for one in pairs.directions for name in sorted(one)]
    assert spectrum.density is not None
    return found + [one.tobytes() for one in (*spectrum.density.nodes, *spectrum.density.weights)]


def compute(path: Path | None = None, **options: Any) -> Spectrum:
    return hessian_spectrum(convolutional(), examples(), path=path, **{**SMALL, **options})


def test_every_state_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a kill at any time: only what was saved on the way is there."""
    monkeypatch.setattr(pace, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(pace, "SHARE", float("inf"))
    path = tmp_path / "x.hessian.h5"
    told: list[Progress] = []

    def keep(progress: Progress) -> None:
        told.append(progress)
        if state_path(path).exists() and progress.done % 4 == 1:
            shutil.copy(state_path(path), tmp_path / f"{progress.done}.h5.partial")

    whole = compute(path, progress=keep)
    assert not state_path(path).exists()
    assert whole.products == told[-1].done == told[-1].expected == len(told)
    copies = sorted(tmp_path.glob("*.h5.partial"))
    assert len(copies) >= 5
    for copy in copies:
        again: list[Progress] = []
        resumed = compute(tmp_path / copy.name.removesuffix(".partial"), progress=again.append)
        assert len(again) == whole.products - int(copy.name.split(".")[0]) + 1
        assert bits(resumed) == bits(whole)
        assert not copy.exists()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_a_stopped_run_keeps_its_state(tmp_path: Path, kind: type[BaseException]) -> None:
    path = tmp_path / "x.hessian.h5"

    def stop(progress: Progress) -> None:
        if progress.done == 7:
            raise kind("stop")

    with pytest.raises(kind, match="stop"):
        compute(path, progress=stop)
    assert not path.exists()
    told: list[Progress] = []
    assert bits(compute(path, progress=told.append)) == bits(compute())
    assert told[0].done == 8


def test_a_finished_file_is_read_and_not_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "x.hessian.h5"
    first = compute(path, keep_vectors=True)
    content = path.read_bytes()

    def never(progress: Progress) -> None:
        raise AssertionError("nothing is left to compute")

    again = compute(path, keep_vectors=True, progress=never)
    assert bits(again) == bits(first)
    assert again.about == first.about
    assert path.read_bytes() == content
    told: list[Progress] = []
    assert bits(compute(path, keep_vectors=True, overwrite=True, progress=told.append)) == bits(first)
    assert len(told) == first.products
    without = compute(tmp_path / "y.hessian.h5")
    assert without.top.directions
    assert not load_spectrum(tmp_path / "y.hessian.h5").top.directions
    with pytest.raises(UserError, match="holds 0 eigenvector"):
        eigenvector_plane(load_spectrum(tmp_path / "y.hessian.h5"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"top": 3}, "eigenvalues"),
        ({"tolerance": 0.01}, "eigenvalues"),
        ({"seed": 1}, "seed"),
        ({"density_steps": 6}, "density"),
        ({"trace_tolerance": 0.2}, "trace"),
        ({"mask": random_mask(convolutional())}, "mask"),
        ({"dtype": "float64"}, "operator"),
        ({"batch_size": 8}, "operator"),
        ({"loss": lambda model, batch: regression(lambda x: model(x)[:, 0], batch)}, "loss"),
    ],
)
def test_other_settings_are_refused_by_name(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "x.hessian.h5"

    def stop(progress: Progress) -> None:
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        compute(path, progress=stop)
    said = rf"other settings \({named}: the file has .*--overwrite"
    with pytest.raises(UserError, match=said) as error:
        compute(path, **change)
    assert str(state_path(path)) in str(error.value)
    compute(path)
    with pytest.raises(UserError, match=said):
        compute(path, **change)
    assert compute(path, overwrite=True, **change).settings != compute().settings


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.hessian.h5"
    path.write_text("something dear")
    with pytest.raises(UserError, match=r"not a readable file of analysis\.hessian"):
        compute(path)
    assert path.read_text() == "something dear"
    path.unlink()
    compute_surface(
        convolutional().float(),
        tuple(one.float() if one.is_floating_point() else one for one in examples()),
        path=path,
        points=3,
        device="cpu",
    )
    with pytest.raises(UserError, match=r"not one of analysis\.hessian"):
        compute(path)
    with pytest.raises(UserError, match="no such file"):
        load_spectrum(tmp_path / "nothing.h5")


def test_eigenvectors_span_a_plane_with_the_eigenvalues_as_curvatures() -> None:
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2), nn.Tanh(), nn.Linear(2, 3)), 0)
    data = examples()
    found = hessian_spectrum(model, data, **{**SMALL, "dtype": "float64", "tolerance": 1e-6, "mask": "none"})
    plane = eigenvector_plane(found, ("top", 0), ("bottom", 0))
    step = 0.001
    surface = compute_surface(
        model,
        data,
        plane=plane,
        mask="none",
        points=3,
        span=step,
        exact_grid=True,
        dtype="float64",
        device="cpu",
    )
    middle = surface.loss[1, 1]
    along = (surface.loss[2, 1] - 2 * middle + surface.loss[0, 1]) / step**2
    across = (surface.loss[1, 2] - 2 * middle + surface.loss[1, 0]) / step**2
    assert along == pytest.approx(found.top.values[0], rel=1e-3)
    assert across == pytest.approx(found.bottom.values[0], rel=1e-3, abs=1e-5)
    assert plane.about()["eigenvalues"] == [found.top.values[0], found.bottom.values[0]]
    with pytest.raises(UserError, match="number 9 is wanted"):
        eigenvector_plane(found, ("top", 9))
    for wrong in (("Top", 0), ("largest", 0), "top", ("top",), 0):
        with pytest.raises(UserError, match=r"expected \(.top., rank\) or"):
            eigenvector_plane(found, wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"rank must be a whole number, got 0\.5"):
        eigenvector_plane(found, ("top", 0.5))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown normalization 'bad'; expected one of filter"):
        eigenvector_plane(found, normalize="bad")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trace_tolerance": 1.0}, "trace_tolerance must lie between"),
        ({"max_probes": 1}, "max_probes must be at least 8"),
        ({"density_probes": -1}, "density_probes -1"),
        ({"density_steps": 0}, "density_steps 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_bad_numbers_say_so(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compute(**options)


def test_public_names_exist() -> None:
    for name in analysis.hessian.__all__:
        assert getattr(analysis.hessian, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = analysis.hessian.nothing


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's own forward derivatives
def test_a_rival_multiplies_and_finds_the_same() -> None:
    """The operator of curvlinops on the same network, in one batch; ours with a short last one."""
    rival = pytest.importorskip("curvlinops")
    from scipy.sparse.linalg import eigsh

    model, (inputs, targets) = convolutional(), examples()
    model.eval()
    params = list(model.parameters())
    theirs = rival.HessianLinearOperator(model, nn.CrossEntropyLoss(), params, [(inputs, targets)])
    ours = HessianOperator(model, (inputs, targets), dtype="float64", batch_size=6)
    vectors = torch.randn(ours.size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.multiply(vectors), theirs @ vectors, atol=1e-11, rtol=1e-9)
    expected = eigsh(theirs.to_scipy(), k=5, which="LA", tol=1e-10, return_eigenvectors=False)[::-1]
    found = hessian_spectrum(model, (inputs, targets), **EXACT, top=5, bottom=0, density_probes=0)
    np.testing.assert_allclose(found.top.values, np.sort(expected)[::-1], rtol=1e-8)
