"""``python -m analysis.compare``."""

from analysis.compare.command import main

main()
