"""All tables of the paper, in its order. Needs no torch."""

from __future__ import annotations

from figures import table1, table2, table3, table4, table5, table6, table_a1
from figures.table_product import TableProduct

TABLES: tuple[TableProduct, ...] = (
    table1.PRODUCT,
    table2.PRODUCT,
    table3.PRODUCT,
    table4.PRODUCT,
    table5.PRODUCT,
    table6.PRODUCT,
    table_a1.PRODUCT,
)
