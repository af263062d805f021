"""Grids of runs: rows of published tables × suites × shots × seeds, on one machine, on Ray or on SLURM."""
