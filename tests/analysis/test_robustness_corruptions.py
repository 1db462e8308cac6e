"""The generated corruptions: seeded by image, and what they are made of against OpenCV and scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.random import RandomState
from scipy import ndimage

from analysis.robustness import CORRUPTIONS
from analysis.robustness.cifar import CIFAR, blur, digital, imaging, liquid, noise, weather
from analysis.robustness.cifar.plasma import plasma
from analysis.robustness.generated import corrupt, deviations, recipe
from landscape.errors import UserError
from landscape.images import read_images

PLACES = np.array([3, 77, 500, 9999])


@pytest.fixture(scope="module")
def images() -> Any:
    """Four photographs of CIFAR-10."""
    return read_images("sample", "test").images[:4]


def no_draw() -> RandomState:
    return RandomState(0)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_the_same_whatever_is_beside_it(name: str, images: Any) -> None:
    together = corrupt(images, name, 3, places=PLACES, seed=5)
    backwards = corrupt(images[::-1], name, 3, places=PLACES[::-1], seed=5)
    alone = corrupt(images[2:3], name, 3, places=PLACES[2:3], seed=5)
    assert together.dtype == np.uint8
    assert together.shape == images.shape
    assert np.array_equal(together, backwards[::-1])
    assert np.array_equal(together[2:3], alone)
    assert not np.array_equal(together, images)


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "frost", "elastic_transform", "spatter"])
def test_seed_place_and_severity_draw_anew(name: str, images: Any) -> None:
    first = corrupt(images[:1], name, 5, places=PLACES[:1])
    assert not np.array_equal(first, corrupt(images[:1], name, 5, places=PLACES[1:2]))
    assert not np.array_equal(first, corrupt(images[:1], name, 5, places=PLACES[:1], seed=1))
    # NumPy's own generator plays no part.
    np.random.seed(1)
    assert np.array_equal(first, corrupt(images[:1], name, 5, places=PLACES[:1]))


def test_every_corruption_has_its_function() -> None:
    assert tuple(CIFAR) == CORRUPTIONS


def test_what_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(deviations((32, 32))) == {"motion_blur", "snow", "frost", "elastic_transform", "spatter"}
    monkeypatch.setattr(weather, "_photographs", lambda: None)
    weather.frost_pictures.cache_clear()
    try:
        assert "made textures" in deviations((32, 32))["frost"]
        assert "made textures" in recipe((32, 32), 0)["frost"]
        made = weather.frost_pictures()
        assert [one.shape for one in made] == [(256, 256, 3)] * 5
        assert all(20 < one.mean() < 235 and one.std() > 15 for one in made)
    finally:
        weather.frost_pictures.cache_clear()


@pytest.mark.parametrize("size", [(28, 28), (64, 64), (32, 33)])
def test_a_size_without_constants_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=f"images of {size[0]}×{size[1]}"):
        corrupt(np.zeros((1, *size, 3), np.uint8), "fog", 1, places=PLACES[:1])


def test_photographs_need_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'sharpscape\[corruptions\]'"):
        corrupt(np.zeros((1, 224, 224, 3), np.uint8), "fog", 1, places=PLACES[:1])


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "glass_blur", "frost"])
def test_photographs_are_seeded_by_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published = pytest.importorskip("imagecorruptions.corruptions", reason="the extra isn't installed")
    shuffle = "_shuffle_pixels_njit_glass_blur"  # takes half a minute to compile
    monkeypatch.setattr(published, shuffle, getattr(published, shuffle).py_func)
    photographs = np.random.default_rng(0).integers(0, 256, (2, 128, 144, 3), dtype=np.uint8)
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    together = corrupt(photographs, name, 2, places=PLACES[:2])
    assert np.array_equal(together[1:], corrupt(photographs[1:], name, 2, places=PLACES[1:2]))
    assert not np.array_equal(together[1:], corrupt(photographs[1:], name, 2, places=PLACES[2:3]))
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]


def test_noise_has_its_variance(images: Any) -> None:
    grey, draw = np.full((32, 32, 3), 0.5), RandomState(0)
    for severity in range(1, 6):
        many = [np.stack([one(grey, severity, draw) for _ in range(40)]) for one in list(CIFAR.values())[:3]]
        assert many[0].std() == pytest.approx(noise.GAUSSIAN[severity - 1], rel=0.02)
        assert many[1].var() == pytest.approx(0.5 / noise.SHOT[severity - 1], rel=0.05)
        assert (many[2] != 0.5).mean() == pytest.approx(noise.IMPULSE[severity - 1], rel=0.1)


def test_glass_copies_a_neighbour_above_or_to_the_left(images: Any) -> None:
    """One round at a blur that does nothing, against the published loop over pixels."""
    image = images[0] / 255
    found = blur.glass_blur(image, 1, RandomState(3)) * 255
    shift = RandomState(3).randint(-1, 1, (2, 30, 30))
    wanted = images[0].copy()
    for row in range(31, 1, -1):
        for column in range(31, 1, -1):
            wanted[row, column] = wanted[
                row + shift[0, row - 2, column - 2], column + shift[1, row - 2, column - 2]
            ]
    assert np.abs(found - wanted).max() < 1e-9


@pytest.mark.parametrize("factor", [1, 1.01, 1.1, 1.25, 1.75, 2.25])
def test_zooming_is_scipys(factor: float, images: Any) -> None:
    image = images[0] / 255
    middle = int(np.ceil(32 / factor))
    top = (32 - middle) // 2
    large = ndimage.zoom(image[top : top + middle, top : top + middle], (factor, factor, 1), order=1)
    trim = (len(large) - 32) // 2
    wanted = large[trim : trim + 32, trim : trim + 32]
    assert np.abs(imaging.zoomed(image, factor) - wanted).max() < 1e-12


@pytest.mark.parametrize("severity", range(1, 6))
def test_zoom_blur_is_a_mean(severity: int, images: Any) -> None:
    image = images[1] / 255
    factors = [1 + number / 100 for number in range(blur.ZOOM[severity - 1])]
    wanted = (image + sum(imaging.zoomed(image, one) for one in factors)) / (len(factors) + 1)
    assert np.abs(blur.zoom_blur(image, severity, no_draw()) - wanted).max() < 1e-12


def test_plasma_is_a_height_map() -> None:
    heights = plasma(32, 2.0, RandomState(0))
    assert (heights.min(), heights.max()) == (0, 1)
    smooth, rough = (plasma(64, decay, RandomState(1)) for decay in (3.0, 1.2))
    assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()


@pytest.fixture
def cv2() -> Any:
    """OpenCV, where it is installed."""
    return pytest.importorskip("cv2", reason="the extra `corruptions` isn't installed")


@pytest.mark.parametrize("severity", range(1, 6))
def test_defocus(severity: int, images: Any, cv2: Any) -> None:
    radius, edge = blur.DEFOCUS[severity - 1]
    line = np.arange(-8, 9)
    kernel = (line**2 + line[:, None] ** 2 <= radius**2).astype(np.float64)
    kernel = cv2.GaussianBlur(kernel / kernel.sum(), ksize=(3, 3), sigmaX=edge)
    image = images[0] / 255
    wanted = cv2.filter2D(image, -1, kernel)
    assert np.abs(blur.defocus_blur(image, severity, no_draw()) - wanted).max() < 1e-9


@pytest.mark.parametrize("severity", range(1, 6))
def test_elastic(severity: int, images: Any, cv2: Any) -> None:
    image, draw = images[1] / 255, RandomState(5)
    strength, smoothness, reach = (32 * part for part in digital.ELASTIC[severity - 1])
    points = np.array([[26, 26], [26, 6], [6, 6]], np.float32)
    moved = points + draw.uniform(-reach, reach, (3, 2)).astype(np.float32)
    affine = cv2.getAffineTransform(points, moved)
    wanted = cv2.warpAffine(image, affine, (32, 32), borderMode=cv2.BORDER_REFLECT_101)
    right, down = (
        ndimage.gaussian_filter(draw.uniform(-1, 1, (32, 32)), smoothness, truncate=3) * strength
        for _ in range(2)
    )
    rows, columns = np.mgrid[:32, :32]
    places = np.stack([rows + down, columns + right])
    channels = [
        ndimage.map_coordinates(wanted[..., one], places, order=1, mode="reflect") for one in range(3)
    ]
    found = digital.elastic_transform(image, severity, RandomState(5))
    # Older OpenCV rounds places to 1/32 of a pixel.
    assert np.abs(found - np.stack(channels, -1)).mean() < 2e-3


def test_drops(cv2: Any) -> None:
    draw, differ = RandomState(0), []
    for number in range(30):
        mean, deviation, sigma, threshold, *_ = liquid.SPATTER[number % 3]
        layer = imaging.smoothed(draw.normal(mean, deviation, (32, 32)), sigma)
        layer[layer < threshold] = 0
        values = (np.clip(layer, 0, 1) * 255).astype(np.uint8)
        edge = cv2.Canny(values, 50, 150)
        assert np.array_equal(edge > 0, liquid.edges(values))
        far = np.minimum(cv2.distanceTransform(255 - edge, cv2.DIST_L2, 5), 20)
        near = cv2.blur(far, (3, 3)).astype(np.uint8)
        assert np.array_equal(cv2.equalizeHist(near), liquid.equalized(near))
        relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
        light = cv2.filter2D(cv2.equalizeHist(near), cv2.CV_8U, relief)
        wanted = values * cv2.blur(light, (3, 3)).astype(float)
        differ.append(np.abs(wanted / max(1, wanted.max()) - liquid.drops(values)).mean())
    assert np.mean(differ) < 0.01  # exact distances, where OpenCV's are near


def test_frost_is_scaled_as_opencv_does(cv2: Any) -> None:
    folder = weather._photographs()
    assert folder is not None
    for name, found in zip(("frost1.png", "frost4.jpg"), weather.frost_pictures()[::3], strict=False):
        whole = cv2.imread(str(folder / name))[..., ::-1]
        wanted = cv2.resize(whole, (0, 0), fx=0.2, fy=0.2)
        assert wanted.shape == found.shape
        assert np.abs(wanted.astype(float) - found).mean() < 0.5


@pytest.mark.parametrize("severity", range(1, 6))
def test_colours(severity: int, images: Any) -> None:
    color = pytest.importorskip("skimage.color", reason="the extra `corruptions` isn't installed")
    image = images[2] / 255
    image[0], image[1], image[2] = 0, 0.5, 1  # black, grey and white have no hue
    colours = color.rgb2hsv(image)
    colours[..., 2] = np.clip(colours[..., 2] + weather.BRIGHTNESS[severity - 1], 0, 1)
    wanted = color.hsv2rgb(colours)
    assert np.abs(weather.brightness(image, severity, no_draw()) - wanted).max() < 1e-9
    factor, more = digital.SATURATE[severity - 1]
    colours = color.rgb2hsv(image)
    colours[..., 1] = np.clip(colours[..., 1] * factor + more, 0, 1)
    wanted = color.hsv2rgb(colours)
    assert np.abs(digital.saturate(image, severity, no_draw()) - wanted).max() < 1e-9


def test_blur(images: Any) -> None:
    gaussian = pytest.importorskip("skimage.filters", reason="an extra").gaussian
    for severity, sigma in enumerate(blur.GAUSSIAN, 1):
        wanted = gaussian(images[3] / 255, sigma=sigma, channel_axis=-1)
        assert np.allclose(blur.gaussian_blur(images[3] / 255, severity, no_draw()), wanted)


def test_motion_and_clouds_are_those_of_imagecorruptions(images: Any) -> None:
    published = pytest.importorskip("imagecorruptions.corruptions", reason="an extra")
    for angle in (-40, 0, 33, -120):
        wanted = published._motion_blur(images[0] / 255, 9, 2.5, angle)
        assert np.allclose(imaging.motion_blurred(images[0] / 255, 9, 2.5, angle), wanted)
    np.random.seed(0)
    assert np.allclose(published.plasma_fractal(32, 2.0), plasma(32, 2.0, RandomState(0)), atol=1e-6)
