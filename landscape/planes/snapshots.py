"""Checkpoints of a training as a sequence of networks that are loaded when they are asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from landscape.checkpoint import LoadedCheckpoint
from landscape.commandline.console import note
from landscape.planes.trajectory import TrajectoryPlane, same_weights, trajectory_plane
from landscape.planes.ways import FINAL, FOLDER, Way, ways_of


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
    """The plane of the checkpoints in `places` (see `landscape.planes.ways`); says what it shows.

    Parameters
    ----------
    load
        Reads a checkpoint.
    name, params, mask
        The final network's; of several trainings, the network at (0, 0).

    Raises
    ------
    UserError
        As `ways_of`, `load` and `trajectory_plane`.
    """
    ways = ways_of(places)
    for way in ways:
        if way.left_out:
            names = ", ".join(one.name for one in way.left_out)
            note(f"left out of the trajectory, as no number gives them a place in it: {names}")
    if len(ways) > 1:
        plane = _several(ways, load, name, params, mask)
    else:
        snapshots = Snapshots(ways[0].files, load)
        plane = trajectory_plane(
            params,
            snapshots,
            mask=mask,
            labels=snapshots.labels,
            final=name,
        )
    shares = " and ".join(f"{100 * share:.3g} %" for share in plane.explained_variance)
    ends = [
        f"{len(path.labels)} networks, {path.labels[0]} to {path.labels[-1]}" for _, path in plane.path.each()
    ]
    text = f"trajectory of {ends[0]}" if len(ends) == 1 else f"trajectories of {'; '.join(ends)}"
    text += f": {'its' if len(ends) == 1 else 'their'} components have {shares} of the variance"
    if plane.outside_mask:
        text += f"; {100 * plane.outside_mask:.3g} % of the squared distances are outside the final mask"
    note(text)
    return plane


def _several(
    ways: Sequence[Way],
    load: Callable[[Path], LoadedCheckpoint],
    name: str,
    params: Mapping[str, Tensor],
    mask: Mapping[str, Tensor] | None,
) -> TrajectoryPlane:
    """Each path with its own end: the run's final network, where there is one."""
    runs = {way.name: Snapshots(_with_final(way.files), load) for way in ways}
    labels = [f"{run}: {label}" for run, snapshots in runs.items() for label in snapshots.labels]
    if not any(same_weights(params, snapshots[len(snapshots) - 1]) for snapshots in runs.values()):
        note(f"none of these trajectories ends at {name}, which is at (0, 0) of their plane")
    return trajectory_plane(params, runs, mask=mask, labels=labels)


def _with_final(files: Sequence[Path]) -> list[Path]:
    """And the run's last network, if the files are the snapshots beside it."""
    folder = files[0].resolve().parent
    final = folder.parent / FINAL
    own = folder.name == FOLDER and final.is_file() and final not in [one.resolve() for one in files]
    return [*files, final] if own else list(files)
