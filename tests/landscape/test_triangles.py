"""The triangle around each place: against barycentric coordinates and the convex hull."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull, KDTree

from landscape.sampling.interpolate import grid_places
from landscape.sampling.triangles import triangle_corners

PLACES = grid_places(np.linspace(-1, 1, 21), np.linspace(-1, 1, 31))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("off_the_grid", [0.0, 0.03])
def test_every_place_lies_in_its_triangle(seed: int, off_the_grid: float) -> None:
    """On the grid many places lie on edges, and many nodes on one circle."""
    draw = np.random.default_rng(seed)
    nodes = PLACES[draw.choice(len(PLACES), draw.integers(3, 200), replace=False)]
    nodes = nodes + off_the_grid * draw.normal(size=nodes.shape)
    near = KDTree(nodes).query(PLACES)[1]
    corners = triangle_corners(nodes, PLACES, near)
    assert corners is not None
    outside = corners[:, 0] < 0
    sides = ConvexHull(nodes).equations
    np.testing.assert_array_equal(outside, (PLACES @ sides[:, :2].T + sides[:, 2]).max(axis=1) > 1e-9)
    assert (corners[outside] == -1).all()
    inside, around = PLACES[~outside], nodes[corners[~outside]]
    shares = np.linalg.solve(
        np.concatenate([np.swapaxes(around, 1, 2), np.ones((len(around), 1, 3))], axis=1),
        np.concatenate([inside, np.ones((len(inside), 1))], axis=1)[..., None],
    )[..., 0]
    assert shares.min() > -1e-9
    np.testing.assert_allclose(np.einsum("pk,pkx->px", shares, around), inside, atol=1e-12)


def test_nodes_that_span_no_plane() -> None:
    line = np.stack([np.linspace(-1, 1, 7), np.linspace(-0.5, 0.5, 7)], axis=1)
    for nodes in (line, line[:2], line[:1], np.zeros((5, 2))):
        assert triangle_corners(nodes, PLACES, np.zeros(len(PLACES), dtype=np.int64)) is None
