"""Numbers from surfaces and checkpoints, each with its uncertainty; see `analysis.roughness`."""

import sharpscape as sharpscape  # where a folder's own package of our names must not hide ours
