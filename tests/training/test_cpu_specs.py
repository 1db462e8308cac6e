"""The specs of many small networks: what is trained, in which order, and what pairs share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from loop_helpers import CPU

from landscape.errors import UserError
from training.config import RunConfig
from training.data import generator_for, load_splits
from training.network import first_network
from training.schedule import lr_factor
from training.sparsity.base import Moment
from training.sparsity.mest_em import MestEm
from training.sweep.__main__ import Options, _command
from training.sweep.__main__ import run as sweep
from training.sweep.length import training_images
from training.sweep.plan import load_plan

STEPS = 352  # of an epoch: 45,000 images in batches of 128
NAMES = ["figure1-cpu", "figure3-cpu", "figures-cpu"]


@pytest.mark.parametrize("name", NAMES)
def test_recipe(name: str) -> None:
    for run in load_plan(name).runs:
        config = run.config
        assert (config.model, config.data, config.epochs, config.batch_size) == (
            "resnet20",
            "cifar10",
            12,
            128,
        )
        assert (config.validation, config.examples, config.warmup, config.label_smoothing) == (
            0.1,
            None,
            1.0,
            0.0,
        )
        assert training_images(config) == 45_000
        assert run.epochs == 12
        assert (config.optimizer.lr, config.optimizer.weight_decay) == (0.2, 5e-4)  # type: ignore[attr-defined]


def test_every_finished_seed_is_complete() -> None:
    cells = {"figure1-cpu": 8, "figure3-cpu": 18, "figures-cpu": 22}
    for name, count in cells.items():
        runs = load_plan(name).runs
        assert len(runs) == 6 * count
        for seed in range(6):
            part = runs[seed * count : (seed + 1) * count]
            assert {run.config.seed for run in part} == {seed}
            assert [run.name.rpartition("-seed")[0] for run in part] == [
                run.name.rpartition("-seed")[0] for run in runs[:count]
            ]


def test_the_specs_share_their_runs() -> None:
    """The same name is the same run, whichever spec trains it; all of both figures are in the third."""
    one, three, both = ({run.name: run.settings for run in load_plan(name).runs} for name in NAMES)
    assert len({load_plan(name).output for name in NAMES}) == 1
    assert all(both[name] == settings for name, settings in (one | three).items())
    shared = one.keys() & three.keys()
    assert len(shared) == 6 * 2 * 3
    assert all(one[name] == three[name] for name in shared)


def test_mest_is_scaled_from_160_epochs_to_12() -> None:
    """As many changes, at the same shares of the training, as the authors' every 5 of 160 epochs."""
    found = [run.config.method for run in load_plan("figure3-cpu").runs if "mest" in run.name]
    assert {type(method) for method in found} == {MestEm}
    for method in found:
        assert isinstance(method, MestEm)
        assert method.keep_dense == ("first", "last", "shortcut")
        authors = dataclasses.replace(method, interval=5.0)
        due = [step for step in range(12 * STEPS) if method.update_due(Moment(step, 12 * STEPS, STEPS))]
        theirs = [step for step in range(160 * 704) if authors.update_due(Moment(step, 160 * 704, 704))]
        assert [step / (12 * STEPS) for step in due] == pytest.approx([step / (160 * 704) for step in theirs])
        for step, other in zip(due, theirs, strict=True):
            now, then = Moment(step, 12 * STEPS, STEPS), Moment(other, 160 * 704, 704)
            assert method.change(now) == authors.change(then)


def test_warm_up_and_cosine() -> None:
    """Linear over the first epoch, then half a cosine whose end is 0."""
    factors = [lr_factor(step, STEPS, 12, 1.0) for step in range(12 * STEPS)]
    assert factors[0] == pytest.approx(1 / 353)
    assert factors[175] == pytest.approx(176 / 353)
    assert factors[STEPS] == max(factors) == 1
    middle = STEPS + 11 * STEPS // 2
    assert factors[middle] == pytest.approx(0.5)
    assert 0 < factors[-1] < 1e-6
    assert lr_factor(12 * STEPS, STEPS, 12, 1.0) == pytest.approx(0, abs=1e-15)
    assert all(
        later <= earlier for earlier, later in zip(factors[STEPS:], factors[STEPS + 1 :], strict=False)
    )


def test_weights_can_be_recorded_along_the_way() -> None:
    plan = load_plan("figure3-cpu")
    for steps, expected in ((352, ["--record-every=352"]), (0, [])):
        line = _command(plan, Options(record_every=steps), ["train"], plan.runs[0], "cpu")
        assert [word for word in line if "record" in word] == expected
    with pytest.raises(UserError, match="record-every -1: expected a number of steps"):
        sweep("figure3-cpu", Options(record_every=-1), ["train"])


def small(config: RunConfig, npz: Path) -> RunConfig:
    return dataclasses.replace(config, data=f"npz:{npz}", widths=(4, 6, 8), batch_size=16)


@pytest.mark.parametrize("method", ["snip", "grasp", "mest_em"])
def test_pairs_differ_in_the_optimizer_alone(method: str, tiny_npz: Path) -> None:
    """Initial weights, first mask, held-out images, order and augmentation are the seed's."""
    runs = [run for run in load_plan("figure3-cpu").runs if f"-{method}-0.9-" in run.name][:4]
    sgd, s2sam, other, _ = (small(run.config, tiny_npz) for run in runs)
    assert [run.name.split("-", 4)[4] for run in runs[:2]] == ["sgd-seed0", "s2sam-seed0"]
    assert (sgd.seed, s2sam.seed, other.seed) == (0, 0, 1)
    assert dataclasses.replace(sgd, optimizer=s2sam.optimizer) == s2sam
    data = [
        load_splits(one.data, one.validation, one.seed, CPU, examples=one.examples)
        for one in (sgd, s2sam, other)
    ]
    (one, mask), (two, same), (three, _) = (
        first_network(config, part, CPU, 1) for config, part in zip((sgd, s2sam, other), data, strict=True)
    )
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())
    assert all(torch.equal(value, same[key]) for key, value in mask.items())
    assert not torch.equal(one.state_dict()["conv1.weight"], three.state_dict()["conv1.weight"])
    batches = [
        list(part.train.shuffled(16, generator_for(config.seed, "epoch", 3), augmented=True))
        for config, part in zip((sgd, s2sam), data, strict=False)
    ]
    for (images, labels), (again, known) in zip(*batches, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, known)
