"""Friendly SAM against its formulas in plain NumPy, against SAM, and in pruned and interrupted trainings."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_optimizers import DIAGONAL, PLAIN, Quadratic, Stepper
from torch import Tensor, nn

from landscape.errors import UserError
from training.optimizers import SAM, FriendlySAM, FriendlySAMConfig, SAMConfig


class Noisy:
    """The loss ``Σ (a_i w_i² / 2 + noise_t,i w_i)``: gradient ``a w + noise_t`` in step t."""

    def __init__(self, make: Any, start: Tensor, noise: Tensor, kept: Tensor | None = None) -> None:
        self.weight = nn.Parameter(start.clone())
        self.optimizer: Any = make([self.weight])
        self.noise, self.kept, self.visited = noise, kept, list[Tensor]()
        self.slope = torch.linspace(1, 3, start.numel(), dtype=start.dtype).reshape(start.shape)

    def run(self, steps: range) -> Noisy:
        for number in steps:

            def closure(number: int = number) -> Tensor:
                self.optimizer.zero_grad()
                loss = (self.slope * self.weight**2 / 2 + self.noise[number] * self.weight).sum()
                loss.backward()  # type: ignore[no-untyped-call]
                if self.kept is not None and self.weight.grad is not None:
                    self.weight.grad *= self.kept
                self.visited.append(self.weight.detach().clone())
                return loss.detach()

            self.optimizer.step(closure)
            if self.kept is not None:
                with torch.no_grad():
                    self.weight *= self.kept
        return self


def friendly(**options: Any) -> Any:
    return lambda params: FriendlySAM(torch.optim.SGD(params, lr=0.1), batch_norm="both", **options)


def draws(seed: int, steps: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3)
    start = torch.randn(shape, dtype=torch.float64, generator=generator)
    return start, torch.randn((steps, *shape), dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("average", ["paper", "official"])
@pytest.mark.parametrize(("sigma", "decay"), [(1.0, 0.95), (1.0, 0.6), (0.5, 0.9), (0.0, 0.9), (1.0, 0.0)])
def test_the_formulas(average: str, sigma: float, decay: float) -> None:
    start, noise = draws(0)
    run = Noisy(friendly(rho=0.2, sigma=sigma, decay=decay, average=average), start, noise).run(range(6))
    slope = np.linspace(1, 3, 6).reshape(2, 3)
    weight, mean, points = start.numpy().copy(), None, []
    for one in noise.numpy():
        gradient = slope * weight + one
        if average == "paper":
            mean = decay * (0 if mean is None else mean) + (1 - decay) * gradient
            up = gradient - sigma * mean
        elif mean is None:
            up, mean = gradient, gradient
        else:
            up, mean = gradient - sigma * mean, decay * mean + (1 - decay) * gradient
        length = np.sqrt((up**2).sum())
        above = weight + (0.2 * up / length if length > 0 else 0)
        points += [weight, above]
        weight = weight - 0.1 * (slope * above + one)
    for seen, point in zip(run.visited, points, strict=True):
        np.testing.assert_allclose(seen, point, atol=1e-9)
    np.testing.assert_allclose(run.weight.detach(), weight, atol=1e-9)
    np.testing.assert_allclose(run.optimizer.state[run.weight]["gradient_average"], mean, atol=1e-9)


def test_paper_and_released_code_agree_but_for_the_beginning() -> None:
    """With sigma 1, ``g − m_t = decay (g − m_(t−1))``."""
    start, noise = draws(1)
    runs = [
        Noisy(friendly(average=one, decay=0.1), start, noise).run(range(6)) for one in ("paper", "official")
    ]
    torch.testing.assert_close(runs[0].visited[1], runs[1].visited[1])
    torch.testing.assert_close(runs[0].visited[-1], runs[1].visited[-1], rtol=0, atol=5e-3)
    assert not torch.equal(runs[0].visited[3], runs[1].visited[3])


def test_nothing_taken_away_is_sam_bit_for_bit() -> None:
    start, noise = (one.float() for one in draws(2))
    plain = Noisy(lambda ws: SAM(torch.optim.SGD(ws, lr=0.1), 0.2, batch_norm="both"), start, noise)
    mine = Noisy(friendly(sigma=0.0), start, noise)
    for one, other in zip(mine.run(range(6)).visited, plain.run(range(6)).visited, strict=True):
        assert torch.equal(one, other)


def test_the_first_step_is_that_of_sam() -> None:
    points = [
        Stepper(config, Quadratic(DIAGONAL, (1.0, 1.0)))
        for config in (SAMConfig(**PLAIN, rho=0.1), FriendlySAMConfig(**PLAIN, rho=0.1))
    ]
    for one in points:
        one.step()
    assert points[0].model.point == pytest.approx(points[1].model.point, abs=1e-12)


@given(
    seed=st.integers(0, 1000),
    sigma=st.floats(0, 2),
    decay=st.floats(0, 0.99),
    average=st.sampled_from(["paper", "official"]),
    kept=st.lists(st.booleans(), min_size=6, max_size=6),
)
@settings(max_examples=40)
def test_length_and_zeros(seed: int, sigma: float, decay: float, average: str, kept: list[bool]) -> None:
    """Each perturbation has length rho, or none; pruned weights are 0 at both points and in the average."""
    start, noise = draws(seed, 3)
    mask = torch.tensor(kept).reshape(2, 3)
    run = Noisy(friendly(rho=0.3, sigma=sigma, decay=decay, average=average), start * mask, noise, mask)
    run.run(range(3))
    for at, above in zip(run.visited[::2], run.visited[1::2], strict=True):
        assert float((above - at).norm()) in (0.0, pytest.approx(0.3, abs=1e-6))
        assert not at[~mask].any()
        assert not above[~mask].any()
    assert not run.optimizer.state[run.weight]["gradient_average"][~mask].any()


@pytest.mark.parametrize("average", ["paper", "official"])
def test_goes_on_as_if_never_interrupted(average: str) -> None:
    start, noise = (one.float() for one in draws(3))
    whole = Noisy(friendly(average=average), start, noise).run(range(6))
    half = Noisy(friendly(average=average), start, noise).run(range(3))
    rest = Noisy(friendly(average=average), half.weight.detach(), noise)
    rest.optimizer.load_state_dict(copy.deepcopy(half.optimizer.state_dict()))
    assert torch.equal(rest.run(range(3, 6)).weight, whole.weight)


def test_another_average_is_refused() -> None:
    start, noise = draws(4)
    state = Noisy(friendly(), start, noise).run(range(2)).optimizer.state_dict()
    for options, words in (({"decay": 0.6}, "decay 0.95.*with 0.6"), ({"average": "official"}, "average")):
        other = Noisy(friendly(**options), start, noise).optimizer
        with pytest.raises(UserError, match=f"{words}.*make the same optimizer"):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": -1.0}, "sigma -1.0: expected"),
        ({"sigma": float("inf")}, "sigma inf: expected"),
        ({"decay": 1.0}, "decay 1.0: expected at least 0 and below 1"),
        ({"average": "both"}, "average 'both': expected paper or official"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        FriendlySAMConfig(**options)
    with pytest.raises(UserError, match=words):
        friendly(**options)([nn.Parameter(torch.ones(1))])


@pytest.mark.parametrize("average", ["paper", "official"])
@pytest.mark.parametrize("failing", [2, 6])
def test_a_step_that_fails_in_its_second_pass_counts_its_gradient_once(average: str, failing: int) -> None:
    """As after running out of memory: the same step again gives what one without a failure gives."""
    start, noise = draws(3)
    whole, cut = (Noisy(friendly(rho=0.2, average=average, sigma=0.7), start, noise) for _ in range(2))
    whole.run(range(4))
    calls = 0

    def fail(gradient: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise RuntimeError("out of memory")
        return gradient

    cut.weight.register_hook(fail)  # type: ignore[no-untyped-call]
    for number in range(4):
        try:
            cut.run(range(number, number + 1))
        except RuntimeError:
            cut.run(range(number, number + 1))
    assert torch.equal(cut.weight, whole.weight)
    assert torch.equal(*(one.optimizer.state[one.weight]["gradient_average"] for one in (cut, whole)))


@pytest.mark.parametrize("average", ["paper", "official"])
def test_a_weight_that_takes_no_part_in_some_steps(average: str) -> None:
    """However gradients are zeroed, its average goes on with a gradient of 0."""
    ends = []
    for to_none in (True, False):
        always, sometimes = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
        optimizer = friendly(rho=0.1, average=average)([always, sometimes])
        for number in range(6):

            def closure(number: int = number) -> Tensor:
                optimizer.zero_grad(set_to_none=to_none)  # noqa: B023
                loss = (always**3).sum()  # noqa: B023
                if number in (1, 4, 5):
                    loss = loss + (4 * sometimes**2).sum()  # noqa: B023
                loss.backward()  # type: ignore[no-untyped-call]
                return loss.detach()

            optimizer.step(closure)
        ends.append((always, sometimes, optimizer.state[sometimes]["gradient_average"]))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
