"""Top eigenvalues of a real Hessian: ours, curvlinops' and PyHessian's, with a ragged last batch.

Rivals get batches of 100, of which 512 examples leave 12 for the last; ours gets the same batches, and once
those of its own choice. curvlinops goes through scipy's eigsh, PyHessian through its power iteration with a
tolerance and a limit well beyond its defaults, which stop too early to compare with.

    python tests/benchmarks/check_hessian.py --data npz:cifar10.npz
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from analysis.hessian import hessian_spectrum
from landscape.checkpoint import load_checkpoint
from landscape.data import load_data
from training.models import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "examples" / "checkpoints" / "resnet20-cifar10-erk90.pt"
BATCH, TIGHT = 100, 1e-5

Values = np.ndarray


def ours(model: nn.Module, inputs: Tensor, targets: Tensor, top: int, batch: int | None) -> Values:
    """In the full space, as the rivals."""
    found = hessian_spectrum(
        model, (inputs, targets), mask="none", top=top, bottom=0, tolerance=TIGHT, density_probes=0,
        max_probes=8, batch_size=batch,
    )  # fmt: skip
    assert found.top.converged.all()
    return found.top.values


def curvlinops(model: nn.Module, inputs: Tensor, targets: Tensor, top: int) -> Values:
    """Restarted Lanczos of scipy on its operator."""
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh

    batches = list(zip(inputs.split(BATCH), targets.split(BATCH), strict=True))
    params = list(model.parameters())
    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), params, batches, check_deterministic=False)
    start = np.random.default_rng(0).standard_normal(operator.shape[0]).astype(np.float32)
    values = eigsh(operator.to_scipy(), k=top, which="LA", tol=TIGHT, v0=start, return_eigenvectors=False)
    return np.sort(values)[::-1]


def pyhessian(model: nn.Module, inputs: Tensor, targets: Tensor, top: int) -> Values:
    """Power iteration with deflation."""
    import pyhessian as rival

    batches = list(zip(inputs.split(BATCH), targets.split(BATCH), strict=True))
    found = rival.hessian(model, F.cross_entropy, dataloader=batches, cuda=False)
    values, _ = found.eigenvalues(maxIter=400, tol=1e-6, top_n=top)
    return np.array(values)


def main() -> None:
    """Compute and print the relative differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument(
        "--rivals", nargs="+", choices=("curvlinops", "pyhessian"), default=["curvlinops", "pyhessian"]
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    loaded = load_checkpoint(options.checkpoint, architectures=ARCHITECTURES)
    data = load_data(options.data, split="train", examples=options.examples, stored=loaded.data)
    inputs, targets, model = data.normalized(), data.targets, loaded.model.eval()
    print(f"{loaded.how}; {data.how}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    methods: dict[str, Callable[[], Values]] = {
        "sharpscape, its own batches": lambda: ours(model, inputs, targets, options.top, None),
        f"sharpscape, batches of {BATCH}": lambda: ours(model, inputs, targets, options.top, BATCH),
    }
    known = {"curvlinops": curvlinops, "pyhessian": pyhessian}
    for name in options.rivals:
        methods[name] = lambda name=name: known[name](model, inputs, targets, options.top)  # type: ignore[misc]
    reference: Values | None = None
    for name, method in methods.items():
        began = time.perf_counter()
        values = method()
        reference = values if reference is None else reference
        off = np.abs(values / reference - 1).max()
        shown = ", ".join(f"{value:.6g}" for value in values)
        print(f"{name}: {shown}; at most {off:.1e} off; {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
