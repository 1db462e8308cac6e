"""The loss surface of a physics-informed network: u″ = −u, u(0) = 1, u′(0) = 0; derivatives in the loss."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import landscape


def physics_loss(model: Callable[..., Tensor], batch: tuple[Tensor]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """Squared residual ``[N]`` at N collocation points; N; the squared error ``[N]``, unknown in practice."""
    (t,) = batch
    u, _, acceleration = motion(model, t)
    position, velocity, _ = motion(model, torch.zeros_like(t[:1]))
    residual = (acceleration + u) ** 2 + (position - 1) ** 2 + velocity**2
    return residual.squeeze(1), len(t), {"squared error": (u - torch.cos(t)).square().squeeze(1)}


def motion(model: Callable[..., Tensor], t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u, u′ and u″ at times ``[N, 1]``, by automatic differentiation."""
    t = t.clone().requires_grad_()
    u = model(t)
    (velocity,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    (acceleration,) = torch.autograd.grad(velocity.sum(), t, create_graph=True)
    return u, velocity, acceleration


def trained(times: Tensor) -> nn.Module:
    """A network after a few seconds of training; yours comes from your own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        physics_loss(model, (times,))[0].mean().backward()
        optimizer.step()
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    """One surface: its file and its interactive page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("surfaces"), help="folder (default: surfaces)")
    parser.add_argument("--points", type=int, default=25, help="grid points per axis (default: 25)")
    options = parser.parse_args(arguments)

    times = torch.linspace(0, 6, 200).unsqueeze(1)
    surface = landscape.compute_surface(
        trained(times), (times,), loss=physics_loss, points=options.points, dtype="float64", label="u″ = −u"
    )
    surface.save(options.output / "pinn.surface.h5")
    surface.show().save(options.output / "pinn.html")


if __name__ == "__main__":
    main()
