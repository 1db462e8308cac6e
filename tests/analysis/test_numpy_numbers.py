"""NumPy's numbers are numbers: they are taken, and kept in files as Python's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sharpness_cases import classifier, labelled

from analysis.connectivity import Training, connect
from analysis.curvature import Plan
from analysis.hessian import hessian_spectrum

ONE, TWO = np.int64(1), np.int32(2)


def test_a_spectrum(tmp_path: Path) -> None:
    def found(path: Path) -> int:
        return hessian_spectrum(
            classifier(),
            labelled(),
            top=ONE,
            bottom=ONE,
            density_probes=TWO,
            density_steps=TWO,
            max_products=np.int64(60),
            tolerance=np.float32(0.01),
            trace_tolerance=np.float32(0.5),
            seed=np.int64(0),
            batch_size=np.int64(5),
            device="cpu",
            path=path,
            progress=None,
        ).products

    assert found(tmp_path / "a.h5") == found(tmp_path / "a.h5")


def test_a_connection(tmp_path: Path) -> None:
    training = Training(TWO, TWO, lr=np.float32(0.01), seed=ONE)
    for _ in range(2):
        found = connect(
            classifier(0),
            classifier(1),
            labelled(),
            points=np.int64(3),
            training=training,
            batch_size=np.int64(5),
            device="cpu",
            path=tmp_path / "c",
            progress=None,
        )
        assert len(found.files) == 3


def test_a_map_of_curvature() -> None:
    plan = Plan(np.int64(9), np.float32(0.1), np.float64(0.1), np.int64(9), TWO)
    assert {type(one) for one in vars(plan).values()} == {int, float}
