"""Which parameters move: one rule, the same for surfaces, Hessians, sharpness, curvature and curves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from analysis.connectivity import connect
from analysis.hessian import HessianOperator, hessian_spectrum
from analysis.sharpness import Objective, sharpness
from landscape.compute import compute_surface
from landscape.errors import UserError
from landscape.kept_weights import infer_mask
from landscape.parameters import moving_names, moving_params
from landscape.planes import BetweenPlane, GivenPlane, RandomPlane
from landscape.planes.directions import vectors
from landscape.surface import load_surface


class LoRA(nn.Module):
    """A frozen layer with a trained correction of rank 2, whose second factor is still zero."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(6, 3).requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(2, 6))
        self.lora_B = nn.Parameter(torch.zeros(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T


class Causal(nn.Module):
    """Attention with its causal mask kept as a frozen parameter that holds −inf, and an integer one."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(4, 4)
        self.mask = nn.Parameter(torch.full((3, 3), -torch.inf).triu(1), requires_grad=False)
        self.steps = nn.Parameter(torch.tensor([3, 4]), requires_grad=False)
        self.outward = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.inward(x.reshape(len(x), 3, 2).repeat(1, 1, 2))
        shares = (inside @ inside.transpose(1, 2) + self.mask).softmax(-1)
        return self.outward((shares @ inside)[:, -1])


class Tokens(nn.Module):
    """Words with a padding row, a class token of zeros; 5 words, of which the first is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4, padding_idx=0)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.token.expand(len(x), 1, 4), self.words(x)], 1).mean(1))


def seeded(make: Any, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
    assert isinstance(model, nn.Module)
    return model


def examples(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 6, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def words(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 5, (count, 3), generator=generator), torch.arange(count) % 3


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


SURFACE: dict[str, Any] = {"points": 5, "device": "cpu", "keep_directions": True}


def moved(surface: Any) -> set[str]:
    """Names of the tensors in which a stored direction isn't zero."""
    return {name for one in surface.planes[0].directions for name, value in one.items() if value.any()}


def test_frozen_weights_move_nowhere() -> None:
    model, data = seeded(LoRA), examples()
    with torch.no_grad():
        model.get_parameter("lora_B").normal_(generator=torch.Generator().manual_seed(0))
    surface = compute_surface(model, data, **SURFACE)
    assert moved(surface) == {"lora_A", "lora_B"}
    assert surface.settings["params"]["rule"] == ["trainable"]
    assert surface.about["moving"]["fixed"] == ["base.weight", "base.bias"]
    assert HessianOperator(model, data).space.names == ["lora_A", "lora_B"]
    assert Objective(model, data).size == 2 * 6 + 3 * 2
    everything = compute_surface(model, data, params="all", **SURFACE)
    assert moved(everything) == {"lora_A", "lora_B", "base.weight"}
    assert HessianOperator(model, data, params="all").size == 2 * 6 + 3 * 2 + 21


def test_zeros_of_a_whole_tensor_or_of_padding_are_no_mask() -> None:
    assert infer_mask(moving_params(seeded(LoRA))) is None
    spectrum = hessian_spectrum(seeded(LoRA), examples(), top=1, density_probes=0, device="cpu")
    assert spectrum.n == spectrum.full_size == 2 * 6 + 3 * 2
    tokens = seeded(Tokens)
    assert compute_surface(tokens, words(), **SURFACE).planes[0].about["mask"] == "none"
    with torch.no_grad():
        tokens.get_parameter("words.weight")[3] = 0  # a second word that never came
    assert infer_mask(moving_params(tokens)) is None
    pruned = torch.tensor([[0.0, 2.0, 0.0], [0.0, 4.0, 5.0]])
    assert infer_mask({"w": pruned, "lora_B": torch.zeros(3, 2)}) is not None
    assert list(infer_mask({"w": pruned, "lora_B": torch.zeros(3, 2)}) or {}) == ["w"]
    filters = torch.ones(4, 2, 3, 3)
    filters[:2] = 0  # whole filters, as structured pruning leaves them
    assert infer_mask({"conv.weight": filters}) is not None


def test_a_frozen_causal_mask_and_integers_stay() -> None:
    model, data = seeded(Causal), examples()
    surface = compute_surface(model, data, **SURFACE)
    assert moved(surface) == {"inward.weight", "outward.weight"}
    assert torch.isfinite(torch.as_tensor(surface.loss)).all()
    assert "mask" not in HessianOperator(model, data).space.names
    assert sharpness(model, data, measures=["sam"])["sam"].value > 0
    for rule, words_ in (("all", "infinite value"), ("steps", "'steps' is int64; only floating-point")):
        with pytest.raises(UserError, match=words_):
            compute_surface(model, data, params=rule, **SURFACE)


def test_names_and_patterns_choose() -> None:
    model, data = seeded(small), examples()
    assert moving_names(model, "0.*") == ["0.weight", "0.bias"]
    assert moving_names(model, ["*.weight", "!2.*"]) == ["0.weight"]
    assert moving_names(model, "!*.bias") == ["0.weight", "2.weight"]
    assert moved(compute_surface(model, data, params="2.*", **SURFACE)) == {"2.weight"}
    assert HessianOperator(model, data, params=["2.*"]).size == 18
    with pytest.raises(UserError, match=r"no parameter matches 'layer9.\*'; the network's are"):
        compute_surface(model, data, params="layer9.*", **SURFACE)
    with pytest.raises(UserError, match=r"params \['!'\]: expected 'trainable'"):
        moving_names(model, ["!"])


def test_another_choice_is_another_result(tmp_path: Any) -> None:
    model, data, path = seeded(small), examples(), tmp_path / "a.surface.h5"
    compute_surface(model, data, path=path, **SURFACE)
    assert compute_surface(model, data, path=path, params="all", **SURFACE) is not None  # the same here
    with pytest.raises(UserError, match="params: the file has null"):
        compute_surface(model, data, path=path, params="0.*", **SURFACE)
    assert load_surface(path).about["moving"]["tensors"] == 4
    options: dict[str, Any] = {
        "top": 1,
        "density_probes": 0,
        "device": "cpu",
        "path": tmp_path / "a.hessian.h5",
    }
    hessian_spectrum(model, data, **options)
    with pytest.raises(UserError, match="params: the file has null"):
        hessian_spectrum(model, data, params="0.weight", **options)


def test_the_gain_of_weight_normalization_is_no_filter() -> None:
    plain = seeded(small)
    normed = seeded(small)
    parametrizations.weight_norm(normed[0])  # type: ignore[arg-type, index]
    gain = "0.parametrizations.weight.original0"
    assert gain in vectors(dict(normed.named_parameters()))
    direction = RandomPlane().directions(moving_params(normed), None, 1)[0]
    assert not direction[gain].any()
    assert direction["0.parametrizations.weight.original1"].any()
    assert vectors(dict(plain.named_parameters())) == {"0.bias", "2.bias"}
    one_input = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))  # weights [8, 1] and [1, 8]
    assert vectors(dict(one_input.named_parameters())) == {"0.bias", "2.bias"}
    shifts = {
        "gamma": torch.ones(1, 4, 1, 1),
        "lora_A": torch.ones(1, 4),
        "depthwise.weight": torch.ones(4, 1, 1),
    }
    assert vectors(shifts) == {"gamma"}


