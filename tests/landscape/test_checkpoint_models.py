"""Which model the weights belong to: given by name, or recognised from names and shapes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape.checkpoint import LoadedCheckpoint, load_checkpoint
from landscape.checkpoint.fit import load_into
from landscape.checkpoint.format import Checkpoint, encode
from landscape.checkpoint.models import parse_model
from landscape.errors import UserError
from training.models import ARCHITECTURES


def load(path: Path, content: object, **options: Any) -> LoadedCheckpoint:
    torch.save(content, path)
    return load_checkpoint(path, **{"architectures": ARCHITECTURES, **options})


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("resnet20", {}, "resnet20(num_classes=10, widths=[16, 32, 64], shortcut=A)"),
        ("resnet20", {"num_classes": 100}, "resnet20(num_classes=100, widths=[16, 32, 64], shortcut=A)"),
        ("resnet20", {"shortcut": "B"}, "resnet20(num_classes=10, widths=[16, 32, 64], shortcut=B)"),
        ("resnet32", {"widths": (4, 8, 16)}, "resnet32(num_classes=10, widths=[4, 8, 16], shortcut=A)"),
        ("resnet32_wide", {}, "resnet32_wide(num_classes=10, widths=[32, 64, 128], shortcut=B)"),
        ("resnet32", {"widths": (32, 64, 128), "shortcut": "B"},
         "resnet32_wide(num_classes=10, widths=[32, 64, 128], shortcut=B)"),
        ("vgg19", {}, "vgg19(num_classes=10)"),
    ],
)  # fmt: skip
def test_ours_are_recognised_from_shapes(
    name: str, arguments: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    state = ARCHITECTURES[name](**arguments).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, "a.safetensors")  # sorted by name
    for loaded in (
        load(tmp_path / "a.pt", state),
        load_checkpoint("a.safetensors", architectures=ARCHITECTURES),
    ):
        assert loaded.how.startswith(
            f"{expected}, recognised from the names and shapes of {len(state)} tensors"
        )
        assert all(torch.equal(value, state[key]) for key, value in loaded.model.state_dict().items())


def test_option_b_with_torchvisions_names(tmp_path: Path) -> None:
    state = ARCHITECTURES["resnet20"](shortcut="B").state_dict()
    foreign = {
        name.replace("shortcut", "downsample").replace("linear", "fc"): value for name, value in state.items()
    }
    loaded = load(tmp_path / "a.pt", foreign)
    assert loaded.arguments["shortcut"] == "B"
    weight = loaded.model.state_dict()["layer2.0.shortcut.0.weight"]
    assert torch.equal(weight, foreign["layer2.0.downsample.0.weight"])


def test_torchvision_by_name_and_by_shapes(tmp_path: Path) -> None:
    model = torchvision.models.resnet18(num_classes=7).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    given = load(tmp_path / "a.pt", {"state_dict": model.state_dict()}, model="torchvision:resnet18")
    assert given.how.startswith(
        "torchvision:resnet18(num_classes=7), given (PyTorch file under 'state_dict')"
    )
    shapes = load(tmp_path / "a.pt", model.state_dict())
    assert shapes.how.startswith("torchvision:resnet18(num_classes=7), recognised")
    named = load(tmp_path / "a.pt", {"state_dict": model.state_dict(), "arch": "resnet18"})
    assert named.how.startswith("torchvision:resnet18(num_classes=7), named in the file")
    misnamed = load(tmp_path / "a.pt", {"state_dict": model.state_dict(), "arch": "vgg19"})
    assert misnamed.how.startswith("torchvision:resnet18(num_classes=7), recognised")
    with torch.inference_mode():
        for loaded in (given, shapes, named, misnamed):
            assert loaded.num_classes == 7
            assert torch.equal(loaded.model(images), model(images))


def test_torchvision_without_batch_norm(tmp_path: Path) -> None:
    state = torchvision.models.squeezenet1_1(num_classes=1000).state_dict()
    assert load(tmp_path / "a.pt", state, model="torchvision:squeezenet1_1").num_classes is None
    loaded = load(tmp_path / "a.pt", state, model="torchvision:squeezenet1_1(num_classes=1000)")
    assert loaded.arguments == {"num_classes": 1000}


def write_module(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module with several factories in the current folder."""
    Path(f"{name}.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes=10, hidden=8):\n"
        "        super().__init__()\n"
        "        self.net = nn.Sequential(nn.Linear(5, hidden), nn.ReLU())\n"
        "        self.out = nn.Linear(hidden, num_classes)\n"
        "    def forward(self, x):\n"
        "        return self.out(self.net(x))\n"
        "def required(num_classes): return Net(num_classes)\n"
        "def fixed(): return Net(10)\n"
        "def wrong(): return 'net'\n"
        "def failing(): raise RuntimeError('no\\nweights')\n"
        "number = 3\n"
        "class Holder:\n"
        "    make = staticmethod(fixed)\n"
    )
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_user_factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = write_module("nets_of_a_user", monkeypatch)
    path_before = list(sys.path)
    layers = [("net.0", nn.Linear(5, 8)), ("out", nn.Linear(8, 3))]
    state = {f"{name}.{key}": value for name, layer in layers for key, value in layer.state_dict().items()}
    ten = state | {"out.weight": torch.ones(10, 8), "out.bias": torch.zeros(10)}
    for spec in ("Net", "required"):
        loaded = load(tmp_path / "a.pt", state, model=f"{user}:{spec}")
        assert loaded.arguments == {"num_classes": 3}
        assert loaded.how.startswith(f"{user}:{spec}(num_classes=3), given")
    assert load(tmp_path / "a.pt", ten, model=f"{user}:fixed").arguments == {}
    assert load(tmp_path / "a.pt", ten, model=f"{user}:Holder.make").arguments == {}
    wide = {"net.0.weight": torch.ones(2, 5), "net.0.bias": torch.ones(2)}
    wide |= {"out.weight": torch.ones(3, 2), "out.bias": torch.zeros(3)}
    assert load(tmp_path / "a.pt", wide, model=f"{user}:Net(hidden=2)").arguments == {
        "num_classes": 3,
        "hidden": 2,
    }
    assert sys.path == path_before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}:Nut", "has no 'Nut'; did you mean 'Net'"),
        ("{}:number", "is a int; expected a function or class"),
        ("{}:wrong", "got a str, expected a torch.nn.Module"),
        ("{}:failing", r"failed: RuntimeError: no weights \(other_nets_of_a_user.py:13\)"),
        ("{}:Net(depth=3)", "failed: TypeError: .*unexpected keyword argument 'depth'"),
        ("no_such.nets:make", "no module 'no_such.nets' is installed or in the current folder"),
        ("needs_more:make", "needs_more needs the module 'not_installed'"),
        ("broken:make", "importing broken failed: SyntaxError"),
        ("nets.py/x:make", "expected package.module:factory"),
        ("resnet2", "unknown model 'resnet2' .did you mean resnet"),
        ("resnet20(depth=3)", "model resnet20 takes no argument 'depth'"),
        ("resnet20(widths=", "can't be read"),
        ("resnet20(3)", "arguments need names"),
        ("resnet20(widths=open('x'))", "can't be read"),
        ("torchvision:resnet81", "did you mean torchvision:resnet18"),
        ("resnet20(shortcut=B)", r"missing 'layer2.0.shortcut.0.weight' \[32, 16, 1, 1\] and 9 more"),
    ],
)
def test_unusable_models_are_one_line(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = write_module("other_nets_of_a_user", monkeypatch)
    Path("needs_more.py").write_text("import not_installed\n")
    Path("broken.py").write_text("def make(:\n")
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "a.pt", ARCHITECTURES["resnet20"]().state_dict(), model=spec.format(user))
    assert "\n" not in str(caught.value)


