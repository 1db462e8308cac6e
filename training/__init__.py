"""Training of dense and sparse image classifiers; the command is ``python -m training``."""

import sharpscape as sharpscape  # where a folder's own package of our names must not hide ours
