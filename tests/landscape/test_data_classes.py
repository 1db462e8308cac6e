"""Class number k of the data is what the network learned as number k, or the command says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from landscape.data import load_data
from landscape.data.classes import check_class_names
from landscape.errors import UserError


def folder_of(path: Path, *classes: str) -> str:
    """Two pictures of each class in train and val."""
    draw = np.random.default_rng(len(classes))
    for split in ("train", "val"):
        for name in classes:
            (path / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / split / name / f"{number}.png")
    return f"imagefolder:{path}"


def test_names_are_compared_number_by_number(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "cat", "dog")
    stored: dict[str, Any] = {"classes": ["cat", "Dog"]}
    assert load_data(spec, stored=stored).num_classes == 2
    with pytest.raises(UserError, match=r"class 1 of the model is owl, of .* dog; choose the --data"):
        load_data(spec, stored={"classes": ["cat", "owl"]})
    with pytest.raises(UserError, match="class 0 of the model is dog"):
        load_data(spec, stored={}, others=[{"classes": ["dog", "cat"]}])
    with pytest.raises(UserError, match="trained on 3 classes"):
        load_data(spec, stored={"classes": ["cat", "dog", "owl"]})


def test_a_checkpoint_of_a_folder_that_names_none_is_told(tmp_path: Path) -> None:
    assert "doesn't name its classes" in check_class_names({"images": {}}, ("cat",), "x")
    assert check_class_names({}, ("cat",), "x") == ""  # anyone's network
    assert check_class_names({"images": {}}, None, "x") == ""
    assert "x doesn't name its classes, the checkpoint does" in check_class_names(
        {"classes": ["a"]}, None, "x"
    )


def test_numbers_are_no_names() -> None:
    stored = {"classes": ["airplane", "bird"]}
    assert "doesn't name" in check_class_names(stored, ("0", "1"), "x")
    assert check_class_names({"classes": ["0", "1"]}, ("airplane", "bird"), "x") == ""
    assert check_class_names(stored, ("Airplane ", "bird"), "x") == ""
