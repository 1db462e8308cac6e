"""All of the paper's figures and tables, and the report: ``python -m figures all RESULTS``."""

from figures import accuracy, dependence, figure1, figure2, figure3, report
from figures.product_command import Writable, main
from figures.tables import TABLES

PRODUCTS: tuple[Writable, ...] = (
    figure1.PRODUCT,
    figure2.PRODUCT,
    figure3.PRODUCT,
    accuracy.PRODUCT,
    dependence.PRODUCT,
    *TABLES,
    report.PRODUCT,
)

if __name__ == "__main__":
    main(PRODUCTS)
