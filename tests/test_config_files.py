"""``--config``: options from a TOML file, for any command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.sharpness.__main__ import main as sharpness
from landscape.commandline.command import run_command


def run(words: list[str], name: str = "analysis.hessian") -> dict[str, Any]:
    """What a command of that module is called with."""
    called: dict[str, Any] = {}

    def command(
        *files: Path, top: int = 1, mask: bool = True, params: tuple[str, ...] = (), json: str | None = None
    ) -> None:
        called.update(files=files, top=top, mask=mask, params=params, json=json)

    run_command(name, "About.", "After.", command, words)
    return called


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text('[hessian]\ntop = 3\nmask = false\nparams = ["a", "b.*"]\n[surface]\npoints = 5\n')
    return str(path)


@pytest.mark.parametrize("words", [["--config", "FILE", "net.pt"], ["net.pt", "--config=FILE"]])
def test_a_files_options_and_the_command_lines_count_more(words: list[str], file: str) -> None:
    words = [word.replace("FILE", file) for word in words]
    expected = {"files": (Path("net.pt"),), "top": 3, "mask": False, "params": ("a", "b.*"), "json": None}
    assert run(words) == expected
    assert run([*words, "--top", "7", "--json"]) == expected | {"top": 7, "json": "-"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hessian]\ntpo = 1", "Unknown option"),
        ("[hessian]\ntop = 'x'", "Invalid value"),
        ("[surface]\ntop = 1", "no table [hessian]; it has surface"),
        ("hessian = 1", "no table [hessian]"),
        ("", "no table [hessian]; it has nothing"),
        ("x = [", "expected TOML"),
    ],
)
def test_what_a_file_lacks_is_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.toml").write_text(text)
    for words in (["--config", str(tmp_path / "x.toml")], ["--config", str(tmp_path / "none")], ["--config"]):
        with pytest.raises(SystemExit) as stop:
            run(words)
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert message in said or words[-1] != str(tmp_path / "x.toml")


@pytest.mark.parametrize(
    "line",
    [
        "model = \"subprocess:call(args=['touch','pwned'])\"",
        'model = ["os:getcwd"]',
        'Model = "npz:load"',
        '"--model" = " os :x"',
        '"network.model" = "os:getcwd"',
        'network = {model = "os:getcwd"}',
        'data = "os.path:join"',
        'clean = "timm:x"',
        'loss = "os:getcwd"',
        "trust-checkpoint = true",
        'trust_checkpoint = "true"',
        'scheduler = "tcp://127.0.0.1:1"',
    ],
)
def test_a_file_names_no_code(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f"[sharpness]\n{line}\n")
    with pytest.raises(SystemExit) as stop:
        sharpness(["net.pt", "--config", str(path)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --config {path}: ")
    assert "would run code that a file names; expected --" in said


@pytest.mark.parametrize("line", ['scheduler = ""', "scheduler = []", "trust-checkpoint = false"])
def test_a_file_may_leave_empty_what_would_run_code(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f"[sharpness]\n{line}\n")
    with pytest.raises(SystemExit):
        sharpness(["net.pt", "--config", str(path)])
    assert "would run code" not in capsys.readouterr().err


def test_a_file_names_the_models_and_data_that_are_no_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(
        '[sharpness]\nmodel = "torchvision:resnet18(num_classes=10)"\ndata = "npz:a.npz"\n'
        'loss = "regression"\ntrust-checkpoint = false\n'
    )
    with pytest.raises(SystemExit):
        sharpness([str(tmp_path / "none.pt"), "--config", str(path)])
    assert "none.pt" in capsys.readouterr().err  # only the checkpoint is missing
