"""The engines by name."""

from __future__ import annotations

from .local import Local, read_jobs, share_processors


def engine_of(options):
    """(engine, KEY VALUE words for all its runs) for the options of sweep.py. Raises UserError."""
    gpus = tuple(int(word) for word in options.gpus.replace(",", " ").split())
    jobs = read_jobs(options.jobs)
    more = share_processors(jobs)
    return Local(jobs, gpus), more
