"""Functions are told apart by what they compute, not by how they are written or where they lie in memory."""

from __future__ import annotations

import functools
from collections import UserDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.checks.identity import Functions, check_same
from landscape.errors import UserError
from landscape.keeping.settings import known_settings
from landscape.losses import classification, regression

Loss = Callable[[Any, Any], Any]


def mse(model: Any, batch: Any) -> Any:
    return (model(batch[0]) - batch[1]).square().mean(1), len(batch[0])


def mae(model: Any, batch: Any) -> Any:
    return (model(batch[0]) - batch[1]).abs().mean(1), len(batch[0])


def scaled(factor: Any, model: Any, batch: Any) -> Any:
    values, count = mse(model, batch)
    return values * factor, count


def closed(factor: Any) -> Loss:
    return lambda model, batch: scaled(factor, model, batch)


def with_default(factor: float) -> Loss:
    def loss(model: Any, batch: Any, factor: float = factor) -> Any:
        return scaled(factor, model, batch)

    return loss


def calling(inner: Loss) -> Loss:
    return lambda model, batch: inner(model, batch)


class Huber:
    def __init__(self, delta: float) -> None:
        self.delta, self.calls = delta, 0
        self.seen: list[int] = []

    def __call__(self, model: Any, batch: Any) -> Any:
        self.calls += 1
        self.seen.append(self.calls)
        values = F.huber_loss(model(batch[0]), batch[1], delta=self.delta, reduction="none")
        return values.mean(1), len(batch[0])

    def method(self, model: Any, batch: Any) -> Any:
        return self(model, batch)


class Options:
    def __init__(self, factor: float, folder: str) -> None:
        self.factor, self.folder = factor, folder


def configured(options: Options) -> Loss:
    return lambda model, batch: scaled(options.factor, model, batch)


TEACHERS = [nn.Linear(3, 2), nn.Linear(3, 2)]
DIFFERENT: dict[str, tuple[Loss, Loss]] = {
    "bodies": (mse, mae),
    "shipped": (classification, regression),
    "closures": (closed(1.0), closed(2.0)),
    "tensors in closures": (closed(torch.ones(2)), closed(torch.tensor([1.0, 2.0]))),
    "functions in closures": (calling(mse), calling(mae)),
    "modules in closures": (closed(TEACHERS[0]), closed(TEACHERS[1])),
    "defaults": (with_default(1.0), with_default(2.0)),
    "arguments of partials": (functools.partial(scaled, 1.0), functools.partial(scaled, 2.0)),
    "functions of partials": (functools.partial(mse), functools.partial(mae)),
    "state of objects": (Huber(1.0), Huber(2.0)),
    "state behind bound methods": (Huber(1.0).method, Huber(2.0).method),
    "options": (configured(Options(1.0, "a")), configured(Options(2.0, "a"))),
    "modules as losses": (nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss()),
    "decorated": (torch.no_grad()(mse), torch.no_grad()(mae)),
}
EQUAL: dict[str, tuple[Loss, Loss]] = {
    "closures": (closed(1.0), closed(1.0)),
    "objects": (Huber(1.0), Huber(1.0)),
    "options that it doesn't read": (configured(Options(1.0, "a")), configured(Options(1.0, "b"))),
    "tensors": (closed(torch.ones(2)), closed(torch.ones(2))),
}
NETWORK = nn.Linear(3, 2)


def digest_of(loss: Any, model: nn.Module = NETWORK) -> Any:
    return Functions(model, loss).about()


@pytest.mark.parametrize("name", DIFFERENT)
def test_other_losses(name: str) -> None:
    one, other = DIFFERENT[name]
    assert digest_of(one)["loss"] != digest_of(other)["loss"]


@pytest.mark.parametrize("name", EQUAL)
def test_equal_losses(name: str) -> None:
    one, other = EQUAL[name]
    assert digest_of(one) == digest_of(other)


def test_globals_are_part_of_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(model: Any, batch: Any) -> Any:
        return mse(model, batch)

    before = digest_of(loss)
    monkeypatch.setitem(globals(), "mse", mae)
    assert digest_of(loss)["loss"] != before["loss"]


