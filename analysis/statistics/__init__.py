"""Errors and tests of numbers from several surfaces and runs. Needs neither torch nor scipy."""
