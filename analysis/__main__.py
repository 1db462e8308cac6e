"""``python -m analysis`` says which commands there are."""

import sharpscape

sharpscape.show_commands("analysis")
