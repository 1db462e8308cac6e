"""Every command that writes, on networks of a hundred weights: the words of each, and what it has left."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NETWORK = """
from torch import nn

def tiny(num_classes=4):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                         nn.Flatten(), nn.Linear(16, num_classes))
"""
SPEC = """
output = "out"
seeds = [0, 1]
[recipe]
model = "resnet20"
widths = [2, 2, 2]
data = "npz:{inputs}/tiny.npz"
epochs = 1
batch-size = 12
[[matrix]]
methods = ["grasp"]
sparsities = [0.9]
optimizers = ["sgd"]
"""
SCALE = """
network = "resnet20-tiny"
sweeps = ["{inputs}/spec.toml"]
registered = false
[surface]
examples = 12
split = "train"
points = 3
span = 1.0
planes = 1
tolerance = 0.05
max_points = 50
log = false
[hessian]
examples = 12
top = 1
tolerance = 0.5
max_products = 8
[sharpness]
examples = 12
measures = ["sam"]
[studies]
runs = []
spans = []
planes = 1
dense = []
exact = []
[step]
run = "grasp-0.9-sgd"
examples = 12
rate = 0.03
rho = 0.05
"""
_SUBJECT = "--model tinynet:tiny --data npz:{inputs}/tiny.npz --examples 12 --threads 1 --device cpu"
_SEEN = f"{_SUBJECT} --mean 0.5 --std 0.25"
_TRAINING = (
    "--model resnet20 --widths 2 2 2 --epochs 2 --batch-size 12 --data npz:{inputs}/tiny.npz --device cpu "
    "--threads 1 --method random --record-every 2 --output out"
)


@dataclass(frozen=True)
class Work:
    """A command: its module, its words, and a file of the inputs that it writes into, if there is one."""

    module: str
    words: str
    begins_with: str = ""


WORKS: dict[str, Work] = {
    "surface": Work("landscape.surface", f"{{inputs}}/a.pt {_SEEN} --points 3 --output out"),
    "surface alone": Work(
        "landscape.surface", f"{{inputs}}/a.pt {_SEEN} --points 3 --planes 2 --no-page --no-plot --output out"
    ),
    "hessian": Work(
        "analysis.hessian",
        f"{{inputs}}/a.pt {_SEEN} --top 1 --bottom 0 --density-probes 0 --max-probes 8 "
        "--json out/h.json --output out",
    ),
    "sharpness": Work(
        "analysis.sharpness",
        f"{{inputs}}/a.pt {{inputs}}/b.pt {_SEEN} --measures sam gaussian --draws 2 --output out/s.json "
        "--csv out/s.csv",
    ),
    "curvature": Work(
        "analysis.curvature",
        "out/a.surface.h5 {inputs}/a.pt --model tinynet:tiny --data npz:{inputs}/tiny.npz --threads 1 "
        "--device cpu --max-points 2",
        begins_with="a.surface.h5",
    ),
    "connectivity": Work(
        "analysis.connectivity",
        f"{{inputs}}/a.pt {{inputs}}/b.pt {_SEEN} --points 3 --steps 3 --output out",
    ),
    "robustness": Work(
        "analysis.robustness",
        f"{{inputs}}/a.pt {_SEEN} --corruptions contrast brightness --output out".replace(
            "tiny.npz", "images.npz"
        ),
    ),
    "compare": Work(
        "analysis.compare", "{inputs}/a.surface.h5 {inputs}/b.surface.h5 --json out/c.json --csv out/c.csv"
    ),
    "roughness": Work(
        "analysis.roughness", "{inputs}/a.surface.h5 {inputs}/b.surface.h5 --json out/r.json --csv out/r.csv"
    ),
    "view": Work("landscape.viewer", "{inputs}/a.surface.h5 --output out/page.html"),
    "sheet": Work("figures.compare", "{inputs}/a.surface.h5 {inputs}/b.surface.h5 -o out/sheet.png"),
    "train": Work("training", _TRAINING),
    "sweep": Work("training.sweep", "{inputs}/spec.toml --device cpu --jobs 2 --output out"),
    "figures": Work("figures", "table4 {inputs}/results --output out"),
    "reproduce": Work(
        "figures.reproduce",
        "--scale {inputs}/scale.toml --data npz:{inputs}/tiny.npz --device cpu --jobs 2 --output out",
    ),
}


def make_inputs(folder: Path, surfaces: bool = True) -> Path:
    """Networks, images, surfaces, a spec, a scale and a folder of results; once for all commands."""
    import torch

    (folder / "tinynet.py").write_text(NETWORK)
    for name in ("spec", "scale"):
        text = {"spec": SPEC, "scale": SCALE}[name].format(inputs=folder)
        (folder / f"{name}.toml").write_text(text)
    (folder / "results" / "runs").mkdir(parents=True)
    names: dict[str, Any] = {}
    exec(NETWORK, names)
    for seed, name in enumerate("ab"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.save(names["tiny"]().state_dict(), folder / f"{name}.pt")
    for name, side in (("tiny", 8), ("images", 32)):
        _images(folder / f"{name}.npz", side)
    for name in "ab" * surfaces:
        _surface_of(folder, name)
    return folder


def _surface_of(folder: Path, name: str) -> None:
    """A finished surface, for the commands that read one."""
    from forking import Running

    words = f"{{inputs}}/{name}.pt {_SEEN} --points 3 --no-page --no-plot --output {{inputs}}"
    ended = Running("landscape.surface", words.format(inputs=folder).split(), folder / "surface").ended()
    assert ended.code == 0, ended


def _images(path: Path, side: int) -> None:
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 24), ("test", 16)):
        arrays[f"{split}_x"] = draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        arrays[f"{split}_y"] = np.arange(count) % 4
    np.savez(path, **arrays)


def words_of(work: Work, inputs: Path) -> list[str]:
    """Its command line."""
    return work.words.format(inputs=inputs).split()


def prepare(work: Work, inputs: Path, folder: Path) -> Path:
    """The folder in which it is to run, with what it begins with."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    if work.begins_with and not (folder / "out" / work.begins_with).exists():
        shutil.copy(inputs / work.begins_with, folder / "out")
    return folder


