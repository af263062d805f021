"""One dataset from the network into its folder: fetch the files of its row, unpack them, move what they hold in place.

Everything is made in a hidden folder beside its place and takes its name by one rename, so that an interrupted run
leaves nothing that looks finished. What is there already is never written over.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dassl.utils.transfer import (
    DRIVE,
    Damaged,
    Unreachable,
    alone,
    fetch,
    fetch_from_drive,
    origin_of,
    part_size,
    verify,
)
from datasets.fetch.archives import ArchiveError, DamagedArchive, UnsafeArchive, is_archive, unpack
from datasets.known.remote import RemoteFile
from datasets.known.row import Row

MB = 10**6
SPARE = 100 * MB  # of the disk that is left free
DEEP = 3  # folders into an archive that a path is looked for
TEMPORARY = ".unpacking-"


class NoRoom(Exception):
    """The disk is too small; the text says how much is needed and free."""


@dataclass(frozen=True)
class Options:
    """Data `root`, `mirror` (URL or folder) tried first, whether to `keep` archives, and where to `say` things."""

    root: Path
    mirror: str = ""
    keep: bool = False
    say: Callable[[str], None] = print

    @property
    def mirror_folder(self) -> Path | None:
        """The mirror as a folder of this machine, if it is one."""
        return Path(self.mirror).expanduser() if self.mirror and "://" not in self.mirror else None


def is_there(path: Path) -> bool:
    """A file, or a folder with something in it."""
    if path.is_dir():
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    return path.exists()


def lacking(row: Row, root: Path) -> list[RemoteFile]:
    """The files of a row of which something is not in its place."""
    folder = root / row.folder
    return [file for file in row.files if not all(is_there(folder / place) for place in file.places)]


def at_hand(row: Row, file: RemoteFile, options: Options) -> Path | None:
    """The file where somebody put it: in the dataset's folder, or in the folder that is the mirror."""
    folder, mirror = options.root / row.folder, options.mirror_folder
    places = [folder] if file.put else []  # without `put` it would be in its final place
    places += [mirror / row.folder, mirror] if mirror else []
    found = (place / name for place in places for name in (file.name, *file.also))
    return next((path for path in found if path.is_file()), None)


def sources(row: Row, file: RemoteFile, options: Options) -> list[str]:
    """The URLs that are tried for a file, in this order; Google Drive comes after them."""
    mirror = options.mirror.rstrip("/") if options.mirror and not options.mirror_folder else ""
    return [*([f"{mirror}/{row.folder}/{file.name}"] if mirror else []), *file.urls]


def install(row: Row, options: Options) -> dict[RemoteFile, list[str]]:
    """Bring what is lacking of a dataset.

    Returns:
        the files that could not be brought, with the reasons, one for each place that was tried.

    Raises:
        NoRoom: the disk is too small for one of them.
        Busy: another process is at it.
        OSError: the disk.
    """
    folder = options.root / row.folder
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with alone(folder):  # a second process would mend the same files
            for left in folder.glob(TEMPORARY + "*"):
                options.say(f"{row.name}: removed what an interrupted run had begun to unpack")
                shutil.rmtree(left)
            failed = {file: _bring(row, file, options) for file in lacking(row, options.root)}
            return {file: reasons for file, reasons in failed.items() if reasons is not None}
    finally:
        if new and not is_there(folder):
            folder.rmdir()


def _bring(row: Row, file: RemoteFile, options: Options) -> list[str] | None:
    """Get one file from the first place that has it, and what it holds into its place; None, or why not."""
    reasons = []
    for origin, get in _ways(row, file, options):
        archive, ours = None, False
        try:
            archive, ours = get()
            _place(row, file, archive, options)
        except (Unreachable, ArchiveError) as error:
            text = f"{origin}: {error}"
            if archive and isinstance(error, (DamagedArchive, UnsafeArchive)):
                text += _discard(archive, ours, options.root / row.folder)
            elif isinstance(error, Damaged):
                text += "; it has been deleted" if "://" in origin else ""
            reasons.append(text)
            if not file.optional:  # of those the reasons are told if it turns out that they are wanted
                options.say(f"{row.name}: {text}")
            continue
        if ours:
            origin_of(archive).unlink(missing_ok=True)
        if ours and file.put and not options.keep:
            archive.unlink()
        elif file.put:
            options.say(f"{row.name}: kept {archive}")
        return None
    return reasons


