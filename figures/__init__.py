"""The paper's figures: drawn from surface files and metrics, computing nothing of their own."""
