"""Bring one dataset into its folder: download the files of its row, unpack them, and move their content into place.

Archives are unpacked in a hidden folder beside their place, and each result gets its name by one rename. An interrupted
run therefore leaves nothing that looks finished. Existing files and folders are never overwritten.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dassl.utils.disk import copy_sparing, size
from dassl.utils.locks import locked
from dassl.utils.transfer import (
    DRIVE,
    Damaged,
    Unreachable,
    fetch,
    fetch_from_drive,
    forget,
    part_size,
    verify,
    was_fetched,
)
from datasets.fetch.archives import ArchiveError, UselessArchive, is_archive, unpack
from datasets.folders import some
from datasets.known.remote import RemoteFile
from datasets.known.row import Row

MB = 10**6
DEPTH = 3  # levels of folders in an archive that are searched for a path
TEMPORARY = ".unpacking-"


@dataclass(frozen=True)
class Options:
    """Data `root`, `mirror` (URL or folder) tried first, whether to `keep` archives, and where to `say` things."""

    root: Path
    mirror: str = ""
    keep: bool = False
    say: Callable[[str], None] = print

    @property
    def mirror_folder(self) -> Path | None:
        """The mirror as a folder of this machine; None for a URL or no mirror."""
        return Path(self.mirror).expanduser() if self.mirror and "://" not in self.mirror else None


def is_there(path: Path) -> bool:
    """Whether `path` is a file, or a folder that is not empty."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def lacking(row: Row, root: Path) -> list[RemoteFile]:
    """The files of a row whose content is not completely in place."""
    folder = root / row.folder
    return [file for file in row.files if not all(is_there(folder / place) for place in file.places)]


def at_hand(row: Row, file: RemoteFile, options: Options) -> Path | None:
    """Where the user put a file: in the dataset's folder, or in a mirror that is a folder. None if it is in neither."""
    folder, mirror = options.root / row.folder, options.mirror_folder
    places = [folder] if file.put else []  # without `put` the dataset's folder is its final place
    places += [mirror / row.folder, mirror] if mirror else []
    found = (place / name for place in places for name in (file.name, *file.also))
    return next((path for path in found if path.is_file()), None)


def sources(row: Row, file: RemoteFile, options: Options) -> list[str]:
    """The URLs that are tried for a file, in this order; Google Drive is tried after them."""
    mirror = options.mirror.rstrip("/") if options.mirror and not options.mirror_folder else ""
    return [*([f"{mirror}/{row.folder}/{file.name}"] if mirror else []), *file.urls]


def install(row: Row, options: Options) -> dict[RemoteFile, list[str]]:
    """Bring the missing files of a dataset.

    Returns:
        {file that could not be brought: one reason per place that was tried}.

    Raises:
        filelock.Timeout: another process is downloading this dataset.
        OSError: the disk.
    """
    folder = options.root / row.folder
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder.with_name(f".{folder.name}.lock")):
            for left in folder.glob(TEMPORARY + "*"):
                options.say(f"{row.name}: removed what an interrupted run had begun to unpack")
                shutil.rmtree(left)
            tried = {file: _bring(row, file, options) for file in lacking(row, options.root)}
            return {file: reasons for file, reasons in tried.items() if reasons is not None}
    finally:
        if new and not is_there(folder):
            folder.rmdir()


def _bring(row: Row, file: RemoteFile, options: Options) -> list[str] | None:
    """Bring the content of a file into place, from the first source that has it. Returns None, or why all failed."""
    reasons = []
    for origin, get in _ways(row, file, options):
        archive, ours = None, False
        try:
            archive, ours = get()
            _place(row, file, archive, options)
        except (Unreachable, ArchiveError) as error:
            text = f"{origin}: {error}"
            if isinstance(error, UselessArchive):
                text += _discard(archive, ours, options.root / row.folder)
            elif isinstance(error, Damaged) and "://" in origin:
                text += "; it has been deleted"
            reasons.append(text)
            if not file.optional:  # the reasons for optional files are reported at the end
                options.say(f"{row.name}: {text}")
            continue
        forget(options.root / row.folder / file.name)
        if ours and file.put and not options.keep:
            archive.unlink()
        elif file.put:
            options.say(f"{row.name}: kept {archive}")
        return None
    return reasons


