"""A library's model gets its images as the library prepares them; its own transform is the oracle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from landscape.checkpoint import LoadedCheckpoint, load_checkpoint
from landscape.commandline.options import DataOptions
from landscape.commandline.subject import load_examples
from landscape.data import check_model_takes, load_data
from landscape.data.model_config import model_data
from landscape.errors import UserError

CLASSES = ("ant", "bee", "cat")
SIZES = [(60, 90), (83, 51), (70, 70), (301, 256)]


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(CLASSES):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number, (height, width) in enumerate(SIZES):
            pixels = np.random.default_rng(10 * label + number).integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return "imagefolder:pictures"


def saved(model: nn.Module, spec: str) -> LoadedCheckpoint:
    torch.save(model.state_dict(), "net.pt")
    return load_checkpoint("net.pt", model=spec)


def compare(pictures: str, loaded: LoadedCheckpoint, transform: Any, **options: Any) -> dict[str, Any]:
    """Every normalized image against the library's own transform of the file, within rounding."""
    examples, about = load_examples(loaded, DataOptions(data=pictures, **options))
    mine = examples["train"].to("cpu", torch.float32).tensors[0]
    indices = load_data(pictures, split="train").indices
    files = sorted(Path("pictures").rglob("*.png"))
    for row, index in enumerate(indices):
        with Image.open(files[index]) as image:
            expected = transform(image.convert("RGB"))
        assert torch.allclose(mine[row], expected, atol=2e-6), files[index]
    found: dict[str, Any] = about["data"]
    return found


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {"num_classes": 3}),
        ("vit_tiny_patch16_224", {"img_size": 64, "num_classes": 3}),
        ("resnet10t", {"num_classes": 3}),
        ("mobilenetv3_small_050", {"num_classes": 3}),
        ("test_vit", {"num_classes": 3}),
    ],
)
def test_timm(
    pictures: str, name: str, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, **arguments)
    inside = ", ".join(f"{key}={value}" for key, value in arguments.items())
    loaded = saved(model, f"timm:{name}({inside})")
    config = timm.data.resolve_data_config(
        {"img_size": arguments.get("img_size")}, pretrained_cfg=model.pretrained_cfg
    )
    transform = timm.data.create_transform(**config)
    about = compare(pictures, loaded, transform)
    assert about["mean"] == tuple(config["mean"])
    assert about["images"]["interpolation"] == config["interpolation"]
    assert about["images"]["size"] == list(config["input_size"][1:])
    assert about["normalization"]["source"] == "timm's configuration of the model"
    said = capsys.readouterr().err
    assert "timm's configuration of the model" in said
    assert config["interpolation"] in said


@pytest.mark.parametrize("mode", ["squash", "border", "center"])
def test_timms_ways_to_crop(pictures: str, mode: str) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(
        "test_vit",
        num_classes=3,
        pretrained_cfg_overlay={"crop_mode": mode, "crop_pct": 0.85, "interpolation": "bilinear"},
    )
    loaded = saved(model, "timm:test_vit(num_classes=3)")
    loaded.model.pretrained_cfg = model.pretrained_cfg
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    assert compare(pictures, loaded, transform)["images"]["mode"] == mode


def test_a_size_that_is_no_square(pictures: str) -> None:
    timm = pytest.importorskip("timm")
    for mode in ("squash", "center"):
        model = timm.create_model("test_vit", num_classes=3, img_size=(64, 96))
        config = {**model.pretrained_cfg, "crop_mode": mode}
        loaded = saved(model, "timm:test_vit(num_classes=3, img_size=(64, 96))")
        loaded.model.pretrained_cfg = config
        asked = {"input_size": (3, 64, 96)}
        compare(
            pictures,
            loaded,
            timm.data.create_transform(**timm.data.resolve_data_config(asked, pretrained_cfg=config)),
        )


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "regnet_y_400mf"])
def test_torchvision(pictures: str, name: str) -> None:
    from torchvision import models

    model = models.get_model(name, num_classes=3)
    transform = models.get_model_weights(name).DEFAULT.transforms()  # type: ignore[attr-defined]
    about = compare(pictures, saved(model, f"torchvision:{name}(num_classes=3)"), transform)
    assert about["normalization"]["source"].startswith(f"torchvision's for {name} IMAGENET1K_V")


