"""A matrix of trainings: each a subprocess of its own, resumable, with one table of results."""
