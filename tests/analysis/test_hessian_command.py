"""The command: what it prints and writes, bad input in one line, stopping and going on."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "landscape"))

from command import Outcome, network, save_images, save_network

from analysis.hessian.__main__ import SUFFIX, main
from analysis.hessian.operator import HessianOperator
from analysis.hessian.spectrum_file import load_spectrum
from analysis.hessian.spectrum_table import to_json
from landscape.commandline.results import result_paths
from landscape.errors import UserError
from landscape.keeping.partial import state_path

pytestmark = pytest.mark.slow  # among the first files that start

DEFAULTS = {
    "--data": "npz:images.npz",
    "--examples": "10",
    "--threads": "1",
    "--device": "cpu",
    "--top": "2",
    "--tolerance": "0.05",
    "--density-probes": "2",
    "--density-steps": "4",
}


def hessian(*arguments: object, folder: Path) -> Outcome:
    """The command in this process, with small defaults for what isn't named."""
    given = [str(one) for one in arguments]
    rest = {name: value for name, value in DEFAULTS.items() if name not in given}
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([*given, *itertools.chain(*rest.items())])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, one of them half pruned, images, and things that can't be used."""
    folder = tmp_path_factory.mktemp("hessian")
    whole = save_network(folder / "net.pt").read_bytes()
    sparse = network(1).state_dict()
    for one in sparse.values():
        if one.dim() == 4:
            one[:, ::2] = 0
    torch.save(sparse, folder / "sparse.pt")
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.save(network().state_dict() | {"linear.bias": torch.full((10,), torch.nan)}, folder / "nan.pt")
    save_images(folder / "images.npz")
    (folder / "plain").write_text("a file, not a folder")
    (folder / "cut.hessian.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with h5py.File(folder / "other.h5", "w") as file:
        file["precious"] = [1, 2, 3]
    made = hessian("net.pt", "-o", "out", folder=folder)
    assert made.code == 0, made.err
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_two_networks_table_json_plot_and_files(folder: Path, tmp_path: Path) -> None:
    outcome = hessian(
        *["net.pt", "sparse.pt", "-o", tmp_path / "out", "--keep-vectors", "--max-products", "80"],
        *["--json", tmp_path / "all.json", "--plot", tmp_path / "all.png"],
        folder=folder,
    )
    assert outcome.code == 0, outcome.err
    for row in ("λ1", "λ2", "λmin", "trace", "Frobenius norm", "effective rank", "products", "mask: zeros"):
        assert row in outcome.out
    rows = json.loads((tmp_path / "all.json").read_text())
    assert [one["label"] for one in rows] == ["net", "sparse"]
    assert rows[0]["n"] == rows[0]["full_size"] > rows[1]["n"]
    assert rows[0]["top"][0]["converged"] is True
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    spectrum = load_spectrum(tmp_path / "out" / "sparse.hessian.h5")
    assert spectrum.top.values[0] == rows[1]["top"][0]["value"]
    model = network(1)
    for name, one in model.named_parameters():
        if one.dim() == 4:
            assert not spectrum.top.directions[0][name][:, ::2].any()
    assert spectrum.about["data"]["examples"] == {"train": 10}
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["net.hessian.h5", "sparse.hessian.h5"]


def test_the_full_space_of_a_sparse_network_and_json_on_standard_output(folder: Path, tmp_path: Path) -> None:
    arguments = ["sparse.pt", "-o", tmp_path, "--mask", "none", "--json", "-", "--max-products", "20"]
    outcome = hessian(*arguments, folder=folder)
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)
    assert row["n"] == row["full_size"]
    assert row["about"]["mask"] == "none"


def test_both_splits_are_two_spectra(folder: Path, tmp_path: Path) -> None:
    outcome = hessian("net.pt", "-o", tmp_path, "--split", "both", "--density-probes", "0", folder=folder)
    assert outcome.code == 0, outcome.err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["net.test.hessian.h5", "net.train.hessian.h5"]
    assert "net train" in outcome.out
    assert "net test" in outcome.out


def test_what_did_not_converge_is_said(folder: Path, tmp_path: Path) -> None:
    outcome = hessian("net.pt", "-o", tmp_path, "--max-products", "3", "--tolerance", "1e-6", folder=folder)
    assert outcome.code == 0, outcome.err
    assert "not converged" in outcome.out
    assert not load_spectrum(tmp_path / "net.hessian.h5").converged


