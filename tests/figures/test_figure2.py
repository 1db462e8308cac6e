"""Figure 2: the published quadratic's numbers are what the picture shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import RHO, quadratic_steps, surface_of, write_steps
from matplotlib.figure import Figure
from print_checks import check_print, words_of

from figures import figure2
from figures.results import Results
from figures.step_panel import ARROWS, BESIDE
from landscape.errors import UserError

# L = (w1² + 4 w2²) / 2 from (1, 1), learning rate 0.1, rho 0.1, float64: weights before, after and perturbed.
EXPECTED = {
    "s2sam": {
        "w_t-2": (1.0, 1.0),
        "w_t-1": (0.9, 0.6),
        "u_t": (0.924253563, 0.697014250),
        "w_t": (0.807574644, 0.321194300),
    },
    "sam": {
        "w_t-2": (1.0, 1.0),
        "w_t-1": (0.897574644, 0.561194300),
        "w_t": (0.804104472, 0.299575594),
    },
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    write_steps(tmp_path)
    return Results(tmp_path)


def panels(figure: Figure) -> dict[str, Any]:
    return dict(
        zip(("s2sam", "sam"), [axes for axes in figure.axes if axes.get_xlabel() == "w₁"], strict=True)
    )


def arrows(axes: Any, kind: str) -> list[Any]:
    """Start and end of the arrows of that colour and width."""
    look = ARROWS[kind]
    return [
        (np.array(text.xyann), np.array(text.xy))
        for text in axes.texts
        if not text.get_text()
        and all(text.arrowprops[name] == look[name] for name in ("color", "linewidth", "linestyle"))
    ]


def test_points_are_those_of_the_published_example(results: Results) -> None:
    for optimizer, axes in panels(figure2.draw(results)).items():
        dots = [line.get_xydata()[0] for line in axes.lines]
        for place in EXPECTED[optimizer].values():
            assert min(np.abs(dot - place).max() for dot in dots) < 1e-9
        assert len(dots) == 4
        names = {text.get_text() for text in axes.texts if text.get_text()}
        assert names == {"$w_{t{-}2}$", "$w_{t{-}1}$", "$u_t$", "$w_t$"}


def test_arrows_are_the_steps(results: Results) -> None:
    figure = figure2.draw(results)
    for optimizer, axes in panels(figure).items():
        points = {
            name: np.array(place) for name, place in quadratic_steps()["steps"][optimizer]["points"].items()
        }
        for kind, first, last in (
            ("before", "w_t-2", "w_t-1"),
            ("ascent", "w_t-1", "u_t"),
            ("update", "w_t-1", "w_t"),
        ):
            ((start, end),) = arrows(axes, kind)
            assert start == pytest.approx(points[first])
            assert end == pytest.approx(points[last])
        assert np.linalg.norm(points["u_t"] - points["w_t-1"]) == pytest.approx(RHO)
        fresh, reused = arrows(axes, "fresh"), arrows(axes, "reused")
        assert (len(fresh), len(reused)) == {"s2sam": (1, 1), "sam": (2, 0)}[optimizer]
        start, end = fresh[-1]  # the gradient at u_t makes the step
        assert end - start == pytest.approx(points["w_t"] - points["w_t-1"])
        pixels = np.diff(axes.transData.transform([start, points["u_t"]]), axis=0)
        assert np.hypot(*pixels[0]) * 72 / figure.dpi == pytest.approx(BESIDE, rel=0.05)


def test_both_slices_share_scale_and_directions_have_equal_lengths(results: Results) -> None:
    one, other = panels(figure2.draw(results)).values()
    assert one.collections[0].get_clim() == other.collections[0].get_clim()
    assert one.get_aspect() == other.get_aspect() == 1


def test_print_and_words(results: Results) -> None:
    figure = figure2.draw(results)
    check_print(figure)
    text = words_of(figure)
    for part in ("computes 1 gradient, reuses 1", "computes 2 gradients", "η = 0.1, ρ = 0.1", "in the plane"):
        assert part in text
    caption = figure2.caption(results)
    for line in (
        "| u_t | 0.924253563 | 0.69701425 |",
        "| w_t | 0.804104472 | 0.299575594 |",
        r"- span: \[0.1, 1.2\]",
    ):
        assert line in caption
    assert [one.label for one in figure2.surfaces(results)] == ["S2-SAM", "SAM"]


def test_small_steps_of_both_signs_fit_too(tmp_path: Path) -> None:
    # Ticks such as −0.025 are wide.
    content = quadratic_steps()
    for step in content["steps"].values():
        step["axes"] = ["along the previous gradient", "across it, towards this step"]
        shift = np.mean(list(step["points"].values()), axis=0)
        place = lambda at, shift=shift: ((np.array(at) - shift) * 0.1).tolist()  # noqa: E731
        step["points"] = {name: place(at) for name, at in step["points"].items()}
        step["gradients"] = [
            {**one, "at": place(one["at"]), "vector": [0.1 * part for part in one["vector"]]}
            for one in step["gradients"]
        ]
    write_steps(tmp_path, content)
    axis = np.linspace(-0.06, 0.06, 23)
    loss = np.asarray((axis[:, None] ** 2 + 4 * axis[None, :] ** 2) / 2)
    surface_of(loss, alpha=axis, beta=axis, classifier=False).save(tmp_path / "figure2" / "slice.surface.h5")
    check_print(figure2.draw(Results(tmp_path)))


def _drop(content: dict[str, Any]) -> None:
    del content["steps"]["sam"]["off_plane"]


def _far(content: dict[str, Any]) -> None:
    content["steps"]["sam"]["points"]["w_t"] = [5, 0.5]


def _steep(content: dict[str, Any]) -> None:
    content["steps"]["s2sam"]["gradients"][1]["vector"] = [0, 900]


def _newer(content: dict[str, Any]) -> None:
    content["version"] = 2


def _words(content: dict[str, Any]) -> None:
    content["rho"] = "small"


def _huge(content: dict[str, Any]) -> None:
    content["learning_rate"] = 10**400


def _no_surface(content: dict[str, Any]) -> None:
    content["steps"]["sam"]["surface"] = "other.surface.h5"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop, "the key 'off_plane' is missing"),
        (_far, r"sam: w_t reaches \(5, 0.5\), off its slice"),
        (_steep, "s2sam: the arrow of gradient 2 reaches"),
        (_newer, "sharpscape.step 2; expected sharpscape.step 1"),
        (_words, "a number is 'small', not a number"),
        (_huge, r"step\.json: can't be read \(a number is a whole number of 401 digits\)"),
        (_no_surface, "no such file"),
    ],
)
def test_bad_files(tmp_path: Path, spoil: Callable[[dict[str, Any]], None], message: str) -> None:
    content = quadratic_steps()
    spoil(content)
    write_steps(tmp_path, content)
    with pytest.raises(UserError, match=message):
        figure2.draw(Results(tmp_path))


def test_the_file_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step\.json: no such file"):
        figure2.draw(Results(tmp_path))
    path = write_steps(tmp_path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="can't be read"):
        figure2.draw(Results(tmp_path))


def test_distance_from_the_plane_is_told(tmp_path: Path) -> None:
    content = json.loads(json.dumps(quadratic_steps()))
    content["steps"]["sam"]["off_plane"] = 0.034
    write_steps(tmp_path, content)
    assert "At most 0.034 off the plane." in words_of(figure2.draw(Results(tmp_path)))
