"""All rows, one a dataset: the table that everything about datasets is read from.

The rows themselves stand in `datasets/known/`, one file a suite; what the columns mean is said at `Row`.
"""

from __future__ import annotations

from datasets.known.fashion20 import FASHION20
from datasets.known.general10 import GENERAL10
from datasets.known.imagenet import IMAGENET
from datasets.known.plant6 import PLANT6
from datasets.known.row import Row
from datasets.known.rs8 import REMOTE_SENSING, RS8

__all__ = ["FASHION20", "GENERAL10", "IMAGENET", "PLANT6", "REMOTE_SENSING", "ROWS", "RS8", "Row"]

ROWS: dict[str, Row] = {row.name: row for row in (*GENERAL10, *PLANT6, *FASHION20, *REMOTE_SENSING, *IMAGENET)}
