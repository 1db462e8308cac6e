"""Every computation that keeps a file: refused while another process is at it, whole when a signal comes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hessian_cases import convolutional, examples

from analysis.connectivity import connect
from analysis.connectivity.recipe import Training
from analysis.curvature import curvature_map
from analysis.curvature.plan import Plan
from analysis.hessian import hessian_spectrum, load_spectrum
from analysis.hessian.krylov import Krylov
from analysis.hessian.result import Spectrum
from analysis.sharpness.measuring import KeptEntries
from landscape.compute import compute_surface
from landscape.errors import UserError
from landscape.keeping.lock import _this_process, lock_path
from landscape.keeping.partial import state_path
from landscape.keeping.signals import Interrupted, raised_signals
from landscape.surface import Surface

ELSEWHERE = {"host": "elsewhere", "machine": ["elsewhere"], "token": "another"}


def surface(path: Path | None = None) -> Surface:
    return compute_surface(convolutional(), examples(), path=path, points=3, progress=None)


def mapped(path: Path) -> None:
    curvature_map(surface(), convolutional(), examples(), path=path, plan=Plan(max_points=1))


def bend(path: Path) -> None:
    training = Training(steps=1)
    ends = convolutional(0), convolutional(1)
    connect(*ends, examples(), curves=["bezier"], path=path.with_name("x"), training=training)


def spectrum(path: Path | None) -> Spectrum:
    return hessian_spectrum(
        convolutional(), examples(), path=path, top=1, bottom=0, density_probes=0, max_probes=8, progress=None
    )


@pytest.mark.parametrize(
    ("compute", "name"),
    [
        (surface, "x.surface.h5"),
        (mapped, "x.surface.h5"),
        (spectrum, "x.hessian.h5"),
        (bend, "x.bend.pt"),
        (lambda path: KeptEntries(path, False), "x.sharpness.json"),
    ],
    ids=["surface", "curvature", "hessian", "connectivity", "sharpness"],
)
def test_another_process_is_at_it(compute: Callable[[Path], object], name: str, tmp_path: Path) -> None:
    output = tmp_path / name
    lock_path(output).write_text(json.dumps(_this_process() | ELSEWHERE))
    with pytest.raises(
        UserError, match=rf"{name} is being written by process \d+ on elsewhere, since .* UTC,"
    ):
        compute(output)
    assert not output.exists()
    lock_path(output).unlink()
    compute(output)
    assert not list(tmp_path.glob(".*"))


def test_a_signal_in_the_middle_of_a_change_loses_no_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between a product and what is made of it: the state that is kept is after both."""
    path, whole, seen = tmp_path / "x.hessian.h5", spectrum(None), list[int]()
    append = Krylov._append

    def hit(self: Krylov, vector: Any) -> None:
        append(self, vector)
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Krylov, "_append", hit)
        with raised_signals(), pytest.raises(Interrupted):
            spectrum(path)
    assert len(seen) == 3
    assert state_path(path).exists()
    found = spectrum(path)
    assert load_spectrum(path).top.values.tobytes() == found.top.values.tobytes()
    assert found.top.values.tobytes() == whole.top.values.tobytes()
    assert (found.trace, found.products) == (whole.trace, whole.products)


def test_a_failure_in_the_middle_of_a_change_keeps_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = tmp_path / "x.hessian.h5", spectrum(None)

    def fail(self: Krylov, vector: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Krylov, "_orthogonal", fail)
        with pytest.raises(MemoryError):
            spectrum(path)
    found = spectrum(path)
    assert found.top.values.tobytes() == whole.top.values.tobytes()
    assert found.products == whole.products
