"""``results.csv``: rows that no sweep writes are refused where they are read; no cell is a formula."""

from __future__ import annotations

from pathlib import Path

import pytest

from figures.results import Results
from landscape.errors import UserError
from landscape.escaping import SafeWriter
from landscape.files.runs_table import read_runs
from training.sweep.table import read_table

HEAD = "run,state,seed,epochs,test_accuracy,test_accuracy_error,sparsity,seconds,test_loss"
GOOD = "net-cifar10-set-0.9-sgd-seed0,finished,0,4,0.5,0.01,0.9,12.5,1.5"


def table(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    (folder / "runs").mkdir(exist_ok=True)
    path = folder / "runs" / "results.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def test_good_rows_are_read(tmp_path: Path) -> None:
    path = table(tmp_path, HEAD, GOOD, "other,missing", "diverged,finished,1,4,0.1,0,0.9,1,inf")
    found = read_runs(path, "")
    assert list(found) == ["net-cifar10-set-0.9-sgd-seed0", "other", "diverged"]
    assert found["other"]["seed"] == ""


BAD = [
    GOOD.replace("finished", "done"),
    GOOD.replace("finished", ""),
    GOOD.replace("finished,0", "finished,-1"),
    GOOD.replace("finished,0", "finished,0.5"),
    GOOD.replace("finished,0", "finished,²"),
    GOOD.replace("finished,0", "finished,zero"),
    GOOD.replace(",4,", ",-99,"),
    GOOD.replace(",0.5,", ",1.5,"),
    GOOD.replace(",0.5,", ",-0.5,"),
    GOOD.replace(",0.5,", ",nan,"),
    GOOD.replace(",0.5,", ",inf,"),
    GOOD.replace(",0.5,", ",=1+1,"),
    GOOD.replace("0.01", "-0.01"),
    GOOD.replace(",0.9,", ",90,"),
    GOOD.replace("12.5", "-1"),
    GOOD.replace("12.5", "1 hour"),
    GOOD.replace(",1.5", ",nan"),
    GOOD + ",more",
    GOOD.replace("net-", "../net-"),
    GOOD.replace("net-", "a\\net-"),
    GOOD.replace("net-", "\x1b[31mnet-"),
    GOOD.replace("net-", "\u202enet-"),
    "..,finished",
    "n" * 256 + ",finished",
    ",finished",
    '"unclosed,finished',
    f"{GOOD}\n{GOOD}",
    "x" * 200_000 + ",finished",
]


@pytest.mark.parametrize("line", BAD)
def test_hostile_row_is_refused(tmp_path: Path, line: str) -> None:
    table(tmp_path, HEAD, line)
    for read in (lambda: read_table(tmp_path / "runs"), lambda: Results(tmp_path)):
        with pytest.raises(UserError) as error:
            read()
        assert not {"\n", "\x1b", "\u202e"} & set(str(error.value))


@pytest.mark.parametrize("key", ["epochs_trained", "examples_trained", "dead_filters"])
@pytest.mark.parametrize("text", ["nan", "abc", "-5", "inf", "2.5"])
def test_hostile_count_is_refused(tmp_path: Path, key: str, text: str) -> None:
    table(tmp_path, f"{HEAD},{key}", f"{GOOD},{text}")
    with pytest.raises(UserError, match=f"{key} is"):
        Results(tmp_path)


@pytest.mark.parametrize("head", ["", "run", "a,b", "run,run,state", "\ufeffrun,state"])
def test_foreign_table_is_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(UserError, match="no table of a sweep"):
        read_runs(table(tmp_path, head, GOOD), "")


def test_other_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        read_runs(table(tmp_path, HEAD, GOOD, encoding="utf-16"), "")


def test_formulas_become_text_and_numbers_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    cells = [
        "=HYPERLINK(1)",
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "＝1",
        "-0.5",
        "+1e-3",
        -0.5,
        "a-b",
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        SafeWriter(file).writerow(cells)
    shown = path.read_text(encoding="utf-8").strip("\n").split(",")
    assert shown[:8] == [
        "'=HYPERLINK(1)",
        "'+1+1",
        "'-2+3",
        "'@SUM(A1)",
        "'\\t=1",
        "'\\r=1",
        "' =1",
        "'＝1",
    ]
    assert shown[8:] == ["-0.5", "+1e-3", "-0.5", "a-b"]
