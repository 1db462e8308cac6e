"""The paper's figures: drawn from surface files and metrics, computing nothing of their own."""

import sharpscape as sharpscape  # where a folder's own package of our names must not hide ours