def test_the_same_command_again_computes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)

    def never(self: HessianOperator, vectors: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing is left to compute")

    monkeypatch.setattr(HessianOperator, "multiply", never)
    outcome = hessian("net.pt", "-o", "out", folder=folder)
    assert outcome.code == 0, outcome.err
    assert "is there and finished; --overwrite would compute it anew" in outcome.err
    assert contents(folder) == before


def test_stopped_and_gone_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = HessianOperator.multiply

    def stop(self: HessianOperator, vectors: torch.Tensor) -> torch.Tensor:
        if self.products == 4:
            raise KeyboardInterrupt
        return multiply(self, vectors)

    target = tmp_path / "net.hessian.h5"
    monkeypatch.setattr(HessianOperator, "multiply", stop)
    outcome = hessian("net.pt", "-o", tmp_path, folder=folder)
    assert outcome.code == 130
    assert "stopped by Ctrl-C after 4 of about" in outcome.err
    assert f"{state_path(target)} keeps what was computed; give the same command to go on" in outcome.err
    assert not target.exists()
    monkeypatch.undo()
    assert hessian("net.pt", "-o", tmp_path, folder=folder).code == 0
    whole, resumed = (load_spectrum(one) for one in (folder / "out" / "net.hessian.h5", target))
    assert resumed.top.values.tobytes() == whole.top.values.tobytes()
    assert (resumed.trace, resumed.effective_rank) == (whole.trace, whole.effective_rank)
    assert not state_path(target).exists()


# Saves after every product, and makes products slow enough to be killed among them.
KILLABLE = """
import sys, time
from landscape.keeping import pace
from analysis.hessian.__main__ import main
from analysis.hessian.operator import HessianOperator
pace.EVERY_SECONDS, pace.SHARE = 0.0, 1.0
multiply = HessianOperator.multiply
def slowly(self, vectors):
    time.sleep(0.1)
    return multiply(self, vectors)
HessianOperator.multiply = slowly
main(sys.argv[1:])
"""


def test_killed_by_force_at_any_moment(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.hessian.h5"
    line = [str(folder / "net.pt"), "-o", str(tmp_path), *itertools.chain(*DEFAULTS.items())]
    seen, moments = set[int](), random.Random(0)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", KILLABLE, *line],
            cwd=folder,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as process:
            before = state_path(target).stat().st_mtime_ns if state_path(target).exists() else 0
            while process.poll() is None:
                if state_path(target).exists() and state_path(target).stat().st_mtime_ns > before:
                    time.sleep(0.1 * moments.random())
                    break
                time.sleep(0.005)
            process.kill()
        if target.exists():
            break
        with h5py.File(state_path(target)) as file:  # whole after every kill
            seen.add(len(file))
    assert seen
    assert hessian("net.pt", "-o", tmp_path, folder=folder).code == 0
    whole, resumed = (load_spectrum(one) for one in (folder / "out" / "net.hessian.h5", target))
    assert resumed.top.values.tobytes() == whole.top.values.tobytes()
    assert (resumed.trace, resumed.effective_rank) == (whole.trace, whole.effective_rank)
    assert not state_path(target).exists()


BAD = {
    "": ["CHECKPOINTS requires an argument"],
    "missing.pt": ["no file missing.pt; expected a checkpoint"],
    "cut.pt": ["cut.pt is truncated or damaged"],
    "nan.pt": ["'linear.bias' has 10 NaN or infinite values"],
    "net.pt --model vgg19": ["doesn't fit vgg19"],
    "net.pt --mask checkpoint": ["the checkpoint stores no mask"],
    "net.pt --mask ones": ["--mask", '"zeros"'],
    "net.pt --data npz:missing.npz": ["no file missing.npz"],
    "net.pt --data smaple": ["unknown data 'smaple' (did you mean sample?)"],
    "net.pt --data cifar10 --data-root nowhere": ["cifar10: nowhere/cifar-10-batches-py does not exist"],
    "net.pt --split all": ["--split", '"both"'],
    "net.pt --examples -1": ["--examples -1: expected at least 0"],
    "net.pt --top x": ["--top", "expected a whole number, got 'x'"],
    "net.pt --top 1.5": ["--top", "expected a whole number, got '1.5'"],
    "net.pt --top -1": ["--top -1: expected at least 0"],
    "net.pt --top 0 --bottom 0": ["--top 0 --bottom 0: expected at least one eigenvalue"],
    "net.pt --tolerance 2": ["--tolerance 2.0: expected a share between 0 and 1"],
    "net.pt --tolerance nan": ["--tolerance nan"],
    "net.pt --trace-tolerance 0": ["--trace-tolerance 0.0"],
    "net.pt --max-products 0": ["--max-products 0: expected at least 1"],
    "net.pt --max-probes 3": ["--max-probes 3: expected at least 8"],
    "net.pt --density-steps 0": ["--density-steps 0: expected at least 1"],
    "net.pt --seed -1": ["--seed -1: expected at least 0"],
    "net.pt --memory -1": ["--memory -1.0: expected GiB, 0 or more"],
    "net.pt --batch-size 0": ["--batch-size 0: expected at least 1"],
    "net.pt --device foo": ["--device foo: expected auto, cpu, cuda or cuda:N"],
    "net.pt --dtype bfloat16": ["--dtype", '"float64"'],
    "net.pt --tpo 3": ["Unknown option: --tpo. Did you mean --top?", "--help shows every option"],
    "net.pt --plot a.jpg": ["--plot a.jpg: expected a name that ends in .png, .pdf, .svg"],
    "net.pt --plot a.png --density-probes 0": ["--plot draws the density"],
    "net.pt --json a.h5": ["--json a.h5 would overwrite a result or a checkpoint"],
    "net.pt --seed 1": ["seed: the file has 0, this run wants 1", "--overwrite"],
    "net.pt --examples 20": ["examples: the file has"],
    "net.pt -o cut.hessian.h5": ["cut.hessian.h5: not a readable file of analysis.hessian"],
    "net.pt -o other.h5": ["other.h5: an HDF5 file, but not one of analysis.hessian"],
    "net.pt -o plain": ["--output plain is a file; name a folder or a file NAME.hessian.h5"],
    "net.pt -o /proc/nowhere": ["cannot write /proc/nowhere/"],
    "net.pt sparse.pt -o two.hessian.h5": ["two.hessian.h5 is one file for 2 results; name a folder"],
    "net.pt --split both -o two.hessian.h5": ["two.hessian.h5 is one file for 2 results"],
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "expected"), BAD.items())
def test_one_line_code_2_nothing_touched(arguments: str, expected: list[str], folder: Path) -> None:
    given = shlex.split(arguments)
    before = contents(folder)
    outcome = hessian(*given, *([] if "-o" in given else ["-o", "out"]), folder=folder)
    assert all(text in outcome.error for text in expected), outcome.error
    assert outcome.out == ""
    assert contents(folder) == before


def test_a_loss_that_is_not_finite_is_one_line(folder: Path, tmp_path: Path) -> None:
    state = network().state_dict()
    state["conv1.weight"] = state["conv1.weight"] * 1e38
    torch.save(state, tmp_path / "huge.pt")
    outcome = hessian(tmp_path / "huge.pt", "-o", tmp_path, folder=folder)
    assert "isn't finite at the weights" in outcome.error


def test_json_has_no_nan(folder: Path) -> None:
    spectrum = load_spectrum(folder / "out" / "net.hessian.h5")
    object.__setattr__(spectrum, "loss", float("nan"))
    assert json.loads(to_json([spectrum], [Path("x")]))[0]["loss"] is None


def test_output_paths_are_told_apart(tmp_path: Path) -> None:
    both = result_paths(["a.train", "a.test", "b.train", "b.test"], tmp_path, "hessians", SUFFIX)
    assert len(set(both)) == 4
    assert result_paths(["a"], None, "hessians", SUFFIX) == [Path("hessians/a.hessian.h5")]
    with pytest.raises(UserError, match="one file for 2 results"):
        result_paths(["a", "b"], tmp_path / "x.h5", "hessians", SUFFIX)


def test_the_plot_shows_the_density_and_its_eigenvalues(folder: Path) -> None:
    from analysis.hessian.plot import plot_densities

    spectrum = load_spectrum(folder / "out" / "net.hessian.h5")
    figure = plot_densities([spectrum, spectrum])
    assert len(figure.axes) == 2
    curve, ticks = figure.axes[0].lines
    assert np.isfinite(np.asarray(curve.get_ydata(), dtype=np.float64)).all()
    found = [*spectrum.top.values, *spectrum.bottom.values]
    np.testing.assert_array_equal(ticks.get_xdata(), found)