def _ways(row: Row, file: RemoteFile, options: Options) -> Iterator[tuple[str, Callable[[], tuple[Path, bool]]]]:
    """Every place a file may be had from, in words, and how: a call that gives its path and whether we fetched it."""
    target = options.root / row.folder / file.name

    def taken(path: Path) -> tuple[Path, bool]:
        if path.name == file.name:
            try:
                verify(path, file.checksum)
            except Damaged as error:
                raise Damaged(str(error) + _discard(path, False, options.root / row.folder)) from None
        options.say(f"{row.name}: using {path}")
        return path, path == target and origin_of(path).exists()  # fetched by a run that did not get to unpack it

    def fetched(url: str) -> tuple[Path, bool]:
        def room(left: int) -> None:
            unpacked = (file.unpacked * MB or max(file.size * MB, left)) if file.put else 0
            check_room(options.root, left + unpacked, file.name)

        options.say(f"{row.name}: fetching {file.name}{about(file.size)} from {url}")
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(url, target, file.checksum, room)
        return target, True

    def from_drive() -> tuple[Path, bool]:
        check_room(options.root, (file.size + (file.unpacked or file.size)) * MB, file.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch_from_drive(file.drive, target, file.checksum)
        return target, True

    here = at_hand(row, file, options)
    if here:
        yield str(here), lambda: taken(here)
    for url in sources(row, file, options):
        yield url, lambda url=url: fetched(url)
    if file.drive:
        yield DRIVE.format(file.drive), from_drive


def _discard(archive: Path, ours: bool, folder: Path) -> str:
    """Get a file that is no good out of the way, and say how: ours is deleted, somebody else's only set aside."""
    if ours:
        archive.unlink()
        origin_of(archive).unlink(missing_ok=True)
        return "; it has been deleted"
    if archive.parent != folder:
        return ""
    aside = archive.with_name(archive.name + ".damaged")
    os.replace(archive, aside)
    return f"; it is now called {aside.name}"


def _place(row: Row, file: RemoteFile, archive: Path, options: Options) -> None:
    """Unpack an archive beside its place and move what is wanted of it there; copy a plain file that lies elsewhere."""
    folder = options.root / row.folder
    if not file.put and archive == folder / file.name:
        return
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        if not file.put:
            shutil.copyfile(archive, temporary / "file")
            _move(temporary / "file", folder / file.name)
            return
        unpack(archive, temporary, lambda size: check_room(options.root, size, f"unpacking {archive.name}"))
        found = {place: _find(temporary, path, archive.name) for path, place in file.put}
        moved = [place for place, path in found.items() if _move(path, folder / place)]
        left = [place for place in found if place not in moved]
        if left:
            options.say(f"{row.name}: {', '.join(left)} was there already and is left as it was")
        options.say(f"{row.name}: unpacked {archive.name} to {folder}: {', '.join(moved) or 'nothing new'}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(source: Path, target: Path) -> bool:
    """Rename within the disk, all or nothing; False where something is there already."""
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
    for _ in range(DEEP + 1):
        found = [place for base in level if (place := _descend(base, path.split("/")))]
        if len(found) > 1:
            raise ArchiveError(f"{archive} holds {path} {len(found)} times: unpack it by hand")
        if found:
            return found[0]
        level = [Path(entry) for base in level for entry in os.scandir(base) if entry.is_dir()]
    tops = sorted(entry.name for entry in os.scandir(top))
    shown = ", ".join(tops[:5]) + (f" and {len(tops) - 5} more" if len(tops) > 5 else "")
    raise ArchiveError(f"{archive} does not hold {path} (at its top: {shown or 'nothing'}): unpack it by hand")


def _descend(base: Path, parts: list[str]) -> Path | None:
    """base/parts, where archives on the way become folders."""
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
    """About (MB to fetch, MB on disk at the worst moment) for files of which something is not in its place."""
    fetched = held = most = 0
    for row, files in plan:
        for file in files:
            there = at_hand(row, file, options) is not None
            if not (there or file.drive or sources(row, file, options)):
                continue  # by hand
            fetch_now = 0 if there else max(file.size - part_size(options.root / row.folder / file.name) // MB, 0)
            archive, content = (fetch_now, file.unpacked or file.size) if file.put else (0, file.size)
            fetched, most = fetched + fetch_now, max(most, held + archive + content)
            held += content + (archive if options.keep else 0)
    return fetched, most


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raises NoRoom unless the disk of `folder` (or of the parent that exists) takes `needed` bytes more."""
    free = free_space(folder)
    if needed + SPARE > free:
        spare = f", of which {size(SPARE)} are left alone"
        raise NoRoom(f"{what} needs about {size(needed)} in {folder}, free are {size(free)}{spare}")


def free_space(folder: Path) -> int:
    """Bytes free on the disk that holds, or would hold, `folder`."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def size(count: int) -> str:
    """Bytes in MB or GB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(count, 0) / 1e6:,.0f} MB"


def about(megabytes: int) -> str:
    """ " (about 90 MB)"; "" where it is not known."""
    return f" (about {size(megabytes * MB)})" if megabytes > 1 else ""
