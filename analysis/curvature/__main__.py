"""``python -m analysis.curvature``."""

from analysis.curvature.command import main

main()