TIMES = {"seconds", "timing", "started", "data_share", "digest", "sha256", "sha256_of_content"}
"""Keys of what differs between two runs of one command: times, and digests of files that hold times."""


def contents(folder: Path, without: Collection[Path] = ()) -> dict[str, object]:
    """What every file below a folder says, without times; raises where one can't be read."""
    return {
        path.relative_to(folder).as_posix(): content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "logs" not in path.parts and path not in without
    }


def content(path: Path) -> object:
    """What a file says, to be compared by ``==``; raises where it isn't whole."""
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".h5" else path.suffix
    return _READERS.get(kind, _bytes)(path)


def _bytes(path: Path) -> object:
    return path.read_bytes()


def _surface(path: Path) -> object:
    from landscape.surface import load_surface

    return _plain(load_surface(path))


def _hessian(path: Path) -> object:
    from analysis.hessian.spectrum_file import load_spectrum

    return _plain(load_spectrum(path))


def _robustness(path: Path) -> object:
    from analysis.robustness.robustness_file import read

    return _plain(read(path))


def _pickled(path: Path) -> object:
    from landscape.checkpoint.read import read_file

    return _plain(read_file(path).content)


def _json(path: Path) -> object:
    text = path.read_text(encoding="utf-8")
    return _plain([json.loads(one) for one in (text.splitlines() if path.suffix == ".jsonl" else [text])])


def _csv(path: Path) -> object:
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        return [_plain(row) for row in csv.DictReader(file, strict=True)]


def _picture(path: Path) -> object:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size, hashlib.sha256(picture.convert("RGBA").tobytes()).hexdigest()


def _page(path: Path) -> object:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>"), path
    assert text.rstrip().endswith("</html>"), path
    return "a whole page"


def _pdf(path: Path) -> object:
    found = path.read_bytes()
    assert found.startswith(b"%PDF"), path
    assert found.rstrip().endswith(b"%%EOF"), path
    return "a whole PDF"


_READERS = {
    ".surface.h5": _surface,
    ".hessian.h5": _hessian,
    ".robustness.h5": _robustness,
    ".pt": _pickled,
    ".json": _json,
    ".jsonl": _json,
    ".csv": _csv,
    ".png": _picture,
    ".html": _page,
    ".pdf": _pdf,
}


def _plain(value: Any) -> object:
    """Nested plain values and bytes, without times."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items() if key not in TIMES}
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return repr(value)


def differences(one: object, other: object, where: str = "") -> list[str]:
    """Places in which two contents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys(), key=str)
        return [bad for key in keys for bad in differences(one.get(key), other.get(key), f"{where}/{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        both = enumerate(zip(one, other, strict=True))
        return [bad for at, (a, b) in both for bad in differences(a, b, f"{where}/{at}")]
    return [] if one == other else [f"{where}: {str(one)[:60]} and {str(other)[:60]}"]
