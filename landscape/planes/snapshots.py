"""Checkpoints of a training as a sequence of networks that are loaded when they are asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from landscape.checkpoint import LoadedCheckpoint
from landscape.command import say
from landscape.errors import UserError
from landscape.planes.trajectory import TrajectoryPlane, trajectory_plane

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar")
FOLDER = "trajectory"  # where training keeps the snapshots of a run


def snapshot_files(places: Sequence[Path]) -> list[Path]:
    """The checkpoints of a training, in order.

    Parameters
    ----------
    places
        One folder, whose checkpoints are sorted by the numbers in their names (``step-9`` before
        ``step-10``), or a run's folder with a ``trajectory`` in it; or files, taken in the order given.

    Raises
    ------
    UserError
        When a file is missing, a folder stands among several, or it holds no checkpoint.
    """
    if len(places) == 1 and places[0].is_dir():
        inner = places[0] / FOLDER
        folder = inner if inner.is_dir() else places[0]
        found = [one for one in folder.iterdir() if one.suffix in SUFFIXES and one.name[0] != "."]
        if not found:
            raise UserError(
                f"{folder} holds no checkpoint of a trajectory; train with --record-every, or name the files"
            )
        return sorted(found, key=_by_number)
    for one in places:
        if one.is_dir():
            raise UserError(f"{one} is a folder; a trajectory is one folder or several checkpoint files")
        if not one.is_file():
            raise UserError(f"no file {one}; expected a checkpoint of the trajectory, or one folder of them")
    return list(places)


def _by_number(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


class Snapshots(Sequence[Mapping[str, Tensor]]):
    """Parameters of each checkpoint, read anew at each access.

    Parameters
    ----------
    files
        In order.
    load
        Reads one.
    """

    def __init__(self, files: Sequence[Path], load: Callable[[Path], LoadedCheckpoint]) -> None:
        self.files, self._load = files, load

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:  # type: ignore[override]
        loaded = self._load(self.files[index])
        return {name: value.detach() for name, value in loaded.model.named_parameters()}

    @property
    def labels(self) -> list[str]:
        """A short name for each: "step 200" for a name such as ``step-00000200``, else the file's stem."""
        stems = [path.stem for path in self.files]
        found = [re.fullmatch(r"([A-Za-z]+)[-_]?0*(\d+)", stem) for stem in stems]
        labels = [f"{one[1]} {one[2]}" if one else stem for one, stem in zip(found, stems, strict=True)]
        return labels if len(set(labels)) == len(labels) else [str(path) for path in self.files]


def trajectory_of(
    places: Sequence[Path],
    load: Callable[[Path], LoadedCheckpoint],
    name: str,
    params: Mapping[str, Tensor],
    mask: Mapping[str, Tensor] | None,
) -> TrajectoryPlane:
    """The plane of the checkpoints in `places` (see `snapshot_files`); says what it shows.

    Parameters
    ----------
    load
        Reads a checkpoint.
    name, params, mask
        The final network's.

    Raises
    ------
    UserError
        As `snapshot_files`, `load` and `trajectory_plane`.
    """
    snapshots = Snapshots(snapshot_files(places), load)
    plane = trajectory_plane(
        params,
        snapshots,
        mask=mask if mask is not None else "none",
        labels=snapshots.labels,
        final=name,
    )
    shares = " and ".join(f"{100 * share:.3g} %" for share in plane.explained_variance)
    first, *_, last = plane.path.labels
    text = f"trajectory of {len(plane.path.labels)} networks, {first} to {last}: "
    text += f"its components have {shares} of the variance"
    if plane.outside_mask:
        text += f"; {100 * plane.outside_mask:.3g} % of the squared distances are outside the final mask"
    say(text)
    return plane
