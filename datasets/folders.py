"""Bounded listings of folders, and texts about files for messages."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from dassl.utils import UserError

MOST = 2000  # maximum number of entries of a folder that are listed


def listing(folder: Path, most: int = MOST) -> tuple[list[str], list[str]]:
    """Names of the visible (folders, files) among the first `most` entries of a folder, both sorted.

    Opens no file. Links that lead back to themselves count as files. Returns two empty lists if the folder does not
    exist or cannot be read.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, most):
                if not entry.name.startswith(".") and entry.name != "__MACOSX":
                    (folders if is_folder(entry) else files).append(entry.name)
    except OSError:
        return [], []
    return sorted(folders), sorted(files)


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or a link to one; False for a link that leads back to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def quoted(path: str | os.PathLike) -> str:
    """A path, quoted for a shell."""
    return shlex.quote(os.fspath(path))


def are(number: int) -> str:
    """The verb for a number of things: "is" for one, else "are"."""
    return "is" if number == 1 else "are"


def some(names: Iterable[object], most: int = 3) -> str:
    """The first `most` names, and the number of further ones: "a, b, c and 4 more"."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def first_line(path: Path) -> str:
    """First line of a small text file; "" if it does not exist. Raises UserError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").partition("\n")[0].strip() if path.is_file() else ""
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8; save it in UTF-8") from None
