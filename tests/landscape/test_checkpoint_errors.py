"""Files that can't be loaded: each ends in one line that says what came and what to do."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from landscape.checkpoint import load_checkpoint
from landscape.checkpoint.format import Checkpoint, encode
from landscape.errors import UserError
from training.models import ARCHITECTURES


class Attack:
    """Runs a shell command when it is unpickled the ordinary way."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


class Weights(nn.Module):
    """A pickled module of a class that the file only names."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def state() -> dict[str, Tensor]:
    return ARCHITECTURES["resnet20"](widths=(2, 4, 8)).state_dict()


def refusal(path: Path, content: bytes | None = None, **options: Any) -> str:
    """The message with which a file is refused, without the path."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_checkpoint(path, **{"architectures": ARCHITECTURES, **options})
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message.replace(str(path), "FILE")


def test_missing_empty_folder_and_unreadable(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.pt").startswith("no file FILE; expected a checkpoint")
    assert "FILE is a folder; expected a checkpoint file" in refusal(tmp_path)
    assert "FILE is empty (0 bytes)" in refusal(tmp_path / "a.pt", b"")
    assert "FILE is no regular file" in refusal(Path(os.devnull))


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(200)), "a PNG image"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "an HDF5 file"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"hello", "an unknown kind of file"),
        (zipped(picture=b"x"), "a zip archive without PyTorch's data.pkl"),
    ],
)
def test_something_else_is_no_checkpoint(content: bytes, kind: str, tmp_path: Path) -> None:
    message = refusal(tmp_path / "a.pt", content)
    assert "not a checkpoint" in message
    assert kind in message


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(30, 30), torch.zeros(1, 30)), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


SMALL = {f"layer{number}.weight": torch.ones(7, 9) for number in range(9)}
FORMS = {
    "zip": saved(SMALL),
    "legacy": saved(SMALL, _use_new_zipfile_serialization=False),
    "safetensors": save(SMALL),
    "TorchScript": scripted(),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(share=st.floats(0.01, 0.999))
def test_truncated_files_are_called_damaged(form: str, share: float, tmp_path: Path) -> None:
    whole = FORMS[form]
    part = whole[: max(16, int(share * len(whole)))]
    assert "FILE is truncated or damaged" in refusal(tmp_path / "a.pt", part)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200), head=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04"]))
def test_random_bytes_end_in_one_line(content: bytes, head: bytes, tmp_path: Path) -> None:
    refusal(tmp_path / "a.pt", head + content)


@pytest.mark.parametrize("form", ["zip", "legacy", 2, 3, 4, 5])
def test_pickle_that_would_run_code_is_refused(form: str | int, tmp_path: Path) -> None:
    attack = {"state_dict": state(), "note": Attack(f"touch {tmp_path / 'ran'}")}
    if isinstance(form, int):
        content = pickle.dumps(attack["note"], protocol=form)
    else:
        content = saved(attack, _use_new_zipfile_serialization=form == "zip")
    message = refusal(tmp_path / "a.pt", content)
    assert f"its pickle would run code, it wants {os.system.__module__}.system;" in message
    assert "--trust-checkpoint" in message
    assert not (tmp_path / "ran").exists()


def test_whole_modules_need_trust_and_their_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Weights())
    message = refusal(tmp_path / "a.pt", content)
    assert f"it wants {Weights.__module__}.Weights;" in message
    assert "--trust-checkpoint" in message
    monkeypatch.delattr(f"{__name__}.Weights")
    assert "needs code that isn't here" in refusal(tmp_path / "a.pt", content, trust=True)


def test_pickles_that_torch_did_not_write(tmp_path: Path) -> None:
    content = pickle.dumps({"w": np.ones(3)}, protocol=4)
    assert "a pickle in a form that can't be read" in refusal(tmp_path / "a.pt", content)
    assert "torch.save didn't write" in refusal(tmp_path / "a.pt", content, trust=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no weights; its keys: none"),
        ({"epoch": 3, "loss": 0.1}, "holds no weights; its keys: epoch, loss"),
        ([1, 2], "holds a list; expected a state_dict"),
        (torch.ones(3), "holds a Tensor"),
        ({"a": {"w": torch.ones(2)}, "b": {"w": torch.ones(2)}}, "several sets of weights (a, b)"),
    ],
)
def test_files_without_weights(content: object, message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path / "a.pt", saved(content))


def test_nan_and_infinite_weights(tmp_path: Path) -> None:
    weights = state()
    weights["layer1.0.conv1.weight"][0, 0] = float("nan")
    message = refusal(tmp_path / "a.pt", saved(weights))
    assert "'layer1.0.conv1.weight' has 9 NaN or infinite values;" in message
    weights["linear.bias"][1] = float("inf")
    assert "9 NaN or infinite values, 10 in 2 tensors" in refusal(tmp_path / "a.pt", saved(weights))
    own = encode(Checkpoint("resnet20", {"widths": [2, 4, 8]}, weights, {}))
    assert "9 NaN or infinite values" in refusal(tmp_path / "a.pt", saved(own))


def test_differences_are_named_with_both_shapes(tmp_path: Path) -> None:
    weights = state()
    weights["extra.weight"] = torch.ones(2, 2)
    del weights["bn1.bias"]
    weights["conv1.weight"] = torch.ones(2, 1, 3, 3)
    message = refusal(tmp_path / "a.pt", saved(weights), model="resnet20(widths=[2,4,8])")
    assert "doesn't fit resnet20(" in message
    assert "'conv1.weight' is [2, 1, 3, 3] in the file, [2, 3, 3, 3] in the model" in message
    assert "missing 'bn1.bias' [2]" in message
    assert "unexpected 'extra.weight' [2, 2]" in message
    assert "3 tensors differ, the model has 116" in message


def test_own_checkpoints_that_do_not_work(tmp_path: Path) -> None:
    content = encode(Checkpoint("mine:net", {}, state(), {}))
    assert "holds a 'mine:net', which isn't known here; name what builds it" in refusal(
        tmp_path / "a.pt", saved(content)
    )
    newer = content | {"format_version": 99}
    assert "version 99" in refusal(tmp_path / "a.pt", saved(newer))
    wrong = encode(Checkpoint("resnet32", {"widths": [2, 4, 8]}, state(), {}))
    assert "missing 'layer1.3.conv1.weight'" in refusal(tmp_path / "a.pt", saved(wrong))
