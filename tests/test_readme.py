"""The pages for readers: every command and Python block of the README runs, every link leads somewhere."""

from __future__ import annotations

import functools
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import landscape
import sharpscape

pytestmark = pytest.mark.slow  # among the first files that start

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
)

SMALLER: dict[str, dict[str, str]] = {
    "landscape.surface": {"--points": "5", "--examples": "20", "--data": "sample"},
    "training": {"--widths": "4 4 4"},
    "training.sweep": {},
    "analysis.roughness": {},
    "analysis.compare": {},
    "analysis.connectivity": {"--points": "3", "--examples": "20", "--data": "sample"},
    "analysis.hessian": {"--examples": "20", "--data": "sample", "--density-probes": "0"},
    "analysis.sharpness": {"--examples": "20", "--data": "sample", "--draws": "2"},
    "analysis.robustness": {"--examples": "20", "--data": "sample", "--corruptions": "contrast"},
    "landscape.viewer": {},
    "landscape.commandline.completion": {},
    "figures.compare": {},
}
"""Options that a command gets, unless it has them, so that it takes a second."""

MODELS = """
from torch import nn

def small(num_classes=10):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))
"""


def blocks(language: str, text: str = README) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str = README) -> list[list[str]]:
    """Every ``python -m …`` and ``sharpscape …`` of a page: the module, and the words behind it."""
    lines = [line for block in blocks("sh", text) for line in block.splitlines()]
    found = []
    for words in (shlex.split(line.split(" > ")[0], comments=True) for line in lines):
        if words[:2] == ["python", "-m"]:
            found.append(words[2:])
        elif words[:1] == ["sharpscape"] and words[1] in sharpscape.COMMANDS:
            found.append([sharpscape.COMMANDS[words[1]][0], *words[2:]])
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped examples, and the files that a user of the README would have."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "mynets.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.save(__import__("mynets").small().state_dict(), "net.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(40) % 10
    np.savez("images.npz", train_x=pixels, train_y=labels, test_x=pixels, test_y=labels)
    return tmp_path


def exit_code(module: str) -> int | str | None:
    """Run ``python -m module`` in this process, with the present sys.argv."""
    try:
        with torch.random.fork_rng(devices=[]):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        return stop.code
    return 0


def test_every_number_is_filled_in() -> None:
    assert not [line for line in README.splitlines() if "TBD" in line or "MACHINE" in line]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens:UserWarning")
def test_every_command_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, *arguments in commands():
        extra = [f"{name} {value}" for name, value in SMALLER[module].items() if name not in arguments]
        monkeypatch.setattr(sys, "argv", [module, *arguments, *" ".join(extra).split()])
        assert not exit_code(module), f"python -m {shlex.join([module, *arguments])}"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.h5")} == {
        "surfaces/resnet20-cifar10-erk90.surface.h5",
        "mine/net.surface.h5",
        "three/resnet20-cifar10-erk90.surface.h5",
        "hessians/resnet20-cifar10-erk90.hessian.h5",
        "connectivity/resnet20-cifar10-erk90--resnet20-cifar10-erk98.linear.surface.h5",
    }
    written = ("surfaces/resnet20-cifar10-erk90.html", "mine/net.png", "page.html", "compare.pdf")
    for name in (*written, "runs/trial/final.pt"):
        assert (folder / name).is_file(), name


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens:UserWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_what_a_page_of_the_documentation_shows_runs(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = commands(text)
    few = {name: sharpscape.COMMANDS[name] for name in ("view", "hessian")}  # whom completion asks
    monkeypatch.setattr(sharpscape, "COMMANDS", few)
    for module, *arguments in found:
        extra = [f"{name} {value}" for name, value in SMALLER[module].items() if name not in arguments]
        monkeypatch.setattr(sys, "argv", [module, *arguments, *" ".join(extra).split()])
        assert not exit_code(module), f"python -m {shlex.join([module, *arguments])}"
    monkeypatch.setattr(landscape, "compute_surface", functools.partial(landscape.compute_surface, points=5))
    names: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        for block in blocks("python", text):
            exec(block, names)


def test_every_make_target_exists() -> None:
    targets = re.findall(r"\bmake (\w+)", " ".join(blocks("sh")))
    assert {"demo", "test"} <= set(targets)
    dry = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr


def test_the_python_blocks_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landscape, "compute_surface", functools.partial(landscape.compute_surface, points=5))
    names: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        for block in blocks("python"):
            exec(block, names)
    assert (folder / "mine.surface.h5").is_file()
    assert (folder / "mine.png").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_exists(page: str) -> None:
    text = re.sub(
        r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [
        target
        for target in targets
        if not target.startswith(("http://", "https://")) and not ((ROOT / page).parent / target).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_every_file_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(
        re.findall(r"`((?:landscape|analysis|training|figures|tests|docs|examples)/[\w./-]+\.\w+)`", text)
    )
    assert not [name for name in named if "NAME" not in name and not (ROOT / name).exists()]


def test_the_tables_of_the_readme_exist() -> None:
    for table, path in re.findall(r"`([A-Z_]+)` in `([\w./]+)`", README):
        assert re.search(rf"^{table}\b", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("reading.md", "Which span?"),
        ("howto/models.md", "Which parameters move"),
        ("howto/models.md", "In Python"),
        ("reading.md", "Ra"),
        ("reference/landscape.md", "Surfaces"),
        ("reference/commands.md", "All commands"),
        ("index.md", "How to cite"),
    ],
)
def test_a_strangers_questions_are_one_click_from_the_first_page(page: str, heading: str) -> None:
    first = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert page == "index.md" or f"]({page}" in first
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert re.search(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)
    for anchor in re.findall(rf"\]\({page}#([\w-]+)\)", first):
        names = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", name).strip().lower().replace(" ", "-") for name in names]
