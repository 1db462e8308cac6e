"""``python -m analysis.connectivity``."""

from analysis.connectivity.command import main

main()