def test_timm_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="needs timm, which isn't installed"):
        load(tmp_path / "a.pt", {"w": torch.ones(2, 2)}, model="timm:resnet18")


def test_timm_models_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Timm:
        """Stands in for the library, which is not among the tests' dependencies."""

        is_model = staticmethod(lambda name: name == "small")
        list_models = staticmethod(lambda: ["small"])

        @staticmethod
        def create_model(name: str, *, pretrained: bool, num_classes: int = 1000) -> nn.Module:
            assert not pretrained
            return nn.Sequential(nn.Linear(4, num_classes))

    monkeypatch.setitem(sys.modules, "timm", Timm)
    state = nn.Sequential(nn.Linear(4, 6)).state_dict()
    assert load(tmp_path / "a.pt", state, model="timm:small").how.startswith(
        "timm:small(num_classes=6), given"
    )
    with pytest.raises(UserError, match="timm has no model 'smal'; did you mean timm:small"):
        load(tmp_path / "a.pt", state, model="timm:smal")


def normalized(current: bool, depth: int) -> nn.Module:
    """Weight normalization in its present form, or in the one of before; within more modules."""
    norm: Any = nn.utils.parametrizations.weight_norm if current else nn.utils.weight_norm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layers: Any = nn.Sequential(norm(nn.Conv2d(1, 4, 3)), nn.Flatten(), norm(nn.Linear(16, 3), dim=None))
    for _ in range(depth):
        layers = nn.ModuleDict({"net": layers})
    return layers  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrapped", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("depth", [0, 1])
