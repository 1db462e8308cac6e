"""Ra: arithmetic mean height of a surface."""

from __future__ import annotations

from analysis.roughness.heights import Heights


def ra(heights: Heights) -> float:
    """``Ra = (1/|A|) ∬ |L - reference| dα dβ``, in the units of the loss.

    Called Sa for areas in ISO 25178-2 and Ra for profiles in ISO 4287; after Myers, "Characterization of
    surface roughness", Wear 5 (1962). An error in the loss moves it by at most that error's root
    mean square: the mean absolute value is at most that, and taking the reference away only lowers it.
    """
    return heights.scale * heights.mean_absolute()
