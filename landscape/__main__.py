"""``python -m landscape`` says which commands there are; with arguments it is ``landscape.surface``."""

import sys

import sharpscape
from landscape.surface.__main__ import main

if sys.argv[1:]:
    main()
else:
    sharpscape.show_commands("landscape")
    print("python -m landscape CHECKPOINT is python -m landscape.surface CHECKPOINT.")
