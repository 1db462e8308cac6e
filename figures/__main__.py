"""All of the paper's figures and tables, and the report: ``python -m figures all RESULTS``."""

from figures import accuracy, dependence, figure1, figure2, figure3, report, table1
from figures.product_command import Writable, main

PRODUCTS: tuple[Writable, ...] = (
    figure1.PRODUCT,
    figure2.PRODUCT,
    figure3.PRODUCT,
    accuracy.PRODUCT,
    dependence.PRODUCT,
    table1.PRODUCT,
    report.PRODUCT,
)

if __name__ == "__main__":
    main(PRODUCTS)
