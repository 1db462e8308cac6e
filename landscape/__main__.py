"""``python -m landscape`` is ``python -m landscape.surface``."""

from landscape.surface.__main__ import main

main()
