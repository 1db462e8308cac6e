"""Many networks in one table, with intervals, and paired tests between groups of them.

As a command: ``python -m analysis.compare A B …``. Rows, pairs and reports need no torch.
"""
