"""Numbers from surfaces and checkpoints, each with its uncertainty; see `analysis.roughness`."""
