"""``python -m figures``: which files it leaves, the same bytes every time, without torch, in seconds."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_results import NETWORK, all_runs, loss_of, run_name, surface_of, write_results, write_steps

from figures.__main__ import PRODUCTS
from figures.product_command import main
from figures.tables import TABLES

pytestmark = pytest.mark.slow  # among the first files that start

ROOT = Path(__file__).resolve().parents[2]
FORMS = {
    **dict.fromkeys(("figure1", "figure2", "figure3"), ("pdf", "png", "md", "html")),
    **dict.fromkeys(("accuracy", "dependence"), ("pdf", "png", "md")),
    **dict.fromkeys((one.name for one in TABLES), ("csv", "tex", "md", "pdf", "png")),
}
NAMES = [f"{name}.{form}" for name, forms in FORMS.items() for form in forms]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_results(tmp_path_factory.mktemp("results"), all_runs())
    write_steps(root)
    studied = run_name("grasp", 0.9, "sgd")
    surface_of(2 * loss_of("grasp", 0.9, "sgd")).save(root / "studies" / f"{studied}.dense.surface.h5")
    return root


@pytest.fixture(scope="module")
def written(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "figures"
    begin = time.process_time()
    main(PRODUCTS, ["all", str(root), "--output", str(folder)])
    assert time.process_time() - begin < 60
    return folder


def test_all_files_twice_the_same(
    root: Path, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures"
    main(PRODUCTS, ["all", str(root), "--output", str(out), "--network", NETWORK])
    printed = capsys.readouterr()
    assert [Path(line).name for line in printed.out.splitlines()] == [*NAMES, "report.md"]
    assert printed.err == ""
    for name in NAMES:
        assert (written / name).read_bytes() == (out / name).read_bytes(), name
    assert (written / "report.md").read_bytes() == (out / "report.md").read_bytes()


def test_fonts_are_embedded_as_truetype_and_nothing_is_a_picture(written: Path) -> None:
    for number in (1, 2, 3):
        content = (written / f"figure{number}.pdf").read_bytes()
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
        assert b"/CreationDate" not in content
        width = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", content)
        assert width is not None
        assert float(width[1]) == 504  # 7 inches
        # The colour bar is matplotlib's only image; surfaces and contours are vectors.
        assert content.count(b"/Subtype /Image") <= 1


def test_default_folder_and_modules_of_their_own(root: Path) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['figures.figure1', {str(root)!r}]\n"
        "runpy.run_module('figures.figure1', run_name='__main__')\n"
        "import figures.figure2, figures.figure3, figures.__main__\n"
        "bad = {'torch', 'matplotlib.pyplot', 'training'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(root / "figures" / name) for name in NAMES[:4]]


def test_one_that_cannot_be_drawn_keeps_none_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_results(tmp_path, [("grasp", 0.8, "sgd", 0)], table=False)
    with pytest.raises(SystemExit) as exit_:
        main(PRODUCTS, ["all", str(root)])
    assert exit_.value.code == 2
    printed = capsys.readouterr()
    expected_lines = (
        r"error: figure2: .*step\.json: no such file; .*\nerror: dependence: .*nothing to compare\n"
    )
    assert re.fullmatch(expected_lines, printed.err)
    # Figure 3 has no surface at all here, so it has no page.
    expected = [name for name in NAMES if not name.startswith(("figure2", "dependence"))]
    expected.remove("figure3.html")
    assert sorted(path.name for path in (root / "figures").iterdir()) == sorted(expected)


def test_a_page_of_other_surfaces_does_not_stay(tmp_path: Path) -> None:
    root = write_results(tmp_path, [("snip", 0.9, "sgd", 0), ("grasp", 0.8, "sgd", 0)])
    main([PRODUCTS[2]], [str(root)])
    assert (root / "figures" / "figure3.html").is_file()
    (root / "surfaces" / f"{run_name('snip', 0.9, 'sgd')}.surface.h5").unlink()
    main([PRODUCTS[2]], [str(root)])
    assert not (root / "figures" / "figure3.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure4", "x"], "no figure 'figure4'; expected one of all"),
        (["all"], "RESULTS requires an argument"),
        (["all", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(PRODUCTS, arguments)
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1
