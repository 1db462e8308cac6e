"""Tables 2 to 6 and A.1, and the forms in which all tables are written."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_results import write_table
from print_checks import check_print

from analysis.robustness.corruption_names import BENCHMARK
from analysis.robustness.result import Robustness
from analysis.robustness.robustness_file import read, save
from analysis.statistics.median import median_interval
from figures import table1, table2, table3, table4, table5, table6, table_a1
from figures.claims import accuracy_pairs
from figures.networks import DISTRIBUTIONS, PARAMETERS
from figures.product_command import main
from figures.results import Results
from figures.table_picture import draw
from figures.table_texts import to_csv, to_latex, to_markdown
from figures.tables import TABLES
from figures.tabular import NOT_RUN, Column, Grid, Line, percent, with_best
from figures.throughput import Race, Throughput, load_throughput
from landscape.errors import UserError
from landscape.hdf5.seal import LENGTH, seal_of

HEAD = (
    *("run", "state", "method", "sparsity_asked", "optimizer", "seed", "test_accuracy"),
    *("test_accuracy_error", "flops_share", "training_flops_share", "shrunk_flops_share"),
    *("shrunk_parameters", "channels_share", "epochs", "epochs_trained", "examples_trained"),
)


def results(root: Path, *rows: str) -> Results:
    """Runs as ``name accuracy key=value …``, all finished."""
    path = root / "runs" / "results.csv"
    write_table(root, [])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HEAD, restval="")
        writer.writeheader()
        for row in rows:
            name, accuracy, *more = row.split()
            known = dict(one.split("=") for one in more)
            error = {"test_accuracy_error": "0.004"}
            writer.writerow({"run": name, "state": "finished", "test_accuracy": accuracy, **error, **known})
    return Results(root)


def line(grid: Grid, *labels: str) -> dict[str, str]:
    """What stands in the line that begins so, by the keys of the columns."""
    (found,) = [one for one in grid.lines if one.labels[: len(labels)] == labels]
    return {
        f"{column.group} {column.key}".strip(): str(entry)
        for column, entry in zip(grid.columns, found.entries, strict=True)
    }


def test_without_any_result_every_table_stands_empty(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    nothing = Results(tmp_path)
    for one in TABLES:
        for grid in one.grids(nothing):
            measured = [cell for row in grid.lines for cell in row.entries if cell.state == "measured"]
            assert measured == [], (one.name, grid.title)
        states = {row["state"] for row in csv.DictReader(io.StringIO(to_csv(one.grids(nothing))))}
        assert "not run" in states, one.name
        assert states <= {"not run", "published"}


def test_table2_has_flops_and_published_numbers_apart(tmp_path: Path) -> None:
    name = "torchvision-resnet50-imagenet-rigl-0.8"
    grid, dense = table2.grids(
        results(
            tmp_path,
            f"{name}-sgd-seed0 0.74 flops_share=0.42 training_flops_share=0.43",
            f"{name}-s2sam-seed0 0.75 flops_share=0.42 training_flops_share=0.43",
        )
    )
    ours = line(grid, "ResNet-50, ImageNet", "RigL")
    assert ours["80 % sparse flops_share"] == "0.420"
    assert ours["80 % sparse training_flops_share"] == "0.430"
    assert ours["80 % sparse s2sam"] == "75.00 ± 0.40"
    assert ours["90 % sparse sgd"] == "□"
    theirs = line(grid, "ResNet-50, ImageNet", "RigL, ERK, published (google-research/rigl)")
    assert (theirs["80 % sparse sgd"], theirs["80 % sparse s2sam"]) == ("75.12", "")
    text = to_markdown(grid)
    assert "| *75.12* |" in text
    assert "**75.00** ± 0.40" in text
    assert "google-research/rigl, commit" in text
    assert line(dense, "ResNet-50, ImageNet")["sgd"] == "□"


def test_table3_reads_the_smaller_networks(tmp_path: Path) -> None:
    root = results(
        tmp_path,
        "resnet20-cifar10-dense-sgd-seed0 0.90",
        "resnet20-cifar10-chex-0.5-sgd-seed0 0.88 shrunk_flops_share=0.49 shrunk_parameters=150000 "
        "channels_share=0.7",
        "resnet20-cifar10-rigl-0.9-sgd-seed0 0.87",
    ).root
    folder = root / "structured"
    folder.mkdir()
    (folder / "structured.csv").write_text(
        "run,faster\nresnet20-cifar10-dense-sgd-seed0,\n"
        'resnet20-cifar10-chex-0.5-sgd-seed0,"1.60 [1.52, 1.71]"\n'
    )
    (grid,) = table3.grids(Results(root))
    chex = line(grid, "ResNet-20, CIFAR-10", "CHEX", "50 %")
    assert chex["shrunk_flops_share"] == "0.490"
    assert chex["shrunk_parameters"] == "150,000"
    assert chex["times as fast as dense speed_sgd"] == "1.60 [1.52, 1.71]"
    assert chex["times as fast as dense speed_s2sam"] == "□"
    assert line(grid, "ResNet-20, CIFAR-10", "dense")["shrunk_parameters"] == "269,722"
    assert not any("RigL" in one.labels for one in grid.lines)
    (folder / "structured.csv").write_text("run,faster\nx,soon\n")
    with pytest.raises(UserError, match=r"structured\.csv: can't be read.*check_structured"):
        table3.grids(Results(root))


def raced(seconds: dict[str, list[float]]) -> Throughput:
    turns = {name: tuple(one) for name, one in seconds.items()}
    race = Race("rigl", 0.9, "dense", turns, (0.3,) * 7, 100)
    versions = {"torch": "2"}
    return Throughput("resnet20", 32, 64, 10, "float32", "A", 1, "processor", (1.0, 2.0), versions, (race,))


def test_table4_takes_ratios_turn_by_turn(tmp_path: Path) -> None:
    sgd = [1.0, 2.0, 1.0, 4.0, 1.0, 1.0, 1.0]
    twice = [2.0, 4.0, 2.0, 8.0, 2.0, 2.5, 1.6]
    path = tmp_path / "throughput" / "resnet20-32px.json"
    one = raced({"sgd": sgd, "s2sam": sgd, "sam": twice})
    one.save(path)
    assert load_throughput(path) == one
    (tmp_path / "runs").mkdir()
    (grid,) = table4.grids(Results(tmp_path))
    found = line(grid, "ResNet-20, 32 px, dense kernels", "RigL")
    assert found["images per second sgd"] == "640"
    assert found["rate, of the original's rate_s2sam"] == "1.000 [1.000, 1.000]"
    assert found["rate, of the original's rate_sam"] == "0.500 [0.400, 0.625]"
    assert found["change"] == "× 2.00 (every 100 steps)"
    assert "7 turns of 10 steps" in " ".join(grid.notes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("races", 3),
        ("side", 0),
        ("threads", True),
        ("load", [None]),
        ("device", 7),
        ("version", 2),
        ("batch_size", 10**400),
        ("steps", 10**400),
        ("versions", []),
        ("races", [{"method": "rigl", "sparsity": 1.5}]),
    ],
)
def test_other_files_of_throughput_are_refused_in_a_line(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "x.json"
    raced({"sgd": [1.0], "s2sam": [1.0]}).save(path)
    content = json.loads(path.read_text())
    del content["sha256_of_content"]
    path.write_text(json.dumps(content | {key: value}))
    with pytest.raises(UserError, match=r"x\.json: can't be read .*make it anew with [^\n]*$"):
        load_throughput(path)


def answers(number: int, share: float, **run: object) -> Robustness:
    draw_ = np.random.default_rng(number)
    return Robustness(
        name=f"net{number}",
        file=f"net{number}.pt",
        sha256=f"{number:064x}",
        corruptions=BENCHMARK,
        sources=("generated",) * 15,
        places=np.arange(40, dtype=np.int64),
        labels=np.arange(40, dtype=np.int64) % 10,
        clean=draw_.random(40) < 0.9,
        correct=draw_.random((15, 5, 40)) < share,
        done=np.ones((15, 5), bool),
        settings={"images": "a", "seed": 0},
        about={
            "architecture": "resnet20",
            "data": {"name": "cifar10"},
            "run": {"method": "rigl", "sparsity": 0.9, "seed": 0, **run},
        },
    )


def test_table5_compares_within_one_set_of_images(tmp_path: Path) -> None:
    first, second = answers(1, 0.6, optimizer="sgd"), answers(2, 0.7, optimizer="s2sam")
    save(first, tmp_path / "robustness" / "a.robustness.h5")
    save(second, tmp_path / "robustness" / "b.robustness.h5")
    (tmp_path / "runs").mkdir()
    ours, paper = table5.grids(Results(tmp_path))
    assert ours.title == "cifar10 under corruptions: generated"
    found = line(ours, "ResNet-20", "RigL", "90 %")
    assert found["corrupted corrupted_sgd"].startswith(f"{100 * first.correct.mean():.2f} [")
    gain = second.correct.mean() - first.correct.mean()
    assert found["gain, corrupted gain_s2sam"].startswith(f"{100 * gain:.2f} [")
    assert "aren't the published ones" in " ".join(ours.notes)
    assert {cell.state for one in paper.lines for cell in one.entries} == {"not run"}


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/b", "..", "a\\b"])
def test_a_results_name_is_no_path(name: str, tmp_path: Path) -> None:
    path = save(answers(1, 0.6), tmp_path / "a.robustness.h5")
    with pytest.raises(UserError, match="expected one without separators"):
        save(replace(answers(1, 0.6), name=name), tmp_path / "b.robustness.h5")
    path.write_bytes(path.read_bytes()[:-LENGTH])
    with h5py.File(path, "r+") as file:
        file.attrs["name"] = name
    path.write_bytes(path.read_bytes() + seal_of(path.read_bytes()))
    assert read(path).name == name  # of an older version


def kept(folder: Path, **found: Robustness) -> Results:
    """A folder with these results."""
    for name, one in found.items():
        save(replace(one, name=name), folder / "robustness" / f"{name}.robustness.h5")
    (folder / "runs").mkdir()
    return Results(folder)


def test_table5_keeps_runs_apart_that_were_not_trained_alike(tmp_path: Path) -> None:
    short, long = {"epochs": 2, "data": "cifar10"}, {"epochs": 160, "data": "cifar10"}
    ours, _ = table5.grids(
        kept(
            tmp_path,
            a=answers(1, 0.4, optimizer="sgd", recipe=short),
            b=answers(2, 0.8, optimizer="s2sam", recipe=long),
            c=answers(3, 0.8, optimizer="sgd", recipe=long, seed=1),
        )
    )
    first, second = (line(ours, "ResNet-20", f"RigL (epochs {epochs})") for epochs in (160, 2))
    assert first["gain, corrupted gain_s2sam"] == ""  # of no seed that both have
    assert second["corrupted corrupted_s2sam"] == "□"
    assert "weren't trained alike" in " ".join(ours.notes)


def test_table5_knows_how_long_runs_of_older_files_were_trained(tmp_path: Path) -> None:
    first, second = answers(1, 0.4, optimizer="sgd"), answers(2, 0.8, optimizer="s2sam")
    first.about["checkpoint"] = {"metrics": {"epochs_trained": 2}}
    second.about["checkpoint"] = {"metrics": {"epochs_trained": 160}}
    ours, _ = table5.grids(kept(tmp_path, a=first, b=second))
    assert [one.labels[1] for one in ours.lines] == ["RigL (epochs 160)", "RigL (epochs 2)"]


def test_table5_loses_no_run_whose_settings_read_alike(tmp_path: Path) -> None:
    recipe = {"epochs": 2, "lr": 0.1, "image_size": None, "mixup": 0, "lr_drop": 0.1}
    first, second = answers(1, 0.4, optimizer="sgd", recipe=recipe), answers(2, 0.8, optimizer="sgd", seed=1)
    second.about["run"]["recipe"] = {"epochs": 2.0, "lr": 0.1, "mixup": 0.0}  # of an earlier version
    third = answers(3, 0.8, optimizer="sgd", seed=2, recipe={"epochs": 2, "lr": 0.001})
    ours, _ = table5.grids(kept(tmp_path, a=first, b=second, c=third))
    assert [one.labels[1] for one in ours.lines] == ["RigL (lr 0.001)", "RigL (lr 0.1)"]
    both = (first.correct.mean() + second.correct.mean()) / 2
    assert line(ours, "ResNet-20", "RigL (lr 0.1)")["corrupted corrupted_sgd"].startswith(f"{100 * both:.2f}")


def test_table5_refuses_seeds_of_one_optimizer_with_other_settings(tmp_path: Path) -> None:
    first, second = (
        answers(seed, 0.4, optimizer="s2sam", seed=seed, own={"rho": rho})
        for seed, rho in ((0, 0.05), (1, 0.2))
    )
    with pytest.raises(UserError, match=r"other settings of s2sam .*0\.05.* and .*0\.2"):
        table5.grids(kept(tmp_path, a=first, b=second))


def test_table5_never_puts_files_and_generated_images_together(tmp_path: Path) -> None:
    part = answers(1, 0.4, optimizer="sgd", seed=7)
    part = replace(
        part, corruptions=("fog",), sources=("files",), correct=part.correct[:1], done=part.done[:1]
    )
    whole, made = answers(2, 0.8, optimizer="sgd"), answers(3, 0.8, optimizer="s2sam")
    files = ("files",) * 15
    some = tuple("generated" if name == "snow" else "files" for name in BENCHMARK)
    *ours, _ = table5.grids(
        kept(tmp_path, a=part, b=replace(whole, sources=files), c=replace(made, sources=some))
    )
    assert [one.title for one in ours] == [
        "cifar10 under corruptions: files",
        "cifar10 under corruptions: files, 1 generated",
    ]
    assert line(ours[0], "ResNet-20")["clean clean_s2sam"] == "□"


def test_table5_leaves_out_what_was_measured_on_an_earlier_checkpoint(tmp_path: Path) -> None:
    found = kept(tmp_path, a=answers(1, 0.4, optimizer="sgd"), b=answers(2, 0.8, optimizer="s2sam"))
    (tmp_path / "runs" / "a").mkdir()
    (tmp_path / "runs" / "a" / "final.pt").write_bytes(b"trained again")
    ours, paper = table5.grids(found)
    assert line(ours, "ResNet-20")["clean clean_sgd"] == "□"
    assert line(ours, "ResNet-20")["clean clean_s2sam"] != "□"
    assert "earlier checkpoints; measure again: a." in " ".join(paper.notes)
    path = tmp_path / "robustness" / "a.robustness.h5"
    save(replace(answers(1, 0.4, optimizer="sgd"), name="final"), path)  # as the command itself names it
    ours, paper = table5.grids(found)
    assert "earlier checkpoints; measure again: a." in " ".join(paper.notes)


def test_seeds_of_other_lengths_have_no_mean(tmp_path: Path) -> None:
    rows = [
        "resnet20-cifar10-chex-0.5-sgd-seed0 0.9 epochs=160",
        "resnet20-cifar10-chex-0.5-sgd-seed1 0.4 epochs=2",
    ]
    with pytest.raises(UserError, match=r"-seed1 were trained for 160 and 2 epochs: .* train them alike"):
        results(tmp_path, *rows)


def test_seeds_may_lack_broken_pictures_and_what_older_tables_did_not_count(tmp_path: Path) -> None:
    counts = ("38000", "35000", "")
    rows = [
        f"resnet20-cifar10-chex-0.5-sgd-seed{seed} 0.9 epochs=2 examples_trained={count}"
        for seed, count in enumerate(counts)
    ]
    (grid,) = table3.grids(results(tmp_path, *rows))
    assert line(grid, "ResNet-20, CIFAR-10", "CHEX")["test accuracy (%) sgd"] == "90.00"


def test_claims_leave_pairs_of_other_lengths_out(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        "resnet20-cifar10-rigl-0.9-sgd-seed0 0.4 epochs=2",
        "resnet20-cifar10-rigl-0.9-s2sam-seed0 0.9 epochs=20",
        "resnet20-cifar10-rigl-0.95-sgd-seed0 0.4 epochs=2",
        "resnet20-cifar10-rigl-0.95-s2sam-seed0 0.5 epochs=2",
    )
    pairs, left_out = accuracy_pairs(found, "s2sam")
    assert pairs == {("rigl", 0.95, 0): (0.4, 0.5)}
    assert left_out == ["rigl 0.9 seed 0: trained for 2 and 20 epochs"]
    sparse, *_ = table1.grids(found)
    found_line = next(one for one in sparse.lines if one.labels[1] == "RigL")
    assert [one.best for one in found_line.entries if one.value is not None] == [False, False, False, True]


def test_optimizers_of_other_lengths_are_told_and_not_subtracted(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        "resnet20-cifar10-chex-0.5-sgd-seed0 0.4 epochs=2 epochs_trained=2",
        "resnet20-cifar10-chex-0.5-s2sam-seed0 0.9 epochs=160 epochs_trained=160",
        "resnet20-cifar10-dense-sgd-seed0 0.4 epochs=2",
        "resnet20-cifar10-dense-s2sam-seed0 0.9 epochs=160",
    )
    (grid,) = table3.grids(found)
    assert line(grid, "ResNet-20, CIFAR-10", "CHEX")["epochs_trained"] == "2–160"
    told = "Not trained for as long, so not comparable: resnet20-cifar10 chex 0.5: s2sam 160 epochs"
    assert told in " ".join(grid.notes)
    (dense,) = table6.grids(found)
    assert line(dense, "ResNet-20, CIFAR-10")["gain gain_s2sam"] == "□"


def test_table6_pairs_seeds(tmp_path: Path) -> None:
    rows = [f"vgg19-cifar10-dense-sgd-seed{seed} {value}" for seed, value in ((0, 0.9), (1, 0.8), (2, 0.1))]
    rows += [f"vgg19-cifar10-dense-s2sam-seed{seed} {value}" for seed, value in ((0, 0.92), (1, 0.81))]
    (grid,) = table6.grids(results(tmp_path, *rows))
    found = line(grid, "VGG-19, CIFAR-10")
    assert found["parameters"] == "20,035,018"
    assert found["gain gain_s2sam"] == "1.50 ± 0.50"
    assert found["test accuracy s2sam"] == "86.50 ± 5.50"
    assert line(grid, "EfficientNet-B0, ImageNet")["test accuracy sgd"] == "□"


def test_table_a1_knows_a_method_s_own_distribution(tmp_path: Path) -> None:
    (grid,) = table_a1.grids(
        results(
            tmp_path,
            "resnet20-cifar10-rigl-0.9-sgd-seed0 0.9",
            "resnet20-cifar10-rigl_uniform-0.9-sgd-seed0 0.8",
            "resnet20-cifar10-mest_em-0.9-sgd-seed0 0.7",
        )
    )
    network = "ResNet-20, CIFAR-10"
    assert line(grid, network, "RigL", "ERK")["90 % sparse sgd"] == "90.00 ± 0.40"
    assert line(grid, network, "RigL", "uniform")["90 % sparse sgd"] == "80.00 ± 0.40"
    assert line(grid, network, "MEST (EM)", "uniform")["90 % sparse sgd"] == "70.00 ± 0.40"
    assert line(grid, network, "MEST (EM)", "ERK")["90 % sparse sgd"] == "□"
    (first, *_) = table1.grids(Results(tmp_path))
    assert line(first, network, "RigL, uniform")["90 % sparse sgd"] == "80.00 ± 0.40"


def test_latex_balances_and_marks(tmp_path: Path) -> None:
    columns = (Column("90 %", "a_1", "a"), Column("90 %", "b", "b"), Column("", "c", "c"))
    entries = with_best([percent(0.5, 0.01), percent(0.6), NOT_RUN], columns, ("a", "b"))
    grid = Grid("x & y", ("of",), columns, (Line(("n_1",), entries),), ("50 % of it.",))
    text = to_latex(grid)
    assert r"\multicolumn{2}{c}{90 \%}" in text
    assert r"\cmidrule(lr){2-3}" in text
    assert r"n\_1 & 50.00\,{\scriptsize $\pm$ 1.00} & \textbf{60.00} & \fbox" in text
    assert text.count("{") == text.count("}")
    assert all(one.count("&") == 3 for one in text.splitlines() if one.endswith(r"\\") and "multi" not in one)


@pytest.mark.parametrize("wide", [False, True])
def test_pictures_can_be_printed(wide: bool) -> None:
    groups = [f"{level} % sparse" for level in ((80, 90, 95, 98) if wide else (90,))]
    columns = tuple(Column(group, head, head) for group in groups for head in ("original", "S2-SAM", "SAM"))
    entries = tuple(percent(0.5, 0.01) for _ in columns[:-1])
    lines = [
        Line((name, "a method with a long name, published (who/where)"), (*entries, NOT_RUN)) for name in "ab"
    ]
    notes = ("A note that is long enough to be broken, since it goes on and on, " * 3,)
    check_print(draw("A title", [Grid("One", ("network", "method"), columns, tuple(lines), notes)] * 2))


def test_median_interval_covers_as_it_says() -> None:
    draw_ = np.random.default_rng(0).exponential(size=(4000, 9))
    ends = np.array([median_interval(list(one))[1:] for one in draw_])
    inside = ((ends[:, 0] <= math.log(2)) & (math.log(2) <= ends[:, 1])).mean()
    assert 0.95 <= inside <= 0.97  # exactly 1 - 20 / 512


def test_parameters_and_distributions_are_those_of_the_networks_and_methods() -> None:
    torch = pytest.importorskip("torch")
    from training.models import build_model
    from training.sparsity import METHODS

    for (name, classes), count in PARAMETERS.items():
        with torch.device("meta"):
            model = build_model(name.replace("torchvision-", "torchvision:"), num_classes=classes)
        assert sum(one.numel() for one in model.parameters()) == count, name
    for method, kind in DISTRIBUTIONS.items():
        assert getattr(METHODS[method], "distribution") == kind  # noqa: B009
    assert {name for name in METHODS if hasattr(METHODS[name], "distribution")} == set(DISTRIBUTIONS)
    assert all(re.fullmatch("[a-z0-9_]+", name) for name in METHODS)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ('x,"1.5 [1.4, 1.6]"\nx,"2.5 [2.4, 2.6]"\n', "the run x is there 2 times"),
        ('x,"1.5 [9.4, 0.6]"\n', "an interval without its value"),
        ('x,"1.5 [1.6, 1.7]"\n', "an interval without its value"),
    ],
)
def test_speeds_that_cant_be_are_refused(tmp_path: Path, rows: str, why: str) -> None:
    (tmp_path / "structured").mkdir()
    (tmp_path / "structured" / "structured.csv").write_text(f"run,faster\n{rows}")
    with pytest.raises(UserError, match=rf"structured\.csv: can't be read .*{why}"):
        table3.speeds_of(tmp_path)


def test_a_robustness_file_of_an_endless_name_stops_no_table(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "robustness").mkdir()
    save(replace(answers(0, 0.5), name="n" * 300), tmp_path / "robustness" / "a.robustness.h5")
    assert table5.grids(Results(tmp_path))


def test_a_number_that_is_too_large_stops_one_product_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Overflowing:
        name = "first"

        def unlike(self, results: Results) -> list[str]:
            return [str(float(10**400))]

        def write(self, results: Results, folder: Path) -> list[Path]:
            raise AssertionError("never")

    root = results(tmp_path, "resnet20-cifar10-dense-sgd-seed0 0.90").root
    with pytest.raises(SystemExit):
        main([Overflowing(), table6.PRODUCT], ["all", str(root)])
    told = capsys.readouterr()
    assert "error: first: int too large to convert to float" in told.err
    assert "table6.md" in told.out


def test_all_that_tie_are_the_best(tmp_path: Path) -> None:
    columns = [Column("", name, name) for name in "abc"]
    entries = with_best([percent(0.5), percent(0.50004), percent(0.4)], columns, ("a", "b", "c"))
    assert [one.best for one in entries] == [True, True, False]  # 50.00 and 50.00


def test_means_over_other_seeds_are_told_and_none_is_the_best(tmp_path: Path) -> None:
    rows = [f"resnet20-cifar10-rigl-0.9-sgd-seed{seed} 0.{5 + seed}" for seed in range(4)]
    rows += ["resnet20-cifar10-rigl-0.9-s2sam-seed0 0.6"]
    rows += [f"resnet20-cifar10-rigl-0.95-{name}-seed0 0.{at}" for at, name in ((4, "sgd"), (5, "s2sam"))]
    sparse, *_ = table1.grids(results(tmp_path, *rows))
    found = next(one for one in sparse.lines if one.labels[1] == "RigL")
    assert [one.best for one in found.entries if one.value is not None] == [False, False, False, True]
    told = "Not of the same training seeds, so not comparable: resnet20-cifar10 rigl 0.9: "
    assert f"{told}s2sam seed 0, sgd seeds 0 to 3." in sparse.notes
