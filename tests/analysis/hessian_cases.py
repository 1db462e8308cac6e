"""Small networks with their explicit Hessians, row by row by torch's own second derivatives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.losses import Loss, classification

EXAMPLES = 23  # prime: the last batch is short for every batch size

Matrix = npt.NDArray[np.float64]


class Residual(nn.Module):
    """Convolutions, batch norms behind and before them, a residual sum; 227 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, stride=1, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.bn1(self.conv1(x)))
        x = x + F.relu(self.conv2(self.bn2(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def residual(seed: int = 0) -> nn.Module:
    """With running statistics of its own."""
    return seeded(Residual, seed)


def convolutional(seed: int = 0) -> nn.Module:
    """Convolution, batch norm, ReLU, pooling, linear; 99 parameters."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, bias=True),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        seed,
    )


def seeded(make: object, seed: int) -> nn.Module:
    """Built under a seed, which the global generator doesn't notice."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()  # type: ignore[operator]
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.2, 0.6)
    assert isinstance(model, nn.Module)
    return model.double()


def examples(seed: int = 0, count: int = EXAMPLES) -> tuple[Tensor, Tensor]:
    """Noise images 1×6×6 and three classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 1, 6, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, 3, (count,), generator=generator)


def random_mask(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Half of every weight of two or more dimensions."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(one.shape, generator=generator) < 0.5
        for name, one in model.named_parameters()
        if one.dim() > 1
    }


def kept(model: nn.Module, mask: Mapping[str, Tensor]) -> npt.NDArray[np.bool_]:
    """The mask as one vector in the order of ``named_parameters``."""
    parts = [mask.get(name, torch.ones(one.shape) > 0).reshape(-1) for name, one in model.named_parameters()]
    return np.asarray(torch.cat(parts).numpy())


def explicit(
    model: nn.Module, data: tuple[Tensor, Tensor], loss: Loss = classification
) -> tuple[float, npt.NDArray[np.float64], Matrix]:
    """Mean loss, gradient and Hessian, all examples in one batch."""
    params = {name: one.detach() for name, one in model.named_parameters()}
    sizes, shapes = [one.numel() for one in params.values()], [one.shape for one in params.values()]
    model.eval()

    def mean(flat: Tensor) -> Tensor:
        parts = [one.view(shape) for one, shape in zip(flat.split(sizes), shapes, strict=True)]
        named = dict(zip(params, parts, strict=True))
        values, count = loss(lambda x: torch.func.functional_call(model, named, (x,)), data)[:2]
        return values.sum() / count

    flat = torch.cat([one.reshape(-1) for one in params.values()]).requires_grad_(True)
    value = mean(flat)
    (gradient,) = torch.autograd.grad(value, flat, create_graph=True)
    rows = [
        torch.autograd.grad(one, flat, retain_graph=True, materialize_grads=True)[0]
        for one in gradient.unbind()
    ]
    return (
        float(value.detach()),
        np.asarray(gradient.detach().numpy()),
        np.asarray(torch.stack(rows).numpy()),
    )


class Dense:
    """A symmetric matrix as the methods take it."""

    def __init__(self, matrix: Matrix, dtype: torch.dtype = torch.float64) -> None:
        self.matrix = torch.as_tensor(matrix, dtype=dtype)
        self.products = 0
        self.torch_device, self.torch_dtype = torch.device("cpu"), dtype

    @property
    def size(self) -> int:
        return len(self.matrix)

    def multiply(self, vectors: Tensor) -> Tensor:
        self.products += 1 if vectors.dim() == 1 else vectors.shape[1]
        return self.matrix @ vectors


def with_spectrum(values: npt.ArrayLike, seed: int = 0) -> Matrix:
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    values = np.asarray(values, dtype=np.float64)
    draw = np.random.default_rng(seed).standard_normal((len(values), len(values)))
    basis = np.linalg.qr(draw)[0]
    matrix: Matrix = (basis * values) @ basis.T
    return (matrix + matrix.T) / 2


def network_like(size: int = 200) -> npt.NDArray[np.float64]:
    """A bulk around zero with a negative edge, and a few outliers, as networks have them."""
    bulk = np.random.default_rng(5).standard_normal(size - 5) * 0.05 + 0.01
    return np.concatenate([bulk, [0.8, 1.5, 3.0, 5.0, 12.0]])
