"""Numbers from surfaces and checkpoints, each with its uncertainty; each room is a command, too.

`roughness` of surfaces; `hessian`, `sharpness` and `curvature` of networks; `connectivity` between two;
`compare` many in one table; and the `statistics` that all of them use. ``python -m analysis`` lists them.
"""

import sharpscape as sharpscape  # where a folder's own package of our names must not hide ours

__all__ = ["compare", "connectivity", "curvature", "hessian", "roughness", "sharpness", "statistics"]