def test_published_weights_of_torchvision_are_known_by_their_files() -> None:
    first, second = (model_data(nn.Identity(), "torchvision:resnet50", {}, file) for file in FILES)
    assert first is not None
    assert second is not None
    assert (first.preparation.resize, second.preparation.resize) == ((256, 256), (232, 232))
    swag = model_data(nn.Identity(), "torchvision:vit_b_16", {}, "vit_b_16_swag-9ac1b537")
    assert swag is not None
    assert (swag.preparation.size, swag.preparation.interpolation) == ((384, 384), "bicubic")
    small = model_data(nn.Identity(), "torchvision:vit_b_16", {"image_size": 64}, "mine")
    assert small is not None
    assert (small.preparation.size, small.preparation.resize) == ((64, 64), (73, 73))
    assert model_data(nn.Identity(), "mine:small", {}, "mine") is None


FILES = ("resnet50-0676ba61", "resnet50-11ad3fa6")


def test_a_strangers_factory_of_a_timm_model(pictures: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    Path("nets_of_a_user.py").write_text(
        "import timm\ndef make(): return timm.create_model('test_vit', num_classes=3, img_size=48)\n"
    )
    monkeypatch.syspath_prepend(".")
    monkeypatch.delitem(sys.modules, "nets_of_a_user", raising=False)
    model = timm.create_model("test_vit", num_classes=3, img_size=48)
    config = timm.data.resolve_data_config({"img_size": 48}, model=model)
    loaded = saved(model, "nets_of_a_user:make")
    assert compare(pictures, loaded, timm.data.create_transform(**config))["images"]["size"] == [48, 48]


def test_what_the_user_says_comes_first(pictures: str) -> None:
    timm = pytest.importorskip("timm")
    loaded = saved(
        timm.create_model("test_vit", num_classes=3, img_size=64), "timm:test_vit(num_classes=3,img_size=64)"
    )
    transform = timm.data.create_transform(
        input_size=(3, 64, 64), interpolation="bilinear", crop_pct=0.8, mean=(0.1,) * 3, std=(0.7,) * 3
    )
    options = {"mean": (0.1,), "std": (0.7,), "image_size": 64, "crop": 0.8, "interpolation": "bilinear"}
    about = compare(pictures, loaded, transform, **options)
    assert about["images"]["source"] == "as given"
    _, again = load_examples(loaded, DataOptions(data=pictures), like=about)
    assert again["data"]["images"] == about["images"]
    assert again["data"]["mean"] == about["mean"]


def test_a_model_that_asserts_its_size_is_one_line() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=64).eval()
    with pytest.raises(UserError, match=r"can't take inputs of shape \[3, 32, 32\] of sample: Input height"):
        check_model_takes(model, load_data("sample", examples=4))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:test_vit(img_size=a)", "model timm:test_vit failed: TypeError"),
        ("timm:test_vit(patch_size=0)", "ZeroDivisionError"),
        ("timm:test_vit(nonsense=3)", "unexpected keyword argument 'nonsense'"),
        ("timm:test_vit.nonsense", "Invalid pretrained tag"),
        ("torchvision:vit_b_16(image_size=33)", "AssertionError: Input shape indivisible"),
        ("torchvision:resnet18(num_classes=-1)", "RuntimeError"),
        ("sys:exit", "sys:exit failed: SystemExit"),
        ("timm:test_vit(img_size=64, **{'a': 1})", "each argument needs a name of its own"),
        ("timm:test_vit(depth=1, depth=2)", "can't be read"),
    ],
)
def test_whatever_a_factory_raises_is_one_line(tmp_path: Path, spec: str, message: str) -> None:
    pytest.importorskip("timm")
    torch.save({"weight": torch.zeros(3, 3)}, tmp_path / "net.pt")
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(tmp_path / "net.pt", model=spec)
    assert "\n" not in str(caught.value)
