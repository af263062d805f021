"""Figures and further analyses of finished runs: `python -m analysis.<name> RUN ...`."""

from dassl import program  # imported first, because it reports missing packages

if program.runs(__name__):
    program.begin()
