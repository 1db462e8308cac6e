"""``python -m analysis.sharpness``."""

from analysis.sharpness.command import main

main()
