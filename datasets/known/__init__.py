"""The rows of the datasets of the papers, one file a suite; `datasets.table` puts them together."""
