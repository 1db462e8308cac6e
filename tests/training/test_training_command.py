"""The command line: help, short runs, one-line errors with exit code 2."""

import json
from pathlib import Path

import pytest
import torch

from landscape.checkpoint.format import decode
from landscape.checkpoint.integrity import sealed
from training.__main__ import main

QUICK = "--widths 4 6 8 --epochs 1 --batch-size 20 --device cpu"


def test_help_shows_the_named_methods_settings(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--method", "random", "--help"])
    text = capsys.readouterr().out
    assert all(
        option in text for option in ("--sparsity", "--distribution", "--nesterov", "--label-smoothing")
    )
    assert text.index("Run") < text.index("Method") < text.index("Optimizer") < text.index("Machine")
    assert "[default: 0.9]" in text
    assert "python -m training --data sample --epochs 1" in text
    main(["--help"])
    assert "--sparsity" not in capsys.readouterr().out.split("Examples")[0]


def test_a_short_run_with_the_default_folder(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(
        [*QUICK.split(), "--data", f"npz:{tiny_npz}", "--method=random", "--sparsity", "0.5", "--no-augment"]
    )
    folder = tmp_path / "runs" / "resnet20-tiny-random-0.5-sgd-seed0"
    checkpoint = decode(torch.load(folder / "final.pt", weights_only=True))
    assert checkpoint.config["method"] == {
        "name": "random",
        "sparsity": 0.5,
        "keep_dense": [],
        "empty_layers": "warn",
        "distribution": "erk",
    }
    assert checkpoint.config["augment"] is False
    assert json.loads((folder / "run.json").read_text()) == checkpoint.config
    out = capsys.readouterr()
    assert "test accuracy" in out.out
    assert "epoch 1/1" in out.err


def test_the_shipped_sample_trains(tmp_path: Path) -> None:
    main(["--data", "sample", *QUICK.split(), "-o", str(tmp_path / "run")])
    checkpoint = decode(torch.load(tmp_path / "run" / "final.pt", weights_only=True))
    assert checkpoint.data["num_classes"] == 10
    assert checkpoint.metrics["test_examples"] == 1000
    assert checkpoint.mask == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--method randm", "unknown method 'randm' (did you mean random?); known: dense, random"),
        ("--optimizer sdg", "unknown optimizer 'sdg' (did you mean sgd?); known: sgd"),
        ("--sparsity 0.5", "Unknown option: --sparsity. "),
        ("--lr fast", "--lr"),
        ("--model resnet-20 --data sample", "unknown model 'resnet-20' (did you mean resnet20?)"),
        ("--model vgg19 --widths 1 2 3 --data sample", "vgg19 has no widths"),
        ("--data smaple", "did you mean sample?"),
        ("--data cifar10 --data-root nowhere", "cifar-10-batches-py does not exist"),
        ("--epochs 0", "epochs 0: expected 1"),
        ("--epochs 1.5", "expected a whole number, got '1.5'"),
        ("--widths 2 2.5 2", "expected a whole number, got '2.5'"),
        ("--method rigl --update-interval 1.5", "expected a whole number, got '1.5'"),
        ("--method random --sparsity 1 --data sample", "sparsity 1.0: expected a pruned share"),
        ("--method random --sparsity 0.99999 --empty-layers fail --data sample", "no weight is kept in"),
        ("--threads 0", "threads 0: expected 1 or more"),
        ("--threads 99999999999999999999", "expected 4096 or fewer"),
    ],
)
def test_bad_input(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*arguments.split(), *([] if "epochs" in arguments else ["--epochs", "1"])])
    text = capsys.readouterr().err.strip()
    assert stop.value.code == 2
    assert text.startswith("error: ")
    assert "\n" not in text
    assert message in text


def test_no_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main(["--device", "cuda", "--data", "sample"])
    assert "CUDA isn't available here" in capsys.readouterr().err


def test_interrupt_says_how_to_go_on(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*rest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.loop._train_epoch", interrupted)
    with pytest.raises(SystemExit) as stop:
        main([*QUICK.split(), "--data", f"npz:{tiny_npz}", "--output", str(tmp_path)])
    assert stop.value.code == 130
    assert (
        "stopped by Ctrl-C: no epoch is saved; the same command starts the run again"
        in capsys.readouterr().err
    )


def test_an_output_that_cannot_be_written(
    tiny_npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        main([*QUICK.split(), "--data", f"npz:{tiny_npz}", "--output", str(tmp_path / "file" / "run")])
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        ({}, "test_accuracy is missing"),
        ({"test_accuracy": "abc"}, "test_accuracy is 'abc'; expected a number"),
        ({"test_accuracy": 2.0}, "test_accuracy is 2.0, which can't be"),
        ({"dense_layers": 3}, "dense_layers is '3'; expected an object"),
    ],
)
def test_a_finished_run_whose_metrics_are_no_trainings_is_refused(
    tmp_path: Path, metrics: dict[str, object], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", "sample", *QUICK.split(), "--examples", "64", "--output", str(tmp_path / "run")]
    main(words)
    path = tmp_path / "run" / "final.pt"
    content = torch.load(path, weights_only=True)
    content["metrics"] = {**content["metrics"], **metrics} if metrics else {}
    torch.save(sealed(content), path)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr().err
    assert f"final.pt: its metrics aren't those of a training ({why}); remove it" in said
    assert "Traceback" not in said