def made(source: str, name: str) -> Any:
    space: dict[str, Any] = {"__name__": "strangers_file", "nn": nn, "F": F}
    exec(source, space)
    return space[name]


NET = """
class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.layer, self.scale, self.cache = nn.Linear(3, width), 1.0, None
    def forward(self, x):
        if self.cache is None:
            self.cache = x
        return self.last(x) * self.scale
    def last(self, x):
        return F.relu(self.layer(x))
    def training_step(self, batch):
        return 1
"""


def test_an_edited_forward_and_what_it_calls() -> None:
    plain = digest_of(mse, made(NET, "Net")())["network"]
    assert digest_of(mse, made(NET, "Net")())["network"] == plain
    unlike = [NET.replace("F.relu", "F.gelu"), NET.replace("* self.scale", "+ self.scale")]
    unlike += [
        NET.replace(
            "self.scale, self.cache = nn.Linear(3, width), 1.0",
            "self.scale, self.cache = nn.Linear(3, width), 2.0",
        )
    ]
    for source in unlike:
        assert digest_of(mse, made(source, "Net")())["network"] != plain
    alike = [
        NET.replace("        return F.relu", "        # why\n\n        return F.relu"),
        NET.replace("return 1", "return 2"),
    ]
    for source in alike:
        assert digest_of(mse, made(source, "Net")())["network"] == plain
    used = made(NET, "Net")()
    used(torch.zeros(1, 3))  # fills its cache
    assert digest_of(mse, used)["network"] == plain


def test_settings_and_hooks_of_layers() -> None:
    plain = digest_of(mse, nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.1)))["network"]
    assert digest_of(mse, nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.2)))["network"] != plain
    assert digest_of(mse, nn.Sequential(nn.Linear(3, 2), nn.ELU(0.1)))["network"] != plain
    hooked = nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.1))
    hooked[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    assert digest_of(mse, hooked)["network"] != plain


def test_what_calls_change_is_no_part_of_a_loss() -> None:
    loss, seen = Huber(1.0), []

    def logging(model: Any, batch: Any) -> Any:
        seen.append(float(batch[0].sum()))
        return mse(model, batch)

    batch = (torch.ones(4, 3), torch.zeros(4, 2))
    for one in (loss, logging):
        digests = []
        for _ in range(2):
            functions = Functions(NETWORK, one)
            one(NETWORK, batch)
            digests.append(functions.about())
        assert digests[0] == digests[1]


def test_what_an_older_file_cannot_say_is_left_to_the_numbers() -> None:
    wanted = {"loss": "mse", "functions": {"python": "3.11", "loss": "a", "network": "b"}}
    assert known_settings({"loss": "mse"}, wanted) == wanted
    other = {"loss": "mse", "functions": {"python": "3.10", "loss": "x", "network": "y"}}
    assert known_settings(other, wanted) == wanted
    same = {"loss": "mse", "functions": {"python": "3.11", "loss": "x", "network": "b"}}
    assert known_settings(same, wanted) == same


def test_known_numbers() -> None:
    check_same("a.h5: the loss", 1.0, 1.00001, "float32")
    check_same("a.h5: the gradient", [1.0, 0.0], [1.0, 1e-6], "float32")
    check_same("a.h5: the loss", float("inf"), float("inf"), "float64")
    for found in (1.01, float("nan")):
        with pytest.raises(
            UserError, match=r"a\.h5: the loss was 1 and is now .*other output path, or"
        ) as error:
            check_same("a.h5: the loss", 1.0, found, "float32")
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"the gradient differ by 1\.0e\+00"):
        check_same("a.h5: the gradient", [1.0, 0.0], [0.0, 1.0], "float32")


def test_a_loss_may_refer_to_itself_and_to_anything() -> None:
    def loss(model: Any, batch: Any) -> Any:
        return loss, UserDict, digest_of, cycle, open, Tensor

    cycle: list[Any] = [loss]
    cycle.append(cycle)
    assert digest_of(loss) == digest_of(loss)
