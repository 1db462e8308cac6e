"""``python -m landscape`` is ``python -m landscape.surface``."""

from landscape.surface import main

main()
