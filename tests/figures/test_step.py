"""Figure 2's numbers from the real optimizers, against the same steps by hand; needs torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_results import CURVATURE, RATE, RHO, quadratic_steps
from torch import Tensor, nn

from figures.step import Slice, slice_of, walk
from landscape.errors import UserError
from training.optimizers.s2sam import S2SAM
from training.optimizers.sam import SAM


class Point(nn.Module):
    """Weights and nothing else."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(values, dtype=torch.float64))


def quadratic(model: nn.Module) -> Tensor:
    weight = next(model.parameters())
    curvature = torch.tensor(CURVATURE) if len(weight) == 2 else torch.tensor([1.0, 4.0, 9.0])
    return (curvature * weight**2).sum() / 2


def steps(name: str, start: list[float]) -> Slice:
    model = Point(start)
    base = torch.optim.SGD(model.parameters(), lr=RATE)
    optimizer = S2SAM(base, RHO) if name == "s2sam" else SAM(base, RHO, model=model)
    return slice_of(walk(model, optimizer, quadratic, {}), RATE, reuses=name == "s2sam")


def unfolded(found: Slice, pair: tuple[float, float]) -> np.ndarray:
    """A point of the slice in weight space."""
    return (found.center + pair[0] * found.basis[0] + pair[1] * found.basis[1]).numpy()


@pytest.mark.parametrize("name", ["s2sam", "sam"])
def test_points_and_gradients_are_those_by_hand(name: str) -> None:
    found, expected = steps(name, [1.0, 1.0]), quadratic_steps()["steps"][name]
    for point, place in expected["points"].items():
        np.testing.assert_allclose(unfolded(found, found.points[point]), place, atol=1e-12)
    for one, other in zip(found.gradients, expected["gradients"], strict=True):
        np.testing.assert_allclose(unfolded(found, one["at"]), other["at"], atol=1e-12)
        turned = one["vector"][0] * found.basis[0] + one["vector"][1] * found.basis[1]
        np.testing.assert_allclose(turned.numpy(), other["vector"], atol=1e-12)
        assert one["reused"] == other["reused"]
    assert found.off_plane == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["s2sam", "sam"])
def test_the_slice_holds_everything_and_is_orthonormal(name: str) -> None:
    found = steps(name, [1.0, 0.5, -0.3])
    gram = torch.stack(found.basis) @ torch.stack(found.basis).T
    torch.testing.assert_close(gram, torch.eye(2, dtype=torch.float64))
    ends = [np.array(one["at"]) - RATE * np.array(one["vector"]) for one in found.gradients]
    assert all(np.abs(place).max() < found.span for place in [*found.points.values(), *ends])


def test_s2sam_lies_in_a_plane_and_sam_does_not() -> None:
    assert steps("s2sam", [1.0, 0.5, -0.3]).off_plane == pytest.approx(0, abs=1e-12)
    assert steps("sam", [1.0, 0.5, -0.3]).off_plane > 1e-4


def test_pruned_weights_stay() -> None:
    model = Point([1.0, 0.0, -0.3])
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=RATE), RHO)
    # A loss that would move the pruned weight away from zero.
    found = walk(
        model,
        optimizer,
        lambda net: quadratic(net) + next(net.parameters())[1],
        {"weight": torch.tensor([1.0, 0.0, 1.0])},
    )
    assert all(weights[1] == 0 for weights in [*found.weights, *found.places])
    assert all(gradient[1] == 0 for gradient in found.gradients)


def test_parallel_gradients_have_no_plane() -> None:
    with pytest.raises(UserError, match="no plane"):
        steps("s2sam", [1.0, 0.0])
