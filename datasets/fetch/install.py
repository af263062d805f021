"""Bring one dataset into its folder: download the files of its row, unpack them, and move their content into place.

Archives are unpacked in a hidden folder beside their place, and each result gets its name by one rename. An interrupted
run therefore leaves nothing that looks finished. Existing files and folders are never overwritten.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from datasets.fetch.hub import archive_of, named
from datasets.fetch.options import MB, TEMPORARY, Options, at_hand, discard, is_there, lacking, move, sources
from datasets.fetch.webdatasets import bring_shards
from datasets.folders import some
from datasets.known.remote import RemoteFile
from datasets.known.row import Row

DEPTH = 3  # levels of folders in an archive that are searched for a path


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
            if row.hub and (row.hub.shards or not options.mirror):
                _from_hub(row, options)
            tried = {file: _bring(row, file, options) for file in lacking(row, options.root)}
            if row.hub and options.mirror and any(reasons is not None for reasons in tried.values()):
                _from_hub(row, options)
                tried = {file: tried.get(file, []) for file in lacking(row, options.root)}
            return {file: reasons for file, reasons in tried.items() if reasons is not None}
    finally:
        if new and not is_there(folder):
            folder.rmdir()


# ---- the hub -------------------------------------------------------------------------------------------------------


def _from_hub(row: Row, options: Options) -> None:
    """Bring what the repository of a row has of its missing files. Says why if it has nothing of them."""
    if row.hub.shards:
        return bring_shards(row, options)

    def needed(optional: bool) -> list[RemoteFile]:
        return [
            file
            for file in lacking(row, options.root)
            if optional >= file.optional and at_hand(row, file, options) is None
        ]

    if not needed(True):
        return None
    try:
        files = options.on_hub(row.hub)
    except Unreachable as error:
        return options.say(f"{row.name}: {error}") if needed(False) else None
    archive = archive_of(row, files)
    for file in needed(True):
        here = named(file.name, row, files)
        if here and here != archive:
            _bring(row, replace(file, urls=(here.url,), drive="", checksum=here.checksum or file.checksum), options)
    if not needed(False):
        return None
    if not archive:
        return options.say(f"{row.name}: {row.hub.page} has no archive called {row.folder}")
    places = [*(row.image_folders or (row.images,)), *row.needs, *row.split_files]
    whole = RemoteFile(
        archive.name,
        tuple((place, place) for place in places),
        (archive.url,),
        checksum=archive.checksum,
        size=archive.size // MB,
        some=True,
    )
    cached = replace(options, mirror=str(Path(archive.cached).parent)) if archive.cached else options
    _bring(row, whole, cached)
    return None


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
                text += discard(archive, ours, options.root / row.folder)
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
                raise Damaged(str(error) + discard(path, False, folder)) from None
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


def _place(row: Row, file: RemoteFile, archive: Path, options: Options) -> None:
    """Unpack an archive and move its wanted content into place; copy a plain file that lies elsewhere."""
    folder = options.root / row.folder
    if not file.put and archive == folder / file.name:
        return
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        if not file.put:
            copy_sparing(archive, temporary / "file")
            move(temporary / "file", folder / file.name)
            return
        unpack(archive, temporary)
        found = {}
        for path, place in file.put:
            try:
                found[place] = _find(temporary, path, archive.name)
            except ArchiveError:
                if not file.some:
                    raise
        if not found:
            raise ArchiveError(f"{archive.name} holds nothing of {some(file.places, 5)}: unpack it by hand")
        moved = [place for place, path in found.items() if move(path, folder / place)]
        if left := [place for place in found if place not in moved]:
            options.say(f"{row.name}: {', '.join(left)} was there already and is left unchanged")
        options.say(f"{row.name}: unpacked {archive.name} to {folder}: {', '.join(moved) or 'nothing new'}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
        if row.hub and row.hub.shards:
            fetched, most = fetched + row.hub.size, max(most, held + 2 * row.hub.size)
            held += row.hub.size * (2 if options.keep else 1)
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