def test_a_plane_along_nothing_is_refused() -> None:
    class Vectors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.shift = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.scale + self.shift)[:, :3]

    data = examples()
    with pytest.raises(UserError, match="α is zero everywhere: every parameter that moves is a vector"):
        compute_surface(Vectors(), data, **SURFACE)
    assert moved(compute_surface(Vectors(), data, plane=RandomPlane(skip_vectors=False), **SURFACE))
    model = seeded(small)
    with pytest.raises(UserError, match="every parameter that moves is a vector"):
        compute_surface(model, data, params="*.bias", **SURFACE)
    nothing = {name: torch.zeros(one.shape) > 0 for name, one in model.named_parameters()}
    with pytest.raises(UserError, match="no weight is left that moves along it"):
        compute_surface(model, data, mask=nothing, **SURFACE)
    itself = dict(model.named_parameters())
    for plane in (BetweenPlane(itself), GivenPlane([{"0.weight": torch.zeros(5, 6)}] * 2)):
        with pytest.raises(UserError, match="no weight is left that moves along it"):
            compute_surface(model, data, plane=plane, **SURFACE)


def test_a_way_to_a_network_that_differs_where_nothing_moves_is_refused() -> None:
    first, second, data = seeded(small), seeded(small, 1), examples()
    first[0].requires_grad_(False)  # type: ignore[index]
    other = dict(second.named_parameters())
    with pytest.raises(
        UserError, match=r"differs in '0.weight', which doesn't move: it is frozen here; --params"
    ):
        compute_surface(first, data, plane=BetweenPlane(other), dim=1, **SURFACE)
    with pytest.raises(UserError, match=r"can't be connected: the other checkpoint differs in '0\.weight'"):
        connect(first, second, data, curves=["linear"], points=3)
    everything = connect(first, second, data, curves=["linear"], points=3, params="all", device="cpu")
    plain = connect(seeded(small), second, data, curves=["linear"], points=3, device="cpu")
    assert everything.surfaces["linear"].loss[-1] == plain.surfaces["linear"].loss[-1]
    part = connect(first, second, data, curves=["linear"], points=3, params="2.*", device="cpu")
    mixed = seeded(small, 1)
    mixed[0].load_state_dict(first[0].state_dict())  # type: ignore[index]
    whole = connect(seeded(small), mixed, data, curves=["linear"], points=3, device="cpu")
    assert part.surfaces["linear"].loss[-1] == pytest.approx(whole.surfaces["linear"].loss[-1])


def test_a_direction_of_a_frozen_tensor_is_refused() -> None:
    model, data = seeded(LoRA), examples()
    plane = GivenPlane([{"base.weight": torch.ones(3, 6)}])
    with pytest.raises(UserError, match=r"moves 'base\.weight', which doesn't move here"):
        compute_surface(model, data, plane=plane, dim=1, **SURFACE)
    assert moved(compute_surface(model, data, plane=plane, dim=1, params="base.*", **SURFACE)) == {
        "base.weight"
    }


def test_complex_parameters_are_refused_and_complex_buffers_kept() -> None:
    class Spectral(nn.Module):
        def __init__(self, trained: bool) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)
            kernel = torch.polar(torch.ones(4), torch.arange(4.0))
            if trained:
                self.kernel = nn.Parameter(kernel)
            else:
                self.register_buffer("kernel", kernel)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(torch.fft.irfft(torch.fft.rfft(x) * self.kernel, n=6))

    data = examples()
    for compute in (compute_surface, HessianOperator, Objective):
        with pytest.raises(UserError, match="'kernel' is complex, and only real ones can be moved"):
            compute(seeded(lambda: Spectral(True)), data)
    model = seeded(lambda: Spectral(False))
    expected = nn.functional.cross_entropy(model(data[0]), data[1]).item()
    surface = compute_surface(model, data, **SURFACE)
    assert surface.center is not None
    assert surface.loss[surface.center] == pytest.approx(expected, rel=1e-5)
    assert HessianOperator(model, data).gradient()[0] == pytest.approx(expected, rel=1e-5)
    assert Objective(model, data).center.mean("loss") == pytest.approx(expected, rel=1e-5)
