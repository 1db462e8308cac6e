"""What no file may take the place of stays: devices, pipes, folders, inputs, another option's file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.compare.compare_options import CompareOptions, CompareOutput
from analysis.connectivity.connectivity_options import (
    ConnectivityData,
    ConnectivityOptions,
    ConnectivityOutput,
)
from analysis.curvature.__main__ import main as curvature
from analysis.hessian.hessian_options import HessianOptions, HessianOutput
from analysis.robustness.robustness_options import (
    ChosenCorruptions,
    RobustnessData,
    RobustnessOptions,
    RobustnessOutput,
)
from analysis.roughness.__main__ import main as roughness
from analysis.sharpness.sharpness_options import SharpnessOptions, SharpnessOutput
from figures.compare import main as compare_figure
from landscape.commandline.options import DataOptions
from landscape.commandline.outputs import RESULTS, check_text_outputs
from landscape.commandline.results import prepare_folder
from landscape.errors import UserError
from landscape.files import atomic_path, check_target
from landscape.keeping.lock import owned
from landscape.plot import plot_surfaces
from landscape.surface.surface_options import PlaneOptions, SurfaceOptions, SurfaceOutput
from landscape.viewer.__main__ import main as viewer
from tests.landscape.test_edges import surface_called

COMMANDS = {
    "hessian": lambda path: HessianOptions(output=HessianOutput(json=path)),
    "sharpness": lambda path: SharpnessOptions(output=SharpnessOutput(json=path)),
    "sharpness csv": lambda path: SharpnessOptions(output=SharpnessOutput(csv=path)),
    "connectivity": lambda path: ConnectivityOptions(output=ConnectivityOutput(json=path)),
    "compare": lambda path: CompareOptions(output=CompareOutput(json=path)),
    "compare csv": lambda path: CompareOptions(output=CompareOutput(csv=path)),
    "compare latex": lambda path: CompareOptions(output=CompareOutput(latex=path)),
}


def write(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("x", encoding="utf-8")


def something(kind: str, folder: Path) -> Path:
    """A thing of this kind that is the test's own: a device of the system is never named here."""
    path = folder / "thing"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        try:
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
        except OSError:
            pytest.skip("devices can't be made here")
    return path


