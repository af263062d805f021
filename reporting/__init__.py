"""Tables of finished runs: experiments and their seeds, statistics, layouts. Imports no PyTorch."""

from dassl import program

if program.runs(__name__):
    program.begin()