def _ways(row: Row, file: RemoteFile, options: Options) -> Iterator[tuple[str, Callable[[], tuple[Path, bool]]]]:
    """Every source of a file: (its name, a function that returns (path of the file, whether we downloaded it))."""
    folder = options.root / row.folder
    target = folder / file.name

    def taken(path: Path) -> tuple[Path, bool]:
        if path.name == file.name:
            try:
                verify(path, file.checksum)
            except Damaged as error:
                raise Damaged(str(error) + _discard(path, False, folder)) from None
        options.say(f"{row.name}: using {path}")
        return path, path == target and was_fetched(path)

    def fetched(url: str) -> tuple[Path, bool]:
        options.say(f"{row.name}: downloading {file.name}{about(file.size)} from {url}")
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(url, target, file.checksum)
        return target, True

    def from_drive() -> tuple[Path, bool]:
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch_from_drive(file.drive, target, file.checksum)
        return target, True

    if here := at_hand(row, file, options):
        yield str(here), lambda: taken(here)
    for url in sources(row, file, options):
        yield url, lambda url=url: fetched(url)
    if file.drive:
        yield DRIVE.format(file.drive), from_drive


def _discard(archive: Path, ours: bool, folder: Path) -> str:
    """Delete a useless file that we downloaded, rename one that the user put into `folder`; returns a text about it."""
    if ours:
        archive.unlink()
        forget(archive)
        return "; it has been deleted"
    if archive.parent != folder:
        return ""
    aside = archive.with_name(archive.name + ".damaged")
    os.replace(archive, aside)
    return f"; it is now called {aside.name}"


def _place(row: Row, file: RemoteFile, archive: Path, options: Options) -> None:
    """Unpack an archive and move its wanted content into place; copy a plain file that lies elsewhere."""
    folder = options.root / row.folder
    if not file.put and archive == folder / file.name:
        return
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        if not file.put:
            copy_sparing(archive, temporary / "file")
            _move(temporary / "file", folder / file.name)
            return
        unpack(archive, temporary)
        found = {place: _find(temporary, path, archive.name) for path, place in file.put}
        moved = [place for place, path in found.items() if _move(path, folder / place)]
        if left := [place for place in found if place not in moved]:
            options.say(f"{row.name}: {', '.join(left)} was there already and is left unchanged")
        options.say(f"{row.name}: unpacked {archive.name} to {folder}: {', '.join(moved) or 'nothing new'}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(source: Path, target: Path) -> bool:
    """Move a file or folder by one rename; returns False if `target` is there already."""
    if is_there(target):
        return False
    if target.is_dir():
        target.rmdir()
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(source, target)
    return True


def _find(top: Path, path: str, archive: str) -> Path:
    """`path` in an unpacked archive, or the only such path in one of its folders. Raises ArchiveError."""
    level = [top]
    for _ in range(DEPTH + 1):
        found = [place for base in level if (place := _descend(base, path.split("/")))]
        if len(found) > 1:
            raise ArchiveError(f"{archive} holds {path} {len(found)} times: unpack it by hand")
        if found:
            return found[0]
        level = [entry for base in level for entry in base.iterdir() if entry.is_dir()]
    tops = sorted(entry.name for entry in top.iterdir())
    raise ArchiveError(f"{archive} does not hold {path} (at its top: {some(tops, 5) or 'nothing'}): unpack it by hand")


def _descend(base: Path, parts: list[str]) -> Path | None:
    """base/parts if it exists; an archive on the way is replaced by a folder with its content."""
    here = base
    for i, part in enumerate(parts):
        here = here / part
        if i + 1 < len(parts) and here.is_file() and is_archive(here):
            inner = Path(tempfile.mkdtemp(dir=base))
            unpack(here, inner)
            here.unlink()
            os.rename(inner, here)
    return here if here.exists() else None


def space(plan: list[tuple[Row, list[RemoteFile]]], options: Options) -> tuple[int, int]:
    """About (MB to download, MB on disk at the worst moment) for the missing files of several rows."""
    fetched = held = most = 0
    for row, files in plan:
        for file in files:
            there = at_hand(row, file, options) is not None
            if not (there or file.drive or sources(row, file, options)):
                continue  # by hand
            left = 0 if there else max(file.size - part_size(options.root / row.folder / file.name) // MB, 0)
            archive, content = (left, file.unpacked or file.size) if file.put else (0, file.size)
            fetched, most = fetched + left, max(most, held + archive + content)
            held += content + (archive if options.keep else 0)
    return fetched, most


def about(megabytes: int) -> str:
    """ " (about 90 MB)"; "" if the size is not known."""
    return f" (about {size(megabytes * MB)})" if megabytes > 1 else ""
