"""Several sets of weights in a file, parts that are no network's, tied and extra states, damaged values."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn.utils import prune

from landscape.checkpoint import LoadedCheckpoint, load_checkpoint
from landscape.checkpoint.format import Checkpoint, encode
from landscape.checkpoint.integrity import sealed
from landscape.errors import UserError
from landscape.kept_weights import resolve_mask
from landscape.parameters import moving_params

State = dict[str, Tensor]


class Small(nn.Module):
    """Two layers and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn, self.second = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)


class Tied(nn.Module):
    """Input and output share a matrix, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


class Extra(Small):
    """Keeps a number beside its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0

    def get_extra_state(self) -> dict[str, float]:
        return {"scale": self.scale}

    def set_extra_state(self, state: Any) -> None:
        self.scale = state["scale"]


KNOWN = {"small": Small}


def state_of(seed: int, kind: type[nn.Module] = Small) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: value.clone() for name, value in kind().state_dict().items()}


NETWORK, AVERAGE = state_of(0), state_of(1)


def under(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": value for name, value in state.items()}


def loaded(path: Path, content: object, **options: Any) -> LoadedCheckpoint:
    torch.save(content, path)
    return load_checkpoint(path, **{"architectures": KNOWN, **options})


def assert_is(found: LoadedCheckpoint, state: State) -> None:
    assert all(torch.equal(value, state[name]) for name, value in found.model.state_dict().items())


def message(path: Path, content: object, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        loaded(path, content, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CHOICES: dict[str, tuple[object, str]] = {
    "a key": ({"state_dict": NETWORK, "state_dict_ema": AVERAGE}, "state_dict_ema"),
    "a key that nobody knows": ({"student": NETWORK, "teacher": AVERAGE}, "teacher"),
    "a path": ({"model": NETWORK, "ema": {"shadow": AVERAGE}}, "ema.shadow"),
    "a wrapper": ({"model": NETWORK, "ema": {"shadow": AVERAGE, "decay": 0.9}}, "ema"),
    "first parts of names": ({**under("online_model", NETWORK), **under("ema_model", AVERAGE)}, "ema_model"),
    "first parts in a wrapper": (
        {"state_dict": {**under("net", NETWORK), **under("net_ema", AVERAGE), "step": torch.tensor(3)}},
        "net_ema",
    ),
    "weights without names": (
        {
            "state_dict": NETWORK,
            "ema": {"shadow_params": [AVERAGE[name] for name, _ in Small().named_parameters()]},
        },
        "ema.shadow_params",
    ),
}


@pytest.mark.parametrize("case", CHOICES)
def test_the_chosen_set_is_loaded(case: str, tmp_path: Path) -> None:
    content, name = CHOICES[case]
    found = loaded(tmp_path / "a.pt", content, weights=name)
    parameters = {key for key, _ in Small().named_parameters()}
    expected = AVERAGE if case != "weights without names" else NETWORK | {k: AVERAGE[k] for k in parameters}
    assert_is(found, expected)
    assert found.sha256 != hashlib.sha256((tmp_path / "a.pt").read_bytes()).hexdigest()


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    content = {"model": NETWORK, "ema": {"shadow_params": [torch.ones(2)]}, "state_dict_ema": AVERAGE}
    text = message(tmp_path / "a.pt", content, weights="nothing")
    assert "has no weights 'nothing'; it has model, state_dict_ema" in text
    wrong = message(tmp_path / "a.pt", content, weights="ema.shadow_params")
    assert "the 1 weights without names aren't of the shapes of the model's 6 parameters" in wrong
    own = encode(Checkpoint("small", {}, NETWORK, {}))
    assert "one set of weights; leave --weights ema out" in message(tmp_path / "b.pt", own, weights="ema")


def test_copies_of_one_network_have_to_be_told_apart(tmp_path: Path) -> None:
    content = {**under("online_model", NETWORK), **under("ema_model", AVERAGE), "initted": torch.tensor(True)}
    text = message(tmp_path / "a.pt", content)
    assert "several sets of weights (online_model, ema_model); choose one with --weights NAME" in text
    assert "choose one with --weights" in message(tmp_path / "a.pt", {"a": NETWORK, "b": AVERAGE})


def test_a_network_of_two_alike_parts_is_one_network(tmp_path: Path) -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = Small(), Small()

    content = {**under("left", NETWORK), **under("right", AVERAGE)}
    assert_is(loaded(tmp_path / "a.pt", content, architectures={"siamese": Siamese}), content)


@pytest.mark.parametrize(
    "beside", ["criterion.weight", "train_acc.correct", "loss_fn.pos_weight", "val_metrics.a.b"]
)
def test_a_loss_beside_the_network_is_left_out_and_named(beside: str, tmp_path: Path) -> None:
    content = {"state_dict": {**under("model", NETWORK), beside: torch.ones(10)}, "epoch": 3}
    found = loaded(tmp_path / "last.ckpt", content)
    assert_is(found, NETWORK)
    assert f"{beside} left out" in found.how
    also = loaded(tmp_path / "last.ckpt", content, weights="model")
    assert_is(also, NETWORK)


def test_other_parts_are_not_left_out(tmp_path: Path) -> None:
    content = {**under("model", NETWORK), "adapter.weight": torch.ones(2, 2)}
    assert "fit none of small" in message(tmp_path / "a.pt", content)
    assert_is(loaded(tmp_path / "a.pt", content, weights="model"), NETWORK)


def test_tied_weights_that_safetensors_leaves_out(tmp_path: Path) -> None:
    """As its own `load_model` does; also where the file doesn't say what it left out."""
    model = Tied()
    save_model(model, str(tmp_path / "a.safetensors"))
    kept = {"embed.weight": model.embed.weight.detach().clone()}
    save_file(kept, tmp_path / "b.safetensors")
    for name in ("a", "b"):
        found = load_checkpoint(tmp_path / f"{name}.safetensors", architectures={"tied": Tied})
        assert torch.equal(found.model.head.weight, model.embed.weight)  # type: ignore[union-attr,arg-type]
        assert found.model.head.weight is found.model.embed.weight  # type: ignore[union-attr]
    differing = {**kept, "head.weight": kept["embed.weight"] + 1}
    text = message(tmp_path / "c.pt", differing, architectures={"tied": Tied})
    assert "'embed.weight' and 'head.weight' are one tensor in the model, but differ" in text


def test_what_modules_keep_beside_tensors(tmp_path: Path) -> None:
    state = Extra().state_dict()
    state["_extra_state"] = {"scale": 2.5}
    found = loaded(tmp_path / "a.pt", {"model": state}, architectures={"extra": Extra})
    assert found.model.scale == 2.5
    assert "lacks '_extra_state'" in message(tmp_path / "a.pt", NETWORK, architectures={"extra": Extra})
    assert "'_extra_state' beside its tensors" in message(tmp_path / "a.pt", dict(state))


def test_numbers_of_another_kind(tmp_path: Path) -> None:
    changed = {**NETWORK, "first.weight": NETWORK["first.weight"] * (1 + 1j)}
    assert "'first.weight' holds complex numbers (complex64), the model expects real" in message(
        tmp_path / "a.pt", changed
    )
    changed = {**NETWORK, "bn.num_batches_tracked": torch.tensor(2.5)}
    assert "holds real numbers (float32), the model expects whole" in message(tmp_path / "a.pt", changed)
    small = {
        name: value.to(torch.float8_e4m3fn) if value.dim() > 1 else value for name, value in NETWORK.items()
    }
    found = loaded(tmp_path / "a.pt", small)
    assert torch.equal(found.model.first.weight, small["first.weight"].float())  # type: ignore[union-attr,arg-type]
    assert "float8_e4m3fn" in found.how
    large = {**NETWORK, "first.bias": torch.full((4,), 1e300, dtype=torch.float64)}
    assert "infinite" in message(tmp_path / "a.pt", large)
    negative = {**NETWORK, "bn.running_var": torch.tensor([1.0, -0.5, 1.0, 1.0])}
    assert "'bn.running_var' has 1 variances below 0" in message(tmp_path / "a.pt", negative)


def test_our_own_form_that_contradicts_itself(tmp_path: Path) -> None:
    mask = {"first.weight": NETWORK["first.weight"] > 0}
    state = {**NETWORK, "first.weight": NETWORK["first.weight"] * mask["first.weight"]}
    good = encode(Checkpoint("small", {}, state, mask))
    assert_is(loaded(tmp_path / "a.pt", good), state)

    def changed(**parts: Any) -> str:
        packed = {"first.weight": {**good["sparse"]["first.weight"], **parts.pop("packed", {})}}
        return message(tmp_path / "b.pt", sealed({**good, "sparse": packed, **parts}))

    count = int(mask["first.weight"].sum())
    places = torch.arange(count) + 0.5
    fractional = {key: one for key, one in good["sparse"]["first.weight"].items() if key != "bits"}
    text = message(
        tmp_path / "b.pt", sealed({**good, "sparse": {"first.weight": {**fractional, "indices": places}}})
    )
    assert "the indices of a mask are torch.float32; expected a row of whole numbers" in text
    assert "stored twice, dense and sparse" in changed(
        state_dict={**good["state_dict"], "first.weight": state["first.weight"]}
    )
    assert "isn't one of whole numbers" in changed(packed={"shape": [2.0, 6]})
    assert "more than a file of" in changed(packed={"shape": [1 << 40, 1 << 40]})
    assert "bits beyond its last weight" in changed(
        packed={"shape": [1], "bits": torch.tensor([255], dtype=torch.uint8)}
    )
    for data in ({"mean": "a"}, {"std": [0.1, 0.0]}, {"num_classes": "ten"}, {"name": 3}, {"selection": 3}):
        assert f"the data's {next(iter(data))} is" in changed(data=data)
    assert "metrics has a Tensor" in changed(metrics={"loss": torch.ones(1)})
    assert "its values aren't those that were written" in message(
        tmp_path / "b.pt", good | {"config": {"lr": 0.2}}
    )
    assert "it has no digest" in message(tmp_path / "b.pt", {k: v for k, v in good.items() if k != "digest"})
    older = {k: v for k, v in good.items() if k != "digest"} | {"format_version": 1}
    assert_is(loaded(tmp_path / "old.pt", older), state)
    for version in (0, -7, "2", True, 1.0):
        assert "of version" in message(tmp_path / "b.pt", sealed(good | {"format_version": version}))


def test_arguments_of_a_file_make_nothing_large(tmp_path: Path) -> None:
    """The architecture is compared without memory for its weights: these would need terabytes."""
    from training.models import ARCHITECTURES

    state = ARCHITECTURES["resnet20"](widths=(2, 4, 8)).state_dict()
    for arguments in (
        {"widths": [1 << 20] * 3},
        {"num_classes": 1 << 40},
        {"widths": [-1, 2, 3]},
        {"widths": []},
    ):
        own = encode(Checkpoint("resnet20", arguments, dict(state), {}))
        message(tmp_path / "a.pt", own, architectures=ARCHITECTURES)
    odd = dict(state) | {f"layer{n}.0.conv1.weight": torch.ones(1 << 20, 1, 1, 1) for n in (1, 2, 3)}
    message(tmp_path / "a.pt", odd, architectures=ARCHITECTURES)


def test_a_digest_beside_the_file_has_to_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(NETWORK, path)
    found = load_checkpoint(path, architectures=KNOWN)
    assert "no checksums in this form" in found.how
    sidecar = tmp_path / "a.safetensors.sha256"
    sidecar.write_text(f"{found.sha256}  a.safetensors\n")
    load_checkpoint(path, architectures=KNOWN)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"isn't the file that a.safetensors.sha256 is of"):
        load_checkpoint(path, architectures=KNOWN)


def test_archives_without_checksums_say_so(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        found = loaded(tmp_path / "a.pt", NETWORK)
    finally:
        torch.serialization.set_crc32_options(before)
    assert_is(found, NETWORK)
    assert "no checksums in this form" in found.how


def test_a_network_that_is_pruned_at_present_has_its_mask() -> None:
    model = Small()
    prune.l1_unstructured(model.first, "weight", amount=9)
    expected = model.first.weight_mask.bool()
    mask, source = resolve_mask("auto", None, moving_params(model))
    assert mask is not None
    assert list(mask) == ["first.weight_orig"]
    assert torch.equal(mask["first.weight_orig"], expected)
    assert source == "checkpoint"
    prune.remove(model.first, "weight")
    after, _ = resolve_mask("auto", None, moving_params(model))
    assert after is not None
    assert torch.equal(after["first.weight"], expected)
