"""All of the paper's figures: ``python -m figures all RESULTS``."""

from figures import figure1, figure2, figure3
from figures.command import main

PRODUCTS = (figure1.PRODUCT, figure2.PRODUCT, figure3.PRODUCT)

if __name__ == "__main__":
    main(PRODUCTS)
