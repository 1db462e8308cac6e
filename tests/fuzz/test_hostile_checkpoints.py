"""More than a hundred crafted checkpoints: each gives the right weights or one line, and nothing else."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hostile_files import FILES
from torch import nn

from landscape.checkpoint import load_checkpoint
from landscape.errors import UserError

RIGHT = {"": [[1.0, 2.0], [3.0, 4.0]], "right": [[0.0, 0.0], [0.0, 1.0]]}
MOST_GROWTH = 500 << 20  # bytes of memory; the largest of the files has 5 MB


class Tiny(nn.Module):
    """The network that the good ones of the files are of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))


def judged(path: Path) -> list[list[float]] | str:
    """The weights, or the line."""
    try:
        loaded = load_checkpoint(path, architectures={"tiny": Tiny})
    except UserError as error:
        return str(error)
    weight: list[list[float]] = loaded.model.weight.tolist()  # type: ignore[union-attr,operator]
    return weight


def test_there_are_enough() -> None:
    assert len(FILES) > 150


@pytest.mark.parametrize("name", FILES)
def test_crafted_files_give_the_weights_or_one_line(name: str, tmp_path: Path) -> None:
    content, wanted = FILES[name]
    path = tmp_path / "net.pt"
    path.write_bytes(content)
    found = judged(path)
    if wanted in RIGHT:
        assert found == RIGHT[wanted]
    else:
        assert isinstance(found, str)
        assert wanted in found
        assert found.isprintable()
        assert len(found) < 1000
    assert [one.name for one in tmp_path.iterdir()] == ["net.pt"]
    assert not Path("/tmp/never-to-be-made-by-a-checkpoint").exists()


def test_none_takes_more_memory_than_its_size_justifies(tmp_path: Path) -> None:
    """All of them in one process; its peak is that of the worst."""
    for number, (content, _) in enumerate(FILES.values()):
        (tmp_path / f"{number}.pt").write_bytes(content)
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    worst = max(done.stdout.splitlines(), key=lambda line: int(line.split()[0]))
    growth, number = map(int, worst.split())
    assert growth < MOST_GROWTH, list(FILES)[number]


def main(folder: Path) -> None:
    """Print by how much the peak of memory grew at each file, after the one of a good file."""
    judged(folder / f"{list(FILES).index('good')}.pt")
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(len(FILES)):
        judged(folder / f"{number}.pt")
        print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start), number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
