"""``python -m landscape.surface`` from its help to its files: every option does what it says."""

from __future__ import annotations

import dataclasses
import json
import re
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from command import ROOT, network, save_images, save_network, surface
from PIL import Image
from safetensors.torch import save_file
from test_checkpoint_forms import ElsewhereResNet20
from torch import Tensor, nn

from landscape.images import IMAGENET_STATISTICS
from landscape.surface import Surface, load_surface
from landscape.surface.surface_options import SurfaceOptions

FAST = ["--data", "npz:images.npz", "--threads", "1", "--no-page", "--no-plot"]
LINE = [*FAST, "--dim", "1", "--points", "3", "--examples", "10"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two networks, a sparse one, and images."""
    folder = tmp_path_factory.mktemp("command")
    save_network(folder / "net.pt")
    save_network(folder / "twin.pt", seed=1)
    sparse = network().state_dict()
    for value in sparse.values():
        if value.dim() == 4:
            value[:, :, 1:] = 0
    torch.save(sparse, folder / "sparse.pt")
    save_images(folder / "images.npz")
    return folder


def computed(place: Path, output: Path, *arguments: object) -> Surface:
    """The surface file of a run that ended well."""
    outcome = surface(*arguments, "-o", output / "x.surface.h5", folder=place)
    assert outcome.code == 0, outcome.err
    return load_surface(output / "x.surface.h5")


def center(model: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Loss and accuracy as anyone computes them."""
    with torch.inference_mode():
        scores = model(inputs)
    return float(F.cross_entropy(scores, targets)), float((scores.argmax(1) == targets).double().mean())


def npz_examples(place: Path, split: str = "train") -> tuple[Tensor, Tensor]:
    """All of images.npz, normalized by hand with the training pixels' statistics."""
    arrays = np.load(place / "images.npz")
    train = arrays["train_x"] / 255.0
    pixels = (arrays[f"{split}_x"] / 255.0 - train.mean((0, 1, 2))) / train.std((0, 1, 2))
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float(), torch.from_numpy(arrays[f"{split}_y"])


class Own(nn.Module):
    """A user's network, with an argument."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4 * 7 * 7, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.features(inputs).flatten(1))  # type: ignore[no-any-return]


def renamed(prefix: str) -> Callable[[nn.Module, Path], None]:
    def save(model: nn.Module, path: Path) -> None:
        state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 7}, path)

    return save


def scripted(model: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; people's files stay
        torch.jit.trace(model, torch.zeros(2, 3, 32, 32)).save(path)  # type: ignore[no-untyped-call]


FORMS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Path], None], list[str]]] = {
    "published ResNet-20, bare": (ElsewhereResNet20, lambda m, path: torch.save(m.state_dict(), path), []),
    "wrapped, DataParallel, compiled": (ElsewhereResNet20, renamed("module._orig_mod."), []),
    "safetensors": (ElsewhereResNet20, lambda m, path: save_file(m.state_dict(), path), []),
    "TorchScript": (Own, scripted, ["--trust-checkpoint"]),
    "user factory": (Own, renamed(""), ["--model", "test_surface_command:Own"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_others_checkpoints(form: str, place: Path, tmp_path: Path) -> None:
    make, save, arguments = FORMS[form]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
    save(model, tmp_path / "theirs.bin")
    found = computed(place, tmp_path, tmp_path / "theirs.bin", *LINE[:-1], "0", *arguments)
    loss, accuracy = center(model, *npz_examples(place))
    assert found.loss[1, 0] == pytest.approx(loss, rel=1e-5)
    assert found.accuracy[1, 0] == pytest.approx(accuracy)
    assert np.isfinite(found.loss).all()


def test_torchvision_resnet18_on_an_image_folder(tmp_path: Path) -> None:
    """Prepared as torchvision's weights are, or at the images' own size where the user says so."""
    from torchvision.models import ResNet18_Weights, resnet18

    draw, images = np.random.default_rng(0), []
    for number, name in enumerate(["bee", "ant"]):
        (tmp_path / "photos" / name).mkdir(parents=True)
        images.append(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        Image.fromarray(images[-1]).save(tmp_path / "photos" / name / f"{number}.png")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet18(num_classes=2).eval()
    torch.save(model.state_dict(), tmp_path / "net.pth")
    choice = ["--model", "torchvision:resnet18", "--data", "imagefolder:photos", *LINE[2:]]
    found = computed(tmp_path, tmp_path, "net.pth", *choice)
    prepare = ResNet18_Weights.DEFAULT.transforms()
    large = torch.stack([prepare(Image.fromarray(one)) for one in images])
    loss, _ = center(model, large, torch.tensor([1, 0]))  # classes in alphabetical order
    assert found.loss[1, 0] == pytest.approx(loss, rel=1e-4)
    assert found.about["architecture"] == "torchvision:resnet18"
    found = computed(
        tmp_path, tmp_path, "net.pth", *choice, "--image-size", "40", "--crop", "1", "--overwrite"
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET_STATISTICS)
    inputs = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255 - mean) / std
    loss, _ = center(model, inputs, torch.tensor([1, 0]))
    assert found.loss[1, 0] == pytest.approx(loss, rel=1e-4)


def test_two_checkpoints_are_compared(place: Path, tmp_path: Path) -> None:
    for name, file in (("x", "net.pt"), ("y[red]", "twin.pt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "final.pt").symlink_to(place / file)
    small = ["--data", f"npz:{place / 'images.npz'}", "--points", "3", "--examples", "10", "--threads", "1"]
    outcome = surface("x/final.pt", "y[red]/final.pt", *small, folder=tmp_path)
    assert outcome.code == 0, outcome.err
    written = ["x-final.surface.h5", "y[red]-final.surface.h5", "comparison.html", "comparison.png"]
    assert {path.name for path in (tmp_path / "surfaces").iterdir()} == set(written)
    assert outcome.out.splitlines()[-4:] == [f"wrote surfaces/{name}" for name in written]
    table = outcome.out.split("wrote")[0]
    assert "x-final" in table
    assert "y[red]-final" in table
    for row in ("Ra ", "loss at the centre", "accuracy at the centre", "loss range", "points", "examples/s"):
        assert row in table
    assert "±" in table
    assert re.search(r"Ra .*\[.*\].*\[.*\]", table)
    assert "x-final" in (tmp_path / "surfaces" / "comparison.html").read_text()
    with Image.open(tmp_path / "surfaces" / "comparison.png") as picture:
        assert picture.width > 400
    again = surface("x/final.pt", "y[red]/final.pt", *small, "--no-page", "--no-plot", folder=tmp_path)
    assert again.err.count("is there and finished; --overwrite would compute it anew") == 2


def test_train_and_test_examples(place: Path, tmp_path: Path) -> None:
    found = computed(place, tmp_path, "net.pt", *LINE[:-2], "--split", "both", "--examples", "30")
    assert found.splits == ("train", "test")
    assert found.about["data"]["examples"] == {"train": 30, "test": 20}
    model = network().eval()
    loss, accuracy = center(model, *npz_examples(place, "test"))
    assert found.metric("loss", split="test").values[1, 0] == pytest.approx(loss, rel=1e-5)
    assert found.metric("accuracy", split="test").values[1, 0] == pytest.approx(accuracy)


def test_planes_are_the_seeds_in_turn(place: Path, tmp_path: Path) -> None:
    three = computed(place, tmp_path, "net.pt", *LINE, "--seed", "4", "--planes", "3")
    assert [plane.about["seed"] for plane in three.planes] == [4, 5, 6]
    assert "3 seeds" in surface("net.pt", *LINE, "--planes=3", "-o", tmp_path, folder=place).out
    alone = computed(place, tmp_path, "net.pt", *LINE, "--seed", "5", "--overwrite")
    assert np.array_equal(alone.loss, three.planes[1].splits["train"].metrics["loss"].values)
    assert not np.array_equal(alone.loss, three.loss)


def test_grid_and_sampling(place: Path, tmp_path: Path) -> None:
    grid = ["net.pt", *FAST, "--examples", "10", "--points", "9", "--span", "0.5"]
    every = computed(place, tmp_path, *grid, "--exact")
    assert every.shape == (9, 9)
    assert every.alpha.tolist() == every.beta.tolist() == np.linspace(-0.5, 0.5, 9).tolist()
    assert every.settings["sampling"] == "exact"
    assert every.planes[0].computed.all()
    loose = computed(place, tmp_path, *grid, "--tolerance", "0.2", "--overwrite")
    assert loose.settings["sampling"] == {"tolerance": 0.2, "max_points": None}
    few = computed(place, tmp_path, *grid, "--max-points", "50", "--tolerance", "1e-9", "--overwrite")
    assert few.planes[0].computed.sum() == 50
    assert loose.planes[0].computed.sum() < 81
    for part in (loose, few):
        where = part.planes[0].computed
        assert np.array_equal(part.loss[where], every.loss[where])
        assert np.abs(part.loss - every.loss).max() < 0.3 * np.ptp(every.loss)
    assert computed(place, tmp_path, "net.pt", *LINE, "--overwrite").shape == (3, 1)


def test_between_two_networks(place: Path, tmp_path: Path) -> None:
    way = computed(place, tmp_path, "net.pt", *LINE, "--between", "twin.pt", "--exact")
    assert way.planes[0].about["alpha_to"] == "twin"
    assert way.settings["engine"]["batch_norm"] == "recalibrate"
    end = computed(place, tmp_path, "twin.pt", *LINE, "--batch-norm", "recalibrate", "--overwrite")
    at_one = int(np.argmin(np.abs(way.alpha - 1)))
    assert way.alpha[at_one] == 1.0
    assert way.loss[at_one, 0] == pytest.approx(end.loss[1, 0], rel=1e-4)
    fixed = computed(place, tmp_path, "twin.pt", *LINE, "--overwrite")
    assert fixed.loss[1, 0] != pytest.approx(end.loss[1, 0], rel=1e-3)
    third = [*FAST, "--examples", "10", "--points", "3", "--between", "twin.pt", "sparse.pt", "--overwrite"]
    plane = computed(place, tmp_path, "net.pt", *third)
    assert (plane.planes[0].about["alpha_to"], plane.planes[0].about["beta_to"]) == ("twin", "sparse")


def test_directions_go_round(place: Path, tmp_path: Path) -> None:
    first = computed(place, tmp_path, "sparse.pt", *LINE, "--keep-directions")
    (tmp_path / "x.surface.h5").rename(tmp_path / "first.surface.h5")
    kept = first.planes[0].directions[0]
    torch.save([{name: torch.from_numpy(value) for name, value in kept.items()}], tmp_path / "first.pt")
    for file in ("first.surface.h5", "first.pt"):
        again = computed(place, tmp_path, "sparse.pt", *LINE, "--directions", tmp_path / file, "--overwrite")
        assert np.array_equal(again.loss, first.loss)
        about = again.planes[0].about
        assert (about["kind"], about["label"], about["normalize"]) == ("given", "first", "none")
    assert again.planes[0].directions == ()
    changed = [{name: torch.from_numpy(value * 2) for name, value in kept.items()}]
    torch.save(changed, tmp_path / "first.pt")
    outcome = surface(
        *["sparse.pt", *LINE, "--directions", tmp_path / "first.pt", "-o", tmp_path / "x.surface.h5"],
        folder=place,
    )
    assert "made with other settings (planes:" in outcome.error


def weights(place: Path, name: str) -> Mapping[str, Tensor]:
    return torch.load(place / name, weights_only=True)  # type: ignore[no-any-return]


def test_masks(place: Path, tmp_path: Path) -> None:
    sparse = weights(place, "sparse.pt")
    for choice, source, zero in (("auto", "zeros", True), ("zeros", "zeros", True), ("none", "none", False)):
        keep = ["--mask", choice, "--keep-directions", "--overwrite"]
        found = computed(place, tmp_path, "sparse.pt", *LINE, *keep)
        about, kept = found.planes[0].about, found.planes[0].directions[0]
        assert about["mask"] == found.settings["mask"]["source"] == source
        pruned = {name: kept[name][sparse[name].numpy() == 0] for name in kept if kept[name].ndim == 4}
        assert all((values == 0).all() == zero for values in pruned.values())
        assert all((kept[name] == 0).all() for name in kept if kept[name].ndim == 1)  # biases, norm layers
        assert (about["density"] == pytest.approx(1 / 3)) if zero else (about["density"] is None)


def norms(values: np.ndarray[Any, Any], how: str) -> np.ndarray[Any, Any]:
    parts = {"filter": (len(values), -1), "layer": (1, -1), "weight": (values.size, 1)}
    return np.asarray(np.linalg.norm(values.reshape(parts[how]).astype(np.float64), axis=1))


def test_normalizations(place: Path, tmp_path: Path) -> None:
    original = weights(place, "net.pt")
    for how in ("filter", "layer", "weight", "none"):
        keep = ["--normalize", how, "--keep-directions", "--overwrite"]
        found = computed(place, tmp_path, "net.pt", *LINE, *keep)
        kept = {name: value for name, value in found.planes[0].directions[0].items() if value.ndim > 1}
        assert found.planes[0].about["normalize"] == how
        for name, value in kept.items():
            if how == "none":
                assert 0.3 < value.std() < 2.5
            else:
                assert norms(value, how) == pytest.approx(norms(original[name].numpy(), how), rel=1e-5)


def test_examples_arithmetic_and_batches(place: Path, tmp_path: Path) -> None:
    base = computed(place, tmp_path, "net.pt", *LINE)
    chosen = computed(place, tmp_path, "net.pt", *LINE, "--example-seed", "1", "--overwrite")
    assert (base.about["data"]["seed"], chosen.about["data"]["seed"]) == (0, 1)
    assert base.settings["examples"] != chosen.settings["examples"]
    threads = torch.get_num_threads()
    more = ["--dtype", "float64", "--batch-size", "3", "--device", "cpu", "--overwrite"]
    exact = computed(place, tmp_path, "net.pt", *LINE, *more)
    engine = exact.settings["engine"]
    assert (engine["dtype"], engine["batch_size"], engine["device"]) == ("float64", 3, "cpu")
    assert exact.loss == pytest.approx(base.loss, rel=1e-4)
    assert not np.array_equal(exact.loss, base.loss)
    assert torch.get_num_threads() == threads


def test_data_root_and_default_output(place: Path, tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "cifar10.npz").symlink_to(place / "images.npz")
    choice = ["--data", "cifar10", "--data-root", "sets", *LINE[2:]]
    outcome = surface(place / "net.pt", *choice, folder=tmp_path)
    assert outcome.code == 0, outcome.err
    assert "cifar10 (" in outcome.err
    assert [path.name for path in (tmp_path / "surfaces").iterdir()] == ["net.surface.h5"]
    named = surface(place / "net.pt", *LINE[2:], "--data-root", "sets", "-o", "fine.h5", folder=tmp_path)
    assert "checkpoint names no data; found under sets" in named.err
    assert (tmp_path / "fine.h5").is_file()


def test_what_the_file_says(place: Path, tmp_path: Path) -> None:
    found = computed(place, tmp_path, "net.pt", *LINE)
    assert found.complete
    assert found.label == "net"
    assert found.about["checkpoint"]["file"] == "net"
    assert re.fullmatch("[0-9a-f]{64}", found.about["checkpoint"]["sha256"])
    assert found.about["architecture"] == "resnet20"
    assert str(place) not in json.dumps([found.settings, found.about])


def help_text(columns: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "landscape.surface", "--help"],
        env={"PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def option_names() -> list[str]:
    order = ("network", "data", "plane", "sampling", "computation", "cluster", "output")
    assert set(order) == {group.name for group in dataclasses.fields(SurfaceOptions)}
    groups = [getattr(SurfaceOptions(), name) for name in order]
    fields = [field.name for group in groups for field in dataclasses.fields(group)]
    return ["--" + name.replace("_", "-") for name in fields]


@pytest.mark.parametrize("columns", [80, 120])
def test_help_lists_every_option_with_its_default(columns: int) -> None:
    text = help_text(columns)
    assert max(map(len, text.splitlines())) <= columns
    panels, _, examples = text.partition("Examples:")
    begun = re.sub(r"(?m)^│ +(?:\* +)?(?=--)", "§", panels)  # an option, not one that a text names
    plain = re.sub(r"[\s│╭╮╰╯─]+", " ", begun)
    names = option_names()
    places = [plain.index(f"§{name} ") for name in names]
    assert places == sorted(places)
    for name, start, stop in zip(names, places, [*places[1:], len(plain)], strict=True):
        assert "[default: " in plain[start:stop], name
    groups = ["Network", "Data", "Plane", "Sampling", "Computation", "Workers", "Output"]
    assert [name for name in re.findall(r"╭─ (\w+) ", panels) if name in groups] == groups
    assert not re.search("None|True|False|empty-", plain)
    assert "python -m landscape.surface a.pt --between b.pt --dim 1 --exact" in examples


def test_the_examples_in_help_parse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from landscape.surface.__main__ import EPILOGUE

    parsed: list[SurfaceOptions] = []
    monkeypatch.setattr(
        "landscape.surface.__main__.compute_surfaces", lambda checkpoints, options: parsed.append(options)
    )
    lines = re.findall("`python -m landscape.surface (.*)`", EPILOGUE)
    for line in lines:
        assert surface(*line.split(), folder=tmp_path).code == 0
        parsed[-1].check()
    assert len(parsed) == len(lines) >= 5
    assert parsed[3].plane.between == (Path("b.pt"),)


def test_help_is_quick_and_needs_no_torch() -> None:
    start = "import sys; from landscape.surface.__main__ import main; main(['--help'])"
    check = f"{start}; assert 'torch' not in sys.modules"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", check], env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


def test_the_package_is_the_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "landscape", "--points", "0"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Parameter CHECKPOINTS requires an argument")
