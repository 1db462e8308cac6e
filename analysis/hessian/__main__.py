"""``python -m analysis.hessian``."""

from analysis.hessian.command import main

main()
