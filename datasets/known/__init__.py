"""Rows: one file per suite or per dataset, each with a tuple `ROWS`. `datasets.table` collects them."""
