"""Image files of NumPy that lie about their sizes, are packed without bound, or hold more than numbers."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landscape.errors import UserError
from landscape.files.archives import Allowance, UnreadableError, read_npz

IMAGES, LABELS = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3), np.arange(4)


def header(shape: Any, kind: Any, version: bytes = b"\x01\x00", order: bool = False) -> bytes:
    """The beginning of an ``.npy`` that says whatever it is told."""
    text = f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    length = struct.pack("<H", len(text)) if version[0] == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + version + length + text


def npz(path: Path, images: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    """An archive with these bytes for the images."""
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("train_x.npy", images)
        archive.writestr("train_y.npy", labels.getvalue())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_npz(path, ("train_x", "train_y"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("images", [IMAGES, np.asfortranarray(IMAGES), IMAGES.astype(">f8"), IMAGES[:0]])
def test_whole_files_are_read(save: Any, images: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", train_x=images, train_y=LABELS, classes=np.array(["a", "b"]))
    found = read_npz(tmp_path / "a.npz", ("train_x", "train_y"), optional=("classes", "other"))
    assert list(found) == ["train_x", "train_y", "classes"]
    assert np.array_equal(found["train_x"], images)
    assert found["train_x"].dtype == images.dtype
    assert list(found["classes"]) == ["a", "b"]


LIES: dict[str, bytes] = {
    "a terabyte": header((1 << 20, 1 << 20), "|u1") + b"abc",
    "2**80 bytes": header((1 << 40, 1 << 40), "|u1") + b"abc",
    "fewer than there are": header((2,), "|u1") + b"abc",
    "a negative length": header((-1, 3), "|u1") + b"abc",
    "2**60 elements of no size": header((1 << 60,), "|V0"),
    "2**60 texts of no length": header((1 << 60,), "<U0"),
    "objects": header((1,), "|O") + b"\x80\x04cos\nsystem\n",
    "records": header((1,), [("a", "<f8"), ("b", "|O")]) + b"a" * 16,
    "records of numbers": header((1,), [("a", "<f8")]) + b"a" * 8,
    "arrays in the type": header((1,), ("<f8", (3,))) + b"a" * 24,
    "an unheard-of type": header((1,), "<q77") + b"a",
    "a type that is an expression": header((1,), "__import__('os').system('true')") + b"a",
    "brackets without end": b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"(" * 60_000,
    "a header of 3 GB": b"\x93NUMPY\x02\x00" + struct.pack("<I", 3 << 30) + b"{",
    "version 9": header((1,), "|u1", b"\x09\x00") + b"a",
    "nothing": b"",
    "no array": b"hello",
}


@pytest.mark.parametrize("lie", LIES)
def test_arrays_that_lie(lie: str, tmp_path: Path) -> None:
    assert "can't be read as .npz: 'train_x'" in refusal(npz(tmp_path / "a.npz", LIES[lie]))


def test_what_unpacks_to_far_more_than_the_file(tmp_path: Path) -> None:
    content = header((200 << 20,), "|u1") + bytes(200 << 20)
    path = npz(tmp_path / "a.npz", content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    assert "would bring it to 200 MB unpacked, more than a file of" in refusal(path)


def test_archives_that_contradict_themselves(tmp_path: Path) -> None:
    whole = npz(tmp_path / "a.npz", header((3,), "|u1") + b"abc").read_bytes()
    for place, message in ((whole.index(b"abc"), "CRC"), (whole.rindex(b"PK\x05\x06"), "end of the zip")):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / "b.npz").write_bytes(changed)
        assert message in refusal(tmp_path / "b.npz")
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(tmp_path / "a.npz", "a") as archive,
    ):
        archive.writestr("train_x.npy", b"")
    assert "two entries of the archive have one name" in refusal(tmp_path / "a.npz")
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        packed = npz(tmp_path / "c.npz", header((3,), "|u1") + b"abc", method)
        assert "packed in an unusual way" in refusal(packed)


def test_a_list_of_entries_that_fills_the_memory(tmp_path: Path) -> None:
    whole = bytearray(npz(tmp_path / "a.npz", b"").read_bytes())
    end = whole.rindex(b"PK\x05\x06")
    whole[end + 12 : end + 16] = struct.pack("<I", 1 << 30)
    (tmp_path / "a.npz").write_bytes(whole)
    assert "its list of entries has 1,024 MB" in refusal(tmp_path / "a.npz")


def test_allowances_add_up() -> None:
    allowance = Allowance(10, free=100, factor=2)
    allowance.take(100, "the first")
    allowance.take(20, "the second")
    with pytest.raises(UnreadableError, match="the third would bring it to 121 bytes unpacked"):
        allowance.take(1, "the third")


@pytest.mark.parametrize("text", ["{'descr': f(", "{'a': '''", "(" * 5000, "\\", "0x", "{1: 2, 'shape': {"])
def test_headers_that_are_no_python(text: str, tmp_path: Path) -> None:
    """NumPy takes a header apart as Python's source, whose tokenizer has an error class of its own."""
    line = text.encode("latin1") + b"\n"
    bad = b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line
    assert "can't be read as .npz" in refusal(npz(tmp_path / "x.npz", bad))
