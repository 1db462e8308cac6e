"""Folding and fusing: which operations remain, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from engine_cases import SIZE, Undecided, images, network
from torch import Tensor, nn

from landscape.engine.fold import CannotFold, FoldedNet, fold
from landscape.engine.fuse_cpu import available, fuse
from landscape.engine.narrow_cpu import apart, applies, in_pairs, widened

needs_onednn = pytest.mark.skipif(not available(torch.float32), reason="this build has no oneDNN")


def folded(model: nn.Module) -> FoldedNet:
    net = fold(model.eval(), model)
    net.refresh()
    return net


def targets(net: FoldedNet) -> list[str]:
    return [str(node.target) for node in net.module.graph.nodes if node.op.startswith("call")]


@pytest.mark.parametrize("name", ["resnet option A", "vgg", "preactivation", "tangled"])
def test_folded_outputs_are_equal(name: str) -> None:
    model = network(name).double().eval()
    inputs = images()[0].double()
    with torch.no_grad():
        torch.testing.assert_close(folded(model)(inputs), model(inputs), rtol=1e-11, atol=1e-11)


def test_no_batch_norm_is_left_in_a_residual_network() -> None:
    net = folded(network("resnet option B"))
    assert net.norms == len(net.convolutions) == 15
    assert not any(isinstance(module, nn.BatchNorm2d) for module in used_modules(net))


def is_in_place(target: str) -> bool:
    return "pointwise_.binary" in target or "in_place" in target


def used_modules(net: FoldedNet) -> list[nn.Module]:
    calls = (node for node in net.module.graph.nodes if node.op == "call_module")
    return [net.module.get_submodule(str(node.target)) for node in calls]


def test_refresh_follows_the_parameters() -> None:
    model = network("vgg").eval()
    net = folded(model)
    inputs = images()[0]
    with torch.no_grad():
        for one in model.parameters():
            one.mul_(1.3)
        assert not torch.allclose(net(inputs), model(inputs), rtol=1e-3)
        net.refresh()
        torch.testing.assert_close(net(inputs), model(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_any_number_of_dimensions(dims: int) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](2, 4, 3)
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](4)
    model = nn.Sequential(conv, norm).double().eval()
    norm.running_mean.normal_()
    x = torch.randn(2, 2, *[5] * dims, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded(model)(x), model(x), rtol=1e-10, atol=1e-10)


def test_norm_that_is_not_alone_or_not_fixed_stays() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x + self.norm(x)

    loose = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    hooked = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    hooked[1].register_forward_hook(lambda *_: None)
    for model in (Shared().double(), loose.double(), hooked.double()):
        net = folded(model)
        assert net.norms == 0
        x = images()[0].double()
        with torch.no_grad():
            torch.testing.assert_close(net(x), model(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Undecided(), "can't be traced"),
        (nn.Sequential(nn.Linear(3, 3)), "no plain convolution"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")), "no plain convolution"),
        (nn.Bilinear(2, 2, 2), "more than one input"),
    ],
)
def test_refused(model: nn.Module, reason: str) -> None:
    with pytest.raises(CannotFold, match=reason):
        fold(model.eval(), model)


@needs_onednn
def test_residual_network_becomes_one_operation_per_convolution() -> None:
    net = folded(network("resnet option B"))
    assert fuse(net, images(4)[0].contiguous(memory_format=torch.channels_last), 4) == 15
    assert len(targets(net)) == 15 + 2  # and the mean and the linear layer
    assert sum(is_in_place(name) for name in targets(net)) == 6


@needs_onednn
@pytest.mark.parametrize("batch", [1, 4, 7])
@pytest.mark.parametrize("name", ["resnet option A", "resnet option B", "vgg", "preactivation", "tangled"])
def test_fused_outputs_are_equal_and_inputs_untouched(name: str, batch: int) -> None:
    model = network(name).eval()
    net = folded(model)
    inputs = images(batch)[0].contiguous(memory_format=torch.channels_last)
    before = inputs.clone()
    fuse(net, inputs, 4)
    net.refresh()
    with torch.inference_mode():
        expected, got = model(inputs), net(inputs)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=float(expected.abs().max()) * 1e-5)
        assert torch.equal(net(inputs), got)
    assert torch.equal(inputs, before)
    assert inputs.shape[2] == SIZE


@pytest.mark.parametrize(("height", "width"), [(3, 3), (1, 3), (5, 7)])
def test_two_pixels_at_a_time_is_the_same_convolution(height: int, width: int) -> None:
    padding = (height // 2, width // 2)
    conv = nn.Conv2d(3, 4, (height, width), padding=padding).double()
    x = torch.randn(2, 3, 9, 10, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    weight, bias = widened(conv.weight, conv.bias)
    with torch.no_grad():
        pairs = F.conv2d(x, weight, bias, (1, 2), padding).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(apart(pairs), conv(x))
    assert torch.equal(apart(in_pairs(x)), x)
    assert in_pairs(x).data_ptr() == x.data_ptr()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 17, 3, padding=1),
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(4, 8, 3, padding=1, groups=2),
        nn.Conv2d(3, 8, 3, padding=2, dilation=2),
    ],
)
def test_two_pixels_at_a_time_only_where_it_fits(conv: nn.Conv2d) -> None:
    wide = nn.Conv2d(3, 8, 3, padding=1)
    fits = torch.backends.cpu.get_cpu_capability() == "AVX512"
    assert applies(wide, (3, 8, 8), torch.float32) is fits
    assert not applies(wide, (3, 8, 7), torch.float32)
    assert not applies(wide, (3, 8, 8), torch.bfloat16)
    assert not applies(conv, (3, 8, 8), torch.float32)


@needs_onednn
def test_input_is_never_overwritten() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return F.relu(self.b(y) + y) + F.relu(self.a(x) + x)

    model = Skip().eval()
    net = folded(model)
    x = images(3)[0].contiguous(memory_format=torch.channels_last)
    fuse(net, x, 3)
    net.refresh()
    assert not any(is_in_place(name) for name in targets(net))
    with torch.inference_mode():
        torch.testing.assert_close(net(x), model(x), rtol=1e-5, atol=1e-5)


class HalfInLowPrecision(nn.Module):
    """Convolutions in bfloat16, whatever is around them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            x = self.norm(self.conv(x)).relu().mean((2, 3))
        found: Tensor = self.head(x.float())
        return found


def test_a_network_that_enters_autocast_is_evaluated_as_it_is() -> None:
    """A trace doesn't have such blocks, and would compute in float32."""
    torch.manual_seed(0)
    model = HalfInLowPrecision().eval()
    with pytest.raises(CannotFold, match="autocast"):
        fold(model, model)
