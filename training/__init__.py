"""Training of dense and sparse image classifiers; the command is ``python -m training``."""
