"""Tables of finished runs: seeds of an experiment (`experiments`), statistics, tables. Loads no PyTorch."""
