"""Models that the page hands out, read back by small parsers of our own: binary glTF and PLY."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Tab, Tabs
from viewer_surfaces import bowl

pytestmark = pytest.mark.browser

HOSTILE = "</script><b>\n\"'& 🦊 " + "x" * 300
WHOLE = bowl(label="whole", points=(7, 5))
HOLES = bowl(label=HOSTILE, points=15, nan=True, inf=True)
ROW = bowl(label="one row", points=(1, 11))
TYPES = {5126: np.dtype("<f4"), 5125: np.dtype("<u4")}
WIDTHS = {"VEC3": 3, "SCALAR": 1}


@pytest.fixture
def tab(tabs: Tabs) -> Tab:
    """A whole surface, one with holes, a row."""
    tab = tabs.get("models", [WHOLE, HOLES, ROW], fragment="#view=heatmap")
    tab.visit("#view=heatmap&limits=own")
    return tab


def save(tab: Tab, kind: str, panel: int = 1) -> tuple[str, bytes]:
    """Name and content of a download."""
    tab.page.click(f".panel:nth-child({panel}) .downloads > button")
    with tab.page.expect_download() as found:
        tab.page.click(f".panel:nth-child({panel}) .menu button:has-text('{kind}')")
    return found.value.suggested_filename, Path(found.value.path()).read_bytes()


def read_glb(content: bytes) -> tuple[dict[str, Any], list[Any]]:
    """The JSON of a .glb file and its accessors' arrays; checks what the specification demands."""
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert (kind, size % 4) == (b"JSON", 0)
    document = json.loads(content[20 : 20 + size])
    binary_size, binary_kind = struct.unpack_from("<I4s", content, 20 + size)
    assert (binary_kind, binary_size % 4) == (b"BIN\0", 0)
    binary = content[28 + size :]
    assert len(binary) == binary_size == document["buffers"][0]["byteLength"]
    arrays = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        part = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        array = np.frombuffer(part, TYPES[accessor["componentType"]]).reshape(-1, WIDTHS[accessor["type"]])
        assert len(array) == accessor["count"]
        arrays.append(array)
    return document, arrays


def read_ply(content: bytes) -> tuple[list[str], Any, Any]:
    """Comments, vertices (structured) and triangles of a binary .ply file."""
    head, _, body = content.partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    comments = [line.removeprefix("comment ") for line in lines if line.startswith("comment ")]
    counts = [int(line.split()[2]) for line in lines if line.startswith("element")]
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [line.split()[1:] for line in lines if line.startswith("property") and "list" not in line]
    vertex = np.dtype([(name, kinds[kind]) for kind, name in fields])
    vertices = np.frombuffer(body, vertex, counts[0])
    face = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
    faces = np.frombuffer(body, face, counts[1], offset=vertices.nbytes)
    assert vertices.nbytes + faces.nbytes == len(body)
    assert (faces["count"] == 3).all()
    return comments, vertices, faces["corners"]


def test_glb_is_the_surface_in_a_box(tab: Tab) -> None:
    name, content = save(tab, "GLB")
    assert name == "whole_loss_nats_.glb"
    document, (positions, normals, colors, corners) = read_glb(content)
    assert document["asset"]["version"] == "2.0"
    primitive = document["meshes"][0]["primitives"][0]
    assert primitive["attributes"] == {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}
    assert primitive["indices"] == 3
    extremes = [positions.min(axis=0), positions.max(axis=0)]
    accessor = document["accessors"][0]
    np.testing.assert_array_equal([accessor["min"], accessor["max"]], np.float32(extremes))
    np.testing.assert_allclose(extremes, [[-0.5, 0, -0.5], [0.5, 0.72, 0.5]], atol=1e-6)
    a, b = np.meshgrid(WHOLE.alpha, WHOLE.beta, indexing="ij")
    height = 0.72 * (WHOLE.loss - WHOLE.loss.min()) / np.ptp(WHOLE.loss)
    expected = np.stack([a / 2, height, -b / 2], axis=-1).reshape(-1, 3)  # y up, β away from the viewer
    np.testing.assert_allclose(positions, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert (normals[:, 1] > 0).all()
    assert colors.min() >= 0
    assert colors.max() <= 1
    lowest = np.array([0x44, 0x01, 0x54]) / 255  # viridis begins with it; sRGB to linear, IEC 61966-2-1
    linear = np.where(lowest <= 0.04045, lowest / 12.92, ((lowest + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(colors[WHOLE.loss.argmin()], linear, atol=1e-5)
    triangles = positions[corners.reshape(-1, 3)]
    assert len(triangles) == 2 * 6 * 4
    ground = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])[:, 1] / 2
    assert (ground > 0).all()  # all face up and together cover the square once
    assert ground.sum() == pytest.approx(1, abs=1e-5)
    assert document["nodes"][0]["extras"]["lowest"] == pytest.approx(WHOLE.loss.min(), rel=1e-5)


def test_holes_stay_holes(tab: Tab) -> None:
    name, content = save(tab, "GLB", panel=2)
    assert len(name) < 120
    document, (positions, _, _, corners) = read_glb(content)
    assert document["nodes"][0]["extras"]["surface"] == HOSTILE.replace("\n", "\\u000a")
    finite = np.isfinite(HOLES.loss)
    assert len(positions) == finite.sum()
    assert corners.max() == len(positions) - 1
    assert np.isfinite(positions).all()


def test_ply_has_the_values(tab: Tab) -> None:
    tab.visit("#view=heatmap&limits=own&scale=log&clip=0.7")
    _, content = save(tab, "PLY")
    comments, vertices, corners = read_ply(content)
    assert "surface: whole" in comments
    assert "scale: log" in comments
    np.testing.assert_allclose(vertices["alpha"], np.repeat(WHOLE.alpha, 5), atol=1e-6)
    np.testing.assert_allclose(vertices["beta"], np.tile(WHOLE.beta, 7), atol=1e-6)
    np.testing.assert_allclose(vertices["value"], WHOLE.loss.ravel(), rtol=1e-5)
    top = WHOLE.loss.min() + np.ptp(WHOLE.loss) * 0.7**3
    share = np.log(np.minimum(WHOLE.loss, top) / WHOLE.loss.min()) / np.log(top / WHOLE.loss.min())
    np.testing.assert_allclose(vertices["z"], 0.72 * share.ravel(), atol=1e-4)
    lowest = vertices[WHOLE.loss.argmin()]
    assert [int(lowest[name]) for name in ("red", "green", "blue")] == [0x44, 0x01, 0x54]
    assert corners.shape == (48, 3)
    _, content = save(tab, "PLY", panel=2)
    comments, vertices, corners = read_ply(content)
    assert len(vertices) == np.isfinite(HOLES.loss).sum() == corners.max() + 1


def test_a_row_has_no_model(tab: Tab) -> None:
    tab.page.click(".panel:nth-child(3) .downloads > button")
    shown = ".panel:nth-child(3) .menu button:visible"
    assert [one.inner_text()[:3] for one in tab.page.query_selector_all(shown)] == ["PNG", "SVG", "CSV"]
    tab.page.keyboard.press("Escape")
    assert tab.page.query_selector_all(shown) == []
