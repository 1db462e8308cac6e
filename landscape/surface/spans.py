"""How far a grid can reach."""

from __future__ import annotations

SPANS = (1e-30, 1e30)
"""Least and largest span: the squares of these and of the gaps between points are still numbers."""
