"""Each example runs as it stands, and its surface holds what an independent evaluation gives."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import landscape
from analysis.roughness import roughness
from landscape.kept_weights import infer_mask
from landscape.surface import Surface

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
CORNER = (0, 4)  # α = −1, β = 1
Run = Callable[[str], tuple[ModuleType, nn.Module]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs an example into `tmp_path` on a 5×5 grid; returns it, and the network as it was after training."""

    def run_example(name: str) -> tuple[ModuleType, nn.Module]:
        specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        example = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(example)
        kept: list[nn.Module] = []
        train = example.trained

        def trained(*examples: Tensor) -> nn.Module:
            network: nn.Module = train(*examples)
            kept.append(copy.deepcopy(network))
            return network

        monkeypatch.setattr(example, "trained", trained)
        with torch.random.fork_rng(devices=[]):
            example.main(["--output", str(tmp_path), "--points", "5"])
        return example, kept[0]

    return run_example


def moved(network: nn.Module, alpha: float, beta: float) -> nn.Module:
    """The network at a point of the default plane, in evaluation mode."""
    params = {name: value.detach() for name, value in network.named_parameters()}
    first, second = landscape.RandomPlane().directions(params, infer_mask(params), 2)
    result = copy.deepcopy(network).eval()
    with torch.no_grad():
        for name, value in result.named_parameters():
            value.add_(alpha * first[name].to(value) + beta * second[name].to(value))
    return result


def check_values(
    surface: Surface, network: nn.Module, loss: Callable[[nn.Module], float], rtol: float
) -> None:
    """Compare the centre and a corner with `loss`, which computes the mean loss another way."""
    for index in (surface.center, CORNER):
        assert index is not None
        point = moved(network, float(surface.alpha[index[0]]), float(surface.beta[index[1]]))
        np.testing.assert_allclose(surface.loss[index], loss(point), rtol=rtol)


def check_minimum(surface: Surface) -> None:
    """The lowest point lies at most one grid cell from the trained network."""
    i, j = np.unravel_index(np.argmin(surface.loss), surface.shape)
    assert max(abs(i - 2), abs(j - 2)) <= 1
    assert surface.loss[2, 2] < 0.8 * surface.loss[[0, 0, -1, -1], [0, -1, 0, -1]].min()


def test_image_classifier(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example, network = run("image_classifier")
    printed = capsys.readouterr().out
    data = example.load_data("sample", split="train", examples=500)

    def mean_loss(point: nn.Module) -> float:
        with torch.no_grad():
            chances = point(data.normalized()).double().softmax(dim=1)
        return float(-chances[torch.arange(500), data.targets].log().mean())

    dense, pruned = (
        landscape.load_surface(tmp_path / f"classifier-{percent}.surface.h5") for percent in (0, 80)
    )
    check_values(dense, network, mean_loss, rtol=1e-5)
    check_minimum(dense)
    assert dense.planes[0].about["density"] is None
    example.prune(network, 0.8)
    check_values(pruned, network, mean_loss, rtol=1e-5)
    assert pruned.planes[0].about["mask"] == "zeros"
    assert pruned.planes[0].about["density"] == pytest.approx(0.2, abs=0.01)
    for surface in (dense, pruned):
        ra = roughness(surface).ra.value
        assert 0 < ra < np.ptp(surface.loss)
        assert f"{surface.label}: Ra = {ra:.4f} nats" in printed
    page = (tmp_path / "classifier.html").read_text(encoding="utf-8")
    assert "0% pruned" in page
    assert "80% pruned" in page


def test_language_model(run: Run, tmp_path: Path) -> None:
    example, network = run("language_model")
    text = "".join(example.topics.values()).encode("ascii", "ignore")[: 256 * 33]
    tokens = torch.tensor(list(text)).view(256, 33)

    def mean_loss(point: nn.Module) -> float:
        with torch.no_grad():
            scores = point(tokens[:, :-1]).double()
        right = scores.gather(2, tokens[:, 1:, None]).squeeze(2)
        return float((scores.logsumexp(dim=2) - right).mean())

    surface = landscape.load_surface(tmp_path / "language-model.surface.h5")
    assert surface.complete
    assert surface.planes[0].splits["data"].examples == 256
    check_values(surface, network, mean_loss, rtol=1e-5)
    check_minimum(surface)
    assert surface.loss[2, 2] < 0.5 * np.log(128)  # it has learned something
    assert (tmp_path / "language-model.png").read_bytes().startswith(b"\x89PNG")
    with torch.no_grad():
        one, other = (network.eval()(torch.tensor([[1] * 16 + [last] * 16])) for last in (2, 3))
    torch.testing.assert_close(one[:, :16], other[:, :16])  # it predicts from the past alone
    assert not torch.allclose(one[:, 16:], other[:, 16:])


def test_pinn(run: Run, tmp_path: Path) -> None:
    _, network = run("pinn")
    network = network.double()
    times = torch.linspace(0, 6, 200).double().unsqueeze(1)
    step = 1e-3

    def mean_loss(point: nn.Module) -> float:
        """The derivatives as differences instead of by autograd."""
        with torch.no_grad():
            before, u, after = (point(times + shift) for shift in (-step, 0, step))
            acceleration = (before - 2 * u + after) / step**2
            start, earlier, later = (point(torch.tensor([[shift]]).double()) for shift in (0, -step, step))
            initial = (start - 1) ** 2 + ((later - earlier) / (2 * step)) ** 2
            return float(((acceleration + u) ** 2).mean() + initial)

    surface = landscape.load_surface(tmp_path / "pinn.surface.h5")
    check_values(surface, network, mean_loss, rtol=1e-4)
    check_minimum(surface)
    with torch.no_grad():
        error = (network(times) - torch.cos(times)).square().mean().item()
    assert surface.metric("squared error").values[2, 2] == pytest.approx(error, rel=1e-8)
    assert error < 0.05  # it has found the solution
    assert (tmp_path / "pinn.html").stat().st_size > 10_000