@pytest.mark.skipif(os.name != "posix", reason="has none of these")
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_what_is_no_file_is_not_replaced(
    tmp_path: Path, kind: str, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = something(kind, Path())
    before = path.stat()
    if linked:
        path = Path("link")
        path.symlink_to("thing")
    for refused in (write, check_target):
        with pytest.raises(UserError, match=f"it is a {kind}; expected the name of a file"):
            refused(path)
    assert path.stat() == before
    assert {one.name for one in Path().iterdir()} == ({"thing", "link"} if linked else {"thing"})


def test_the_file_that_is_printed_to_is_not_replaced(tmp_path: Path) -> None:
    code = "import sys; from tests.landscape.test_outputs import write; from pathlib import Path\n"
    code += "print('printed', flush=True); write(Path(sys.argv[1]))"
    path = tmp_path / "out.txt"
    with path.open("wb") as stream:
        found = subprocess.run(
            [sys.executable, "-c", code, str(path)], stdout=stream, stderr=subprocess.PIPE, text=True
        )
    assert "it is where this command prints" in found.stderr
    assert path.read_text(encoding="utf-8") == "printed\n"


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_no_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected the name of a file"):
        write(Path(name))


@pytest.mark.parametrize("path", ["", ".", "folder", "net.ckpt", "NET.PT", "in.json", "./folder/../in.json"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_before_it_computes(
    command: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("in.json").write_text("kept", encoding="utf-8")
    option = command.split()[1] if " " in command else "json"
    with pytest.raises(UserError, match=f"^--{option} .*(is a folder|would overwrite)"):
        COMMANDS[command](path).check([Path("in.json")])
    COMMANDS[command]("new.json").check([Path("in.json")])
    COMMANDS[command]("-").check([Path("in.json")])


DATA = {
    "surface": lambda **data: SurfaceOptions(data=DataOptions(**data), output=SurfaceOutput(json="read")),
    "hessian": lambda **data: HessianOptions(data=DataOptions(**data), output=HessianOutput(json="read")),
    "hessian plot": lambda **data: HessianOptions(
        data=DataOptions(**data), output=HessianOutput(plot=Path("folder/read.png"))
    ),
    "sharpness": lambda **data: SharpnessOptions(
        data=DataOptions(**data), output=SharpnessOutput(csv="read")
    ),
    "compare": lambda **data: CompareOptions(data=DataOptions(**data), output=CompareOutput(latex="read")),
    "connectivity": lambda **data: ConnectivityOptions(
        data=ConnectivityData(**data), output=ConnectivityOutput(json="read")
    ),
    "robustness": lambda **data: RobustnessOptions(
        data=RobustnessData(**data), output=RobustnessOutput(csv="read")
    ),
    "robustness clean": lambda **data: RobustnessOptions(
        data=RobustnessData(data="cifar10c:other", clean=data["data"]), output=RobustnessOutput(csv="read")
    ),
    "robustness reference": lambda **data: RobustnessOptions(
        chosen=ChosenCorruptions(reference=Path("read")), output=RobustnessOutput(csv="read")
    ),
    "robustness output": lambda **data: RobustnessOptions(
        data=RobustnessData(**data), output=RobustnessOutput(output=Path("read"))
    ),
    "surface directions": lambda **data: SurfaceOptions(
        plane=PlaneOptions(directions=Path("read")), output=SurfaceOutput(output=Path("read"))
    ),
    "surface between": lambda **data: SurfaceOptions(
        plane=PlaneOptions(between=(Path("read"),)), output=SurfaceOutput(json="read")
    ),
    "surface trajectory": lambda **data: SurfaceOptions(
        plane=PlaneOptions(trajectory=(Path("folder"),)), output=SurfaceOutput(json="folder/read.png")
    ),
}


@pytest.mark.parametrize("command", DATA)
def test_data_and_what_else_is_read_is_not_replaced(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for path in ("read", "folder/read.png"):
        Path(path).write_text("kept", encoding="utf-8")
    data = "imagefolder:folder" if command == "hessian plot" else f"npz:{tmp_path / 'read'}"
    with pytest.raises(UserError, match=r"^--\w+ .* would overwrite what this command reads; name another"):
        DATA[command](data=data).check([Path("net.pt")])


@pytest.mark.parametrize("suffix", RESULTS)
def test_a_result_in_a_folder_that_is_read_is_gone_on_with(suffix: str, tmp_path: Path) -> None:
    result, other = tmp_path / f"path{suffix}", tmp_path / "final.pt"
    for path in (result, other):
        path.write_text("kept", encoding="utf-8")
    for data in (DataOptions(), DataOptions(data=f"imagefolder:{tmp_path}")):
        SurfaceOptions(data=data, output=SurfaceOutput(output=result)).check([tmp_path])
    for path, read in ((other, tmp_path), (result, result)):
        with pytest.raises(UserError, match=r"^--output .* would overwrite what this command reads"):
            SurfaceOptions(output=SurfaceOutput(output=path)).check([read])
    with pytest.raises(UserError, match=r"^--json .* would overwrite"):
        check_text_outputs({"--json": result}, [tmp_path])


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".toml", ".pkl"])
def test_data_and_settings_are_no_texts(suffix: str) -> None:
    with pytest.raises(UserError, match="would overwrite a result or a checkpoint, data or settings"):
        check_text_outputs({"--csv": f"mine{suffix}"})


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_the_configuration_is_not_replaced(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "settings"
    config.write_text("[roughness]\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        roughness(["a.surface.h5", "--config", str(config), option, str(config)])
    assert "would overwrite what this command reads" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        roughness(["a.surface.h5", option, str(config)])  # only while it is one
    assert "a.surface.h5" in capsys.readouterr().err
    assert config.read_text(encoding="utf-8") == "[roughness]\n"


@pytest.mark.parametrize("name", ["a.html", "a.png"])
def test_a_surface_is_replaced_neither_by_its_page_nor_by_a_figure(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    surface_called("a").save(tmp_path / "a.surface.h5")
    (tmp_path / "a.surface.h5").rename(path)
    before = path.read_bytes()
    with pytest.raises(SystemExit):
        (viewer if name == "a.html" else compare_figure)([str(path), "--output", str(path)])
    assert "would overwrite what this command reads" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", ["", "."])
def test_roughness_refuses_before_it_reads(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        roughness(["missing.surface.h5", "--json", path])
    assert left.value.code == 2
    shown = path or "''"
    assert capsys.readouterr().err == f"error: --json {shown} is a folder; name a file in it\n"


def test_one_file_for_two_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--json and --csv both go to the same file"):
        check_text_outputs({"--json": str(tmp_path / "a"), "--csv": tmp_path / "b" / ".." / "a"})
    with pytest.raises(UserError, match="both go to standard output"):
        check_text_outputs({"--json": "-", "--csv": "-"})
    check_text_outputs({"--json": "-", "--csv": None, "--plot": tmp_path / "a.png"})


def test_a_picture_that_cannot_be_is_refused() -> None:
    surface = surface_called("a")
    with pytest.raises(UserError, match="expected at most 200 each way"):
        plot_surfaces([surface], column_width=1e9)
    with pytest.raises(UserError, match="choose more columns"):
        plot_surfaces([surface] * 30, columns=1, column_width=20, kind="contour")


def test_what_a_killed_run_left_of_a_finished_result_goes(tmp_path: Path) -> None:
    (old := tmp_path / ".x.surface.h5.0a1b2c3d.tmp").write_text("half")
    os.utime(old, (0, 0))
    (young := tmp_path / ".x.png.0a1b2c3d.tmp").write_text("half")
    prepare_folder(tmp_path / "x.surface.h5")
    assert list(tmp_path.iterdir()) == [young]


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_folder_in_place_of_a_surface_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (lambda: curvature([name, "net.pt"]), lambda: viewer([name])):
        with pytest.raises(SystemExit) as left:
            command()
        shown = capsys.readouterr().err
        assert left.value.code == 2
        assert shown.startswith("error: ")
        assert shown.count("\n") == 1
    with pytest.raises(UserError, match="a folder; expected the name of a file"), owned(Path(name)):
        pass
