"""Whatever comes in wrong: one line that begins with "error: ", exit code 2, and no file is touched."""

from __future__ import annotations

import itertools
import os
import pickle
import shlex
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from command import command, network, save_images, save_network, slow_linear, surface
from torch import nn

DEFAULTS = {"--data": "npz:images.npz", "--examples": "10", "--points": "3", "--threads": "1"}
SMALL = [*itertools.chain(*DEFAULTS.items()), "--no-page", "--no-plot"]


class Attack:
    """Makes a folder when it is unpickled the ordinary way."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("attacked",)


class Headless(nn.Module):
    """A classifier whose last layer nobody would take for one."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(3, classes))
        self.b = nn.Parameter(torch.ones(classes))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.mean((2, 3)) @ self.a + self.b


def seven_classes() -> nn.Module:
    """For ``--model``: has fewer classes than the data, and no layer that tells."""
    return Headless(7)


def vector_output() -> nn.Module:
    """For ``--model``: no classifier at all."""
    return nn.Sequential(nn.Conv2d(3, 4, 3))


def png(width: int = 4) -> bytes:
    """A grey picture, written out by hand."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        whole = kind + body
        return len(body).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    head = width.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    pixels = zlib.compress(b"\0" * width * (width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_checkpoints(folder: Path) -> None:
    """Checkpoints of every kind that can't be used, beside net.pt and twin.pt, which can."""
    whole = save_network(folder / "net.pt").read_bytes()
    save_network(folder / "twin.pt", seed=1)
    state = network().state_dict()
    torch.save(network(widths=(3, 4, 8)).state_dict(), folder / "wider.pt")
    torch.save(network(classes=6).state_dict(), folder / "six.pt")
    torch.save(Headless(7).state_dict(), folder / "seven.pt")
    torch.save(vector_output().state_dict(), folder / "vector.pt")
    torch.save({"state_dict": state, "note": Attack()}, folder / "evil.pt")
    (folder / "evil.pkl").write_bytes(pickle.dumps(Attack()))
    torch.save(state | {"linear.bias": torch.full((10,), torch.nan)}, folder / "nan.pt")
    torch.save({"epoch": 3}, folder / "weightless.pt")
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "picture.pt").write_bytes(png())
    (folder / "empty.pt").touch()
    for place in ("x/run", "y/run"):
        (folder / place).mkdir(parents=True)
        save_network(folder / place / "net.pt")
    torch.save(slow_linear().state_dict(), folder / "linear.pt")


def write_data(folder: Path) -> None:
    """images.npz, and what is wrong with the others."""
    good = dict(np.load(save_images(folder / "images.npz")))
    pixels, labels = good["train_x"], good["train_y"]
    np.savez(folder / "keyless.npz", pixels=pixels)
    np.savez(folder / "float.npz", train_x=pixels / 255, train_y=labels)
    np.savez(folder / "flat.npz", train_x=pixels.reshape(40, -1), train_y=labels)
    np.savez(folder / "short.npz", train_x=pixels, train_y=labels[:-1])
    np.savez(folder / "none.npz", train_x=pixels[:0], train_y=labels[:0])
    np.savez(folder / "negative.npz", train_x=pixels, train_y=labels - 1)
    np.savez(folder / "more.npz", train_x=pixels, train_y=labels + 1)
    np.savez(folder / "named.npz", train_x=pixels, train_y=labels, classes=["a", "b", "c"])
    np.savez(folder / "twelve.npz", train_x=pixels, train_y=labels, classes=list("abcdefghijkl"))
    np.savez(folder / "tiny.npz", train_x=pixels[:, :16, :16], train_y=labels)
    (folder / "cut.npz").write_bytes((folder / "images.npz").read_bytes()[:5000])
    (folder / "classes" / "cat").mkdir(parents=True)
    (folder / "broken" / "cat").mkdir(parents=True)
    (folder / "broken" / "cat" / "1.png").write_bytes(png()[:40])


