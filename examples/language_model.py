"""The loss surface of a small transformer: a loss of your own, with batches that are dicts."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data.topics import topics  # the language reference: text that comes with Python

import torch
from torch import Tensor, nn

import landscape


class Transformer(nn.Module):
    """Logits ``[N, T, 128]`` of the next ASCII character, from characters ``[N, T]``."""

    def __init__(self, width: int = 32, length: int = 32) -> None:
        super().__init__()
        self.embed, self.predict = nn.Embedding(128, width), nn.Linear(width, 128)
        self.position = nn.Parameter(0.1 * torch.randn(length, width))
        self.block = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)

    def forward(self, characters: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(len(self.position), characters.device)
        hidden = self.embed(characters) + self.position
        scores: Tensor = self.predict(self.block(hidden, causal, is_causal=True))
        return scores


def text_loss(model: Callable[..., Tensor], batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    """Nats per character of each text ``[N]``; N."""
    logits = model(batch["text"][:, :-1]).transpose(1, 2)
    loss = nn.functional.cross_entropy(logits, batch["text"][:, 1:], reduction="none").mean(dim=1)
    return loss, len(loss)


def trained(batches: Sequence[dict[str, Tensor]]) -> nn.Module:
    """A model after a few seconds of training; yours comes from your own."""
    torch.manual_seed(0)
    model = Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for batch in [*batches] * 12:
        optimizer.zero_grad()
        text_loss(model, batch)[0].mean().backward()
        optimizer.step()
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    """One surface: its file and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("surfaces"), help="folder (default: surfaces)")
    parser.add_argument("--points", type=int, default=25, help="grid points per axis (default: 25)")
    options = parser.parse_args(arguments)

    text = "".join(topics.values()).encode("ascii", "ignore")[: 256 * 33]
    batches = [{"text": part} for part in torch.tensor(list(text)).view(-1, 33).chunk(8)]
    path = options.output / "language-model.surface.h5"  # an interrupted run goes on from this file
    surface = landscape.compute_surface(
        trained(batches), batches, loss=text_loss, points=options.points, path=path, label="transformer"
    )
    surface.plot(path=options.output / "language-model.png")


if __name__ == "__main__":
    main()
