"""All rows, one per dataset: those that the files of `datasets/known/` list in `ROWS`."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from datasets import known
from datasets.known.elevater import ELEVATER20
from datasets.known.elevater import ROWS as ELEVATER
from datasets.known.fashion20 import ROWS as FASHION20
from datasets.known.general10 import ROWS as GENERAL10
from datasets.known.imagenet import ROWS as IMAGENET
from datasets.known.plant6 import ROWS as PLANT6
from datasets.known.row import Row
from datasets.known.rs8 import ROWS as REMOTE_SENSING
from datasets.known.rs8 import RS8

__all__ = ["ELEVATER20", "FASHION20", "GENERAL10", "IMAGENET", "PLANT6", "REMOTE_SENSING", "ROWS", "RS8", "Row"]


def _all_rows() -> dict[str, Row]:
    """{name: row} of every file in datasets/known: first the papers' datasets, then all others."""
    rows = [*GENERAL10, *PLANT6, *FASHION20, *REMOTE_SENSING, *IMAGENET, *ELEVATER]
    for module in pkgutil.iter_modules(known.__path__, f"{known.__name__}."):
        rows += [row for row in getattr(import_module(module.name), "ROWS", ()) if row not in rows]
    found: dict[str, Row] = {}
    for row in rows:
        if row.name in found:
            raise ValueError(f"datasets/known: two rows have the name {row.name!r}; rename one of them")
        found[row.name] = row
    return found


ROWS = _all_rows()
