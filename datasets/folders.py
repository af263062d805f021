"""Looking into folders without getting lost in large ones, and writing paths the way a shell takes them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

MOST = 2000  # entries of a folder that are looked at


def listing(folder: Path, most: int = MOST) -> tuple[list[str], list[str]]:
    """Visible (folders, files) among the first `most` entries of a folder, each sorted; no look at each file.

    Two empty lists where there is no such folder or it cannot be read.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, most):
                if not entry.name.startswith(".") and entry.name != "__MACOSX":
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError:
        return [], []
    return sorted(folders), sorted(files)


def q(path: str | os.PathLike) -> str:
    """A path as a shell takes it."""
    return shlex.quote(os.fspath(path))


def are(number: int) -> str:
    """ "is" for one, else "are"."""
    return "is" if number == 1 else "are"


def some(names: Iterable[object], most: int = 3) -> str:
    """The first names and how many more there are."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
