"""From nothing to the report: ``python -m figures.reproduce --scale mini``.

Everything is a command of this toolkit in a process of its own (`plan`), run one after another (`runner`), so
that each can be repeated by hand, and one that is stopped goes on where it was.
"""
