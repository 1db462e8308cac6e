"""``python -m landscape.viewer``."""

import sys

from landscape.viewer import main

main(sys.argv[1:])
