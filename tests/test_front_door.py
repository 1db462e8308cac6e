"""The command ``sharpscape`` runs what ``python -m`` runs, also where folders bear our packages' names."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import landscape
import sharpscape
from landscape.errors import UserError
from landscape.siblings import need

pytestmark = pytest.mark.slow  # among the first files that start

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "examples/checkpoints/resnet20-cifar10-erk90.pt"
LINE = ("--points", "3", "--dim", "1", "--examples", "10", "--data", "sample", "--exact")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel, and of everything else what this one has."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        folder,
        ROOT,
    ]
    subprocess.run([*map(str, build)], check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    (wheel,) = folder.glob("*.whl")
    prefix = ("--prefix", str(folder / "venv"))
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--ignore-installed", *prefix]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True, env=clean())
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    (packages / "rest.pth").write_text(sysconfig.get_path("purelib"))
    return python


def clean() -> dict[str, str]:
    """Without what points at this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, words)], cwd=folder, env=clean(), capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A research repository with packages of our names, each of which says that it was imported."""
    for name in ("training", "analysis", "figures"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    (tmp_path / "landscape").mkdir()  # an empty folder
    return tmp_path


@pytest.mark.parametrize("words", [("-m", "landscape.surface"), ("-m", "sharpscape", "surface")])
def test_works_from_the_wheel_in_folders_that_bear_our_names(
    installed: Path, hostile: Path, words: tuple[str, ...]
) -> None:
    done = run(installed, *words, CHECKPOINT, *LINE, folder=hostile)
    assert done.returncode == 0, done.stderr
    assert (hostile / "surfaces/resnet20-cifar10-erk90.png").is_file()
    assert "Ra" in done.stdout


def test_the_installed_command_never_takes_the_folders_packages(installed: Path, hostile: Path) -> None:
    (hostile / "landscape/__init__.py").write_text("raise SystemExit('the wrong package')\n")
    for command in sharpscape.COMMANDS:
        done = run(installed, installed.with_name("sharpscape"), command, "--help", folder=hostile)
        assert done.returncode == 0, done.stderr
        assert f"sharpscape {command}" in done.stdout


def test_what_a_sweep_starts_is_ours_too(installed: Path, hostile: Path) -> None:
    done = run(
        installed,
        installed.with_name("sharpscape"),
        "sweep",
        "smoke",
        "--output",
        "runs",
        "--only",
        "*s2sam*",
        "--jobs",
        "2",  # a thread each: two wait for each other where tests run side by side
        folder=hostile,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_program_of_the_users_is_told_which_folder_hides_what(installed: Path, hostile: Path) -> None:
    (hostile / "analysis/__init__.py").write_text("")
    script = hostile / "mine.py"
    script.write_text("import landscape\nfrom landscape.siblings import need\nneed('analysis')\n")
    done = run(installed, script, folder=hostile)
    assert done.stderr.splitlines()[-1] == (
        f"landscape.errors.UserError: {hostile / 'analysis'} hides sharpscape's package 'analysis': "
        "rename it, start where it isn't first on the path, or use the command sharpscape"
    )


def test_our_own_packages_are_taken_for_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in sharpscape.PACKAGES:
        need(name)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "figures", raising=False)
    with pytest.raises(UserError, match="hides sharpscape's package 'figures'"):
        need("figures")


def test_a_model_in_a_module_of_our_name_is_refused_in_one_line(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training/nets.py").write_text("def small(): ...\n")
    done = run(
        installed,
        "-m",
        "sharpscape",
        "surface",
        CHECKPOINT,
        "--model",
        "training.nets:small",
        folder=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("here 'training' is sharpscape's own package: rename yours")


def test_the_map_names_every_command_and_starts_at_once() -> None:
    done = run(sys.executable, "-X", "importtime", ROOT / "sharpscape.py", "--help", folder=ROOT)
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in sharpscape.COMMANDS)
    assert "numpy" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("surfce",), "did you mean 'surface'?"),
        (("net.pt",), "sharpscape surface net.pt"),
        (("--verison",), "known: surface, view"),
    ],
)
def test_a_wrong_name_is_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        sharpscape.main(words)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_the_version_names_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    sharpscape.main(["--version"])
    said = capsys.readouterr().out
    assert said == f"sharpscape {sharpscape.version()}\n"
    assert landscape.__version__ == sharpscape.version()
    if (ROOT / ".git").exists():
        commit = subprocess.run(
            ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        assert sharpscape.version().partition("+g")[2].removesuffix(".dirty") in commit


def test_an_editable_installation_copies_nothing(tmp_path: Path) -> None:
    """A copy of the front door would take its own folder for the packages', and get stale."""
    code = f"from hatchling.build import build_editable; build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert len(names) == 1
        assert archive.read(names[0]).decode().strip() == str(ROOT)
