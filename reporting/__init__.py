"""Tables of finished runs: experiments and their seeds, statistics, layouts. Imports no PyTorch."""