def test_weight_normalization_of_before_is_taken_as_torch_takes_it(
    wrapped: str, depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from test_checkpoint_models import normalized\n\ndef made():\n"
    (tmp_path / "mynormalized.py").write_text(f"{code}    return normalized(True, {depth})\n")
    monkeypatch.delitem(sys.modules, "mynormalized", raising=False)
    old, model = normalized(False, depth), normalized(True, depth)
    with torch.no_grad():
        for name, one in old.named_parameters():
            if name.endswith("weight_v"):
                one.view(-1)[::2] = 0
    model.load_state_dict(old.state_dict())
    content = {wrapped + name: value for name, value in old.state_dict().items()}
    loaded = load(tmp_path / "a.pt", content, model="mynormalized:made")
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    masks = {name: value != 0 for name, value in content.items() if name.endswith("weight_v")}
    masked = load(tmp_path / "b.pt", {"model": content, "mask": masks}, model="mynormalized:made").mask
    assert masked is not None
    assert {name.rpartition(".")[2] for name in masked} == {"original1"}
    lacking = {name: value for name, value in content.items() if not name.endswith("2.weight_g")}
    with pytest.raises(UserError, match=r"doesn't fit .*weight"):
        load(tmp_path / "c.pt", lacking, model="mynormalized:made")


def test_tensors_of_the_caller_keep_their_names() -> None:
    content = dict(normalized(False, 0).state_dict())
    names = list(content)
    fit = load_into(normalized(True, 0), content, what="x", source="y")
    assert list(content) == names
    assert set(fit.names) == set(names)


def test_no_or_several_fitting_models_are_named(tmp_path: Path) -> None:
    state = ARCHITECTURES["resnet20"]().state_dict()
    del state["layer3.2.conv2.weight"]
    with pytest.raises(
        UserError,
        match=r"fit none of resnet20, .*nearest is resnet20.*missing 'layer3.2.conv2.weight'.*--model",
    ):
        load(tmp_path / "a.pt", state)

    def relu_net(width: int = 3) -> nn.Module:
        return nn.Sequential(nn.Linear(2, width), nn.ReLU())

    def tanh_net(width: int = 3) -> nn.Module:
        return nn.Sequential(nn.Linear(2, width), nn.Tanh())

    twins: dict[str, Callable[..., nn.Module]] = {"relu": relu_net, "tanh": tanh_net}
    with pytest.raises(UserError, match=r"fit several models: relu, tanh; name it with --model"):
        load(tmp_path / "a.pt", relu_net().state_dict(), architectures=twins)
    aliases = {"relu": relu_net, "again": partial(relu_net, width=3)}
    assert load(tmp_path / "a.pt", relu_net().state_dict(), architectures=aliases).architecture == "relu"


def test_without_architectures_and_model(tmp_path: Path) -> None:
    state = ARCHITECTURES["resnet20"]().state_dict()
    with pytest.raises(
        UserError, match="model is not named and can't be told from its weights; name it with"
    ):
        load(tmp_path / "a.pt", state, architectures=None)


def asking(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of ours of two kilobytes that asks for such a network."""
    weights = {"features.0.0.weight": torch.zeros(4, 3, 3, 3)}
    return encode(Checkpoint(name, arguments, weights, {}, {"num_classes": 10}))


LONG = [[1, 16, 2_000_000_000, 1]]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("torchvision:mobilenet_v2", {"inverted_residual_setting": LONG}),
        (f"torchvision:mobilenet_v2(inverted_residual_setting={LONG})", {}),
        ("shrunk", {"model": "torchvision:mobilenet_v2", "arguments": {"inverted_residual_setting": LONG},
                    "shapes": {}}),
    ],
)  # fmt: skip
def test_networks_of_far_more_parts_than_the_file_are_not_built(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="has more than 10,020 parts; expected about those of the file"):
        load(tmp_path / "a.pt", asking(name, arguments))
    assert len(nn.Sequential(*(nn.Linear(1, 1) for _ in range(6000)))) == 6000  # anyone else's are


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("torchvision:regnet_y_400mf", {"stem_width": 10**6}),
        ("torchvision:regnet_y_400mf", {"num_classes": 10**6}),
        ("torchvision:resnet18", {"num_classes": 10**10}),
        ("resnet20", {"widths": [10**9, 10**9, 10**9]}),
        ("resnet20", {"num_classes": 10**12}),
        ("torchvision:resnet18(a=" + "-" * 100_000 + "1)", {}),
    ],
)
def test_networks_far_wider_than_the_file_take_no_memory(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    made: list[Tensor] = []

    class Watched(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            if isinstance(found, Tensor) and found.device.type != "meta" and found.numel() > 10**6:
                made.append(found)
                raise MemoryError("large")
            return found

    torch.save(asking(name, arguments), tmp_path / "a.pt")
    with Watched(), pytest.raises(UserError):
        load_checkpoint(tmp_path / "a.pt", architectures=ARCHITECTURES)
    assert not made


def test_regnets_are_read(tmp_path: Path) -> None:
    state = torchvision.models.regnet_x_400mf(num_classes=3).state_dict()
    loaded = load(tmp_path / "a.pt", state, model="torchvision:regnet_x_400mf")
    assert torch.equal(loaded.model.state_dict()["fc.weight"], state["fc.weight"])


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "cache_dir"])
def test_arguments_of_timm_name_no_files(name: str, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UserError, match=f"timm:resnet18: {name} names another file; leave it out"):
        load(tmp_path / "a.pt", asking("timm:resnet18", {name: "other.pt"}), model="timm:resnet18")


def test_arguments_are_read_as_literals() -> None:
    assert parse_model("a") == ("a", {})
    assert parse_model("a()") == ("a", {})
    assert parse_model("p.m:f(x=1, y=[1, 2], z=None, s=B, t='x y', u=-1.5)") == (
        "p.m:f",
        {"x": 1, "y": [1, 2], "z": None, "s": "B", "t": "x y", "u": -1.5},
    )


class Renames(nn.Module):
    """Takes a weight of another name and scale, as its hook of a newer version does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self._register_load_state_dict_pre_hook(self._newer)

    def _newer(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        if f"{prefix}w" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}w")
        state[f"{prefix}weight"] = state[f"{prefix}weight"] * 10


def test_hooks_that_translate_a_file_run_once() -> None:
    model = Renames()
    load_into(model, {"w": torch.ones(3)}, what="model", source="file")
    assert model.weight.tolist() == [10, 10, 10]
    assert model._load_state_dict_pre_hooks