def write_surfaces(folder: Path) -> None:
    """out/net.surface.h5, which nothing may touch, and things that stand where a surface should."""
    made = surface("net.pt", *SMALL, "-o", "out", folder=folder)
    assert made.code == 0, made.err
    (folder / "cut.surface.h5").write_bytes((folder / "out" / "net.surface.h5").read_bytes()[:3000])
    with h5py.File(folder / "other.h5", "w") as file:
        file["precious"] = [1, 2, 3]
    (folder / "plain").write_text("a file, not a folder")
    torch.save([{"conv1.weight": torch.ones(2, 2)}, {"conv1.weight": torch.eye(2)}], folder / "misfit.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the table names."""
    folder = tmp_path_factory.mktemp("bad")
    for write in (write_checkpoints, write_data, write_surfaces):
        write(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


CHECKPOINTS = {
    "": ["CHECKPOINTS requires an argument"],
    "missing.pt": ["no file missing.pt; expected a checkpoint"],
    "net.pt missing.pt": ["no file missing.pt"],
    "x": ["x is a folder; expected a checkpoint file"],
    "empty.pt": ["empty.pt is empty"],
    "cut.pt": ["cut.pt is truncated or damaged"],
    "picture.pt": ["picture.pt", "not a checkpoint", "a PNG image"],
    "evil.pt": ["its pickle would run code", "mkdir", "--trust-checkpoint"],
    "evil.pkl": ["its pickle would run code", "mkdir"],
    "weightless.pt": ["holds no weights; its keys: epoch"],
    "nan.pt": ["'linear.bias' has 10 NaN or infinite values"],
    "linear.pt": ["linear.pt: its weights fit none of resnet20", "name it with --model"],
    "net.pt --model 'resnet20(widths=[3,4,8])'": [
        "doesn't fit resnet20(",
        "'conv1.weight' is [2, 3, 3, 3] in the file, [3, 3, 3, 3] in the model",
    ],
    "net.pt --model vgg19": ["doesn't fit vgg19", "missing '", "unexpected '"],
    "net.pt --model resnet20x": ["unknown model 'resnet20x' (did you mean resnet20?)"],
    "net.pt --model torchvision:resnet81": ["no image classifier 'resnet81'; did you mean"],
    "net.pt --model nowhere:net": ["nowhere:net: no module 'nowhere' is installed or in the current folder"],
    "net.pt --model command:slow_liner": ["command has no 'slow_liner'; did you mean 'slow_linear'?"],
    "net.pt --mask checkpoint": ["the checkpoint stores no mask; use --mask zeros, none or auto"],
    "vector.pt --model test_surface_bad_input:vector_output": ["the model returns [2, 4, 30, 30]"],
    "x/run/net.pt x/run/../run/net.pt": ["two checkpoints have the same name"],
    "x/run/net.pt y/run/net.pt": ["two checkpoints have the same name and folder name"],
}  # fmt: skip

DATA = {
    "net.pt --data smaple": ["unknown data 'smaple' (did you mean sample?); known: cifar10"],
    "net.pt --data npz:missing.npz": ["no file missing.npz"],
    "net.pt --data npz:cut.npz": ["cut.npz can't be read as .npz"],
    "net.pt --data npz:keyless.npz": ["keyless.npz: no train_x and no train_y; it holds pixels"],
    "net.pt --data npz:float.npz": ["images are float64 of shape (40, 32, 32, 3); expected uint8"],
    "net.pt --data npz:flat.npz": ["images are uint8 of shape (40, 3072); expected uint8 of shape (N, "],
    "net.pt --data npz:short.npz": ["labels are int64 of shape (39,); expected integers of shape (40,)"],
    "net.pt --data npz:none.npz": ["the train split is empty"],
    "net.pt --data npz:negative.npz": ["labels run from -1 to 8"],
    "net.pt --data npz:more.npz": ["the model has 10 classes, more has 11"],
    "net.pt --data npz:named.npz": ["labels run from 0 to 9; expected 0 to 2"],
    "net.pt --data npz:twelve.npz": ["the model has 10 classes, twelve has 12"],
    "net.pt --data imagefolder:classes": ["classes is no image folder"],
    "net.pt --data imagefolder:broken": ["1.png can't be decoded"],
    "net.pt --data imagefolder:nowhere": ["no folder nowhere"],
    "net.pt --data cifar10 --data-root nowhere": ["cifar10: nowhere/cifar-10-batches-py does not exist"],
    "net.pt --data-root nowhere --data nowhere:images": ["no module 'nowhere'"],
    "six.pt --data sample": ["the model has 6 classes, sample has 10; choose the --data"],
    "seven.pt --model test_surface_bad_input:seven_classes": ["the model has 7 classes, images has 10"],
    "linear.pt --model command:slow_linear --data npz:tiny.npz": ["can't take inputs of shape [3, 16, 16]"],
}  # fmt: skip

OPTIONS = {
    "net.pt --points 0": ["--points 0: expected at least 2"],
    "net.pt --points 1": ["--points 1: expected at least 2"],
    "net.pt --points x": ["--points", "expected a whole number, got 'x'"],
    "net.pt --points 1.5": ["--points", "expected a whole number, got '1.5'"],
    "net.pt --points": ["--points requires an argument"],
    "net.pt --planes 0": ["--planes 0: expected at least 1"],
    "net.pt --planes 99999999999999999999": ["--planes 99999999999999999999: expected at most"],
    "net.pt --threads 99999999999999999999": ["--threads 99999999999999999999: expected at most"],
    "net.pt --examples -1": ["--examples -1: expected at least 0"],
    "net.pt --example-seed -1": ["--example-seed -1: expected at least 0"],
    "net.pt --span nan": ["--span nan: expected a positive, finite number"],
    "net.pt --span 1e-300": ["--span 1e-300: expected a positive, finite number"],
    "net.pt --span 0": ["--span 0.0: expected a positive"],
    "net.pt --span -1": ["--span -1.0: expected a positive"],
    "net.pt --span inf": ["--span inf: expected a positive"],
    "net.pt --span wide": ["--span", "wide"],
    "net.pt --tolerance 2": ["--tolerance 2.0: expected a share of the loss range between 0 and 1"],
    "net.pt --tolerance nan": ["--tolerance nan"],
    "net.pt --max-points 9": ["--max-points 9: expected at least 50"],
    "net.pt --batch-size 0": ["--batch-size 0: expected at least 1"],
    "net.pt --dim 3": ["--dim", "1, 2"],
    "net.pt --split all": ["--split", '"validation", "test", "both"'],
    "net.pt --mask ones": ["--mask", '"zeros"'],
    "net.pt --normalize fliter": ["--normalize", '"filter"'],
    "net.pt --dtype float8": ["--dtype", '"bfloat16"'],
    "net.pt --dtype tf32 --device cpu": ["dtype tf32 needs a CUDA device, not cpu; use float32"],
    "net.pt --device foo": ["--device foo: expected auto, cpu, cuda or cuda:N"],
    "net.pt --pionts 3": ["Unknown option: --pionts. Did you mean --points?", "--help shows every option"],
    "net.pt --points 3 --points 5": ["--points specified multiple times"],
    "net.pt --exact --max-points 99": ["--exact evaluates every point; leave out --max-points"],
    "net.pt --between missing.pt": ["no file missing.pt"],
    "net.pt --between wider.pt": ["the other checkpoint has shape (3, 3, 3, 3) for 'conv1.weight'"],
    "net.pt --between twin.pt twin.pt net.pt": ["--between takes one or two checkpoints, got 3"],
    "net.pt --between twin.pt net.pt --dim 1": ["--dim 1 is a line to one other checkpoint"],
    "net.pt --between twin.pt net.pt --normalize layer": ["--normalize is about random directions"],
    "net.pt --between twin.pt --directions misfit.pt": ["--between and --directions exclude each other"],
    "net.pt --between twin.pt --planes 2": ["--planes is about random directions"],
    "net.pt --directions missing.pt": ["no file missing.pt"],
    "net.pt --directions picture.pt": ["picture.pt can't be read as directions"],
    "net.pt --directions net.pt": ["net.pt: expected a list of dicts of tensors by parameter name"],
    "net.pt --directions misfit.pt": ["has shape (2, 2) for 'conv1.weight', expected (2, 3, 3, 3)"],
    "net.pt --directions out/net.surface.h5": ["holds no directions; compute it with --keep-directions"],
}  # fmt: skip

OUTPUTS = {
    "net.pt -o out --seed 1": ["planes: the file has", '"seed": 0', '"seed": 1', "--overwrite"],
    "net.pt -o out --span 0.5": ["alpha: the file has [-1.0, 1.0, 3], this run wants [-0.5, 0.5, 3]"],
    "net.pt -o out --examples 20": ["examples: the file has", "choose another output path"],
    "net.pt -o out --mask zeros --exact": ["log_tolerance: the file has", "this run wants null"],
    "twin.pt -o out/net.surface.h5": ["network: the file has", "made with other settings"],
    "net.pt -o cut.surface.h5": ["cut.surface.h5: not a readable surface file"],
    "net.pt -o other.h5": ["other.h5: an HDF5 file, but not one of landscape.surface"],
    "net.pt -o plain": ["--output plain is a file; name a folder or a file NAME.surface.h5"],
    "net.pt -o plain/below": ["plain/below/net.surface.h5", "choose another path"],
    "net.pt -o images.npz": ["--output images.npz would overwrite what this command reads"],
    "net.pt twin.pt -o two.surface.h5": ["two.surface.h5 is one file for 2 results; name a folder"],
    "net.pt -o /proc/nowhere": ["cannot write /proc/nowhere/"],
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "expected"), (CHECKPOINTS | DATA | OPTIONS | OUTPUTS).items())
def test_one_line_code_2_nothing_touched(arguments: str, expected: list[str], folder: Path) -> None:
    given = shlex.split(arguments)
    # What the case doesn't name is small and good, and would write to the folder that has a surface.
    rest = {name: value for name, value in (DEFAULTS | {"-o": "out"}).items() if name not in given}
    before = contents(folder)
    outcome = surface(*given, *itertools.chain(*rest.items()), "--no-page", "--no-plot", folder=folder)
    assert all(text in outcome.error for text in expected), outcome.error
    assert outcome.out == ""
    assert contents(folder) == before
    assert not (folder / "attacked").exists()


def test_cuda_where_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = surface("net.pt", *SMALL, "-o", "out", "--device", "cuda", folder=folder)
    assert "CUDA isn't available here; use --device cpu" in outcome.error


def test_read_only_folder(folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    closed = tmp_path if os.geteuid() else Path("/proc/self")  # root may write wherever a disk lets it
    outcome = surface("net.pt", *SMALL, "-o", closed, folder=folder)
    assert f"cannot write {closed}/" in outcome.error


@pytest.mark.parametrize("arguments", ["evil.pt", "net.pt --points 0"])
def test_the_command_itself(arguments: str, folder: Path) -> None:
    outcome = command(*arguments.split(), folder=folder)
    assert outcome.error.startswith("error: ")
    assert outcome.out == ""
    assert not (folder / "attacked").exists()
    assert not (folder / "surfaces").exists()


def test_a_factory_that_fails_is_named_with_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> nn.Module:
        raise KeyError("layers")

    monkeypatch.setitem(globals(), "broken", broken)
    outcome = surface("net.pt", *SMALL, "--model", f"{__name__}:broken", folder=folder)
    assert f"model {__name__}:broken failed: KeyError: 'layers' (test_surface_bad_input.py:" in outcome.error


def diverging(limit: float) -> Callable[[], nn.Module]:
    """A linear classifier whose scores overflow where its weights have moved far."""

    class Diverging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 10)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.linear(inputs.mean((2, 3)))
            far = self.linear.weight[0, 0] > limit
            return torch.where(far, torch.nan, scores)

    return Diverging


def diverging_somewhere() -> nn.Module:
    """For ``--model``: NaN in about half of the plane."""
    return diverging(0.0)()


def diverging_everywhere() -> nn.Module:
    """For ``--model``: NaN at every point."""
    return diverging(-1e9)()


@pytest.mark.parametrize("grid", ["--points 3", "--points 11 --max-points 60"])
def test_diverged_points_are_marked_and_counted(grid: str, folder: Path, tmp_path: Path) -> None:
    from landscape.surface import load_surface

    state = {"linear.weight": torch.full((10, 3), -1e-3), "linear.bias": torch.zeros(10)}
    state["linear.weight"][1:] = 1.0
    torch.save(state, tmp_path / "net.pt")
    outcome = surface(
        *[tmp_path / "net.pt", "--model", f"{__name__}:diverging_somewhere", "--normalize", "layer"],
        *["--data", "npz:images.npz", "--examples", "10", "--threads", "1", *grid.split(), "-o", tmp_path],
        folder=folder,
    )
    assert outcome.code == 0, outcome.err
    found = load_surface(tmp_path / "net.surface.h5")
    diverged = np.isinf(found.loss)
    assert 0 < diverged.sum() < diverged.size
    assert not np.isnan(found.loss).any()
    assert found.center is not None
    assert not diverged[found.center]
    row = next(line for line in outcome.out.splitlines() if "diverged points" in line)
    assert str(diverged.sum()) in row
    assert "diverges from radius" in outcome.out
    assert (tmp_path / "net.html").is_file()
    assert (tmp_path / "net.png").is_file()


def test_a_network_that_diverges_everywhere_still_gives_a_surface(folder: Path, tmp_path: Path) -> None:
    torch.save({"linear.weight": torch.ones(10, 3), "linear.bias": torch.zeros(10)}, tmp_path / "net.pt")
    arguments = ["--model", f"{__name__}:diverging_everywhere", "--points", "9", "--max-points", "50"]
    outcome = surface(
        tmp_path / "net.pt", *SMALL[:4], *arguments, "-o", tmp_path / "n.surface.h5", folder=folder
    )
    assert outcome.code == 0, outcome.err
    assert "diverged points" in outcome.out
    assert "no picture: the loss isn't finite at any point" in outcome.out
    assert (tmp_path / "n.html").is_file()
