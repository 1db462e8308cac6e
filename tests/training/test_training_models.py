"""Architectures: parameter counts of the literature, module names, shapes, tracing."""

import pytest
import torch

from landscape.errors import UserError
from training.models import ARCHITECTURES, build_model, full_arguments

# He et al. 2016, table 6: 0.27, 0.46, 0.66, 0.85 million. The others: closed-form sums over the layers.
COUNTS = [
    ("resnet20", {}, 269_722),
    ("resnet32", {}, 464_154),
    ("resnet44", {}, 658_586),
    ("resnet56", {}, 853_018),
    ("resnet32", {"shortcut": "B"}, 466_906),
    ("resnet32", {"widths": (32, 64, 128), "shortcut": "B"}, 1_860_522),
    ("resnet32_wide", {}, 1_860_522),
    ("resnet32_wide", {"num_classes": 100}, 1_872_132),
    ("vgg19", {}, 20_035_018),
    ("vgg19", {"num_classes": 100}, 20_081_188),
]


@pytest.mark.parametrize(("name", "arguments", "count"), COUNTS)
def test_parameter_counts(name: str, arguments: dict, count: int) -> None:
    model = build_model(name, **arguments)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def resnet_count(blocks: int, widths: tuple[int, int, int], option_b: bool, classes: int) -> int:
    """Layer-by-layer sum, written independently of the modules."""
    total, channels = 27 * widths[0] + 2 * widths[0], widths[0]
    for width in widths:
        for _ in range(blocks):
            total += 9 * channels * width + 9 * width * width + 4 * width
            if option_b and channels != width:
                total += channels * width + 2 * width
            channels = width
    return total + channels * classes + classes


@pytest.mark.parametrize("blocks", [3, 5, 7, 9])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_counts_follow_the_closed_form(blocks: int, shortcut: str) -> None:
    model = build_model(f"resnet{6 * blocks + 2}", num_classes=7, widths=(4, 6, 10), shortcut=shortcut)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == resnet_count(blocks, (4, 6, 10), shortcut == "B", 7)


def test_published_module_names() -> None:
    """The keys of the widely published CIFAR checkpoints."""
    option_a = set(build_model("resnet20").state_dict())
    block = {f"layer1.0.{part}" for part in ("conv1.weight", "bn1.weight", "bn1.running_var", "conv2.weight")}
    assert (
        block | {"conv1.weight", "bn1.bias", "layer3.2.bn2.num_batches_tracked", "linear.weight"} <= option_a
    )
    assert not any("shortcut" in name for name in option_a)
    option_b = set(build_model("resnet20", shortcut="B").state_dict())
    assert {"layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.weight"} <= option_b


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_traces_and_gives_logits(name: str) -> None:
    model = build_model(name, num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(images)
        traced = torch.fx.symbolic_trace(model)(images)
    assert logits.shape == (2, 3)
    assert torch.equal(logits, traced)


def test_option_a_shortcut_pads_both_sides() -> None:
    shortcut = build_model("resnet20", widths=(2, 5, 6)).layer2[0].shortcut
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4)
    out = shortcut(x)
    assert out.shape == (1, 5, 2, 2)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert out[:, 0].abs().sum() == 0
    assert out[:, 3:].abs().sum() == 0


def test_full_arguments_are_plain_and_complete() -> None:
    wide = full_arguments("resnet32_wide", {"num_classes": 100})
    assert wide == {"num_classes": 100, "widths": [32, 64, 128], "shortcut": "B"}


def test_bad_names() -> None:
    with pytest.raises(UserError, match="did you mean resnet20"):
        build_model("resnet-20")
    with pytest.raises(UserError, match="vgg19 has no widths"):
        build_model("vgg19", widths=(1, 2, 3))
