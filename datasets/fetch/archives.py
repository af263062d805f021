"""Unpacking archives that came from the network: everything in them is checked, nothing in them is trusted.

Zip and tar (plain, gzip, bzip2, xz) are told apart by their content, since download pages name files as they like.
Members are written by this module itself, as plain files and folders: no link, device, owner or permission of an
archive ever reaches the disk, so a member cannot lead out of the folder, directly or by way of another member.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import posixpath
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tqdm import tqdm

from dassl.utils.tools import not_a_download

BLOCK = 1 << 20
_TAR_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_UNREADABLE = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive"}
_DRIVE = re.compile(r"^[A-Za-z]:")

# What the readers of the archive formats raise for damaged content.
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error)


class ArchiveError(Exception):
    """An archive that is not unpacked; the text says why."""


class DamagedArchive(ArchiveError):
    """Incomplete or altered: fetching it again may help."""


class UnsafeArchive(ArchiveError):
    """A member that would be written outside of the folder, or that is neither file nor folder."""


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive that `unpack` reads, judged by its first bytes."""
    head = _head(path, 512)
    return head.startswith(_ZIP) or head.startswith(tuple(_TAR_OPENERS)) or head[257:262] == b"ustar"


def unpack(archive: Path, folder: Path, room: Callable[[int], None] | None = None) -> int:
    """Unpack a zip or tar archive into `folder`, which exists.

    Links inside of the archive become copies of the files they name. What macOS adds (`__MACOSX`, `._*`) is left out.

    Args:
        archive: the file.
        folder: where to; the caller removes it when this raises.
        room: called with the unpacked size in bytes before anything is written, where the archive tells it (zip).

    Returns:
        the number of files written.

    Raises:
        UnsafeArchive: an absolute path, a path or link that leaves the folder, a device, a pipe.
        DamagedArchive: not an archive, cut off, or altered.
    """
    head = _head(archive, 512)
    kind = next((text for magic, text in _UNREADABLE.items() if head.startswith(magic)), None)
    if kind:
        raise ArchiveError(f"{archive.name} is {kind}, which Python cannot unpack: unpack it by hand")
    if not is_archive(archive):
        found = not_a_download(archive) or "neither a zip nor a tar archive"
        raise DamagedArchive(f"{archive.name} is {found}")
    try:
        members = _zip_members if head.startswith(_ZIP) else _tar_members
        with _bar(archive) as bar:
            return _write(members(archive, bar, room), folder, archive.name)
    except _BROKEN as error:
        raise DamagedArchive(f"{archive.name} is damaged ({error or type(error).__name__})") from None
    except NotImplementedError as error:
        raise ArchiveError(f"{archive.name} cannot be unpacked by Python ({error}): unpack it by hand") from None
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise UnsafeArchive(
            f"{archive.name} has a file and a folder of the same name, {error.filename!r}; nothing of it is used"
        ) from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # these two come from bz2 and zipfile; the others from the disk
            raise
        raise DamagedArchive(f"{archive.name} is damaged ({error})") from None


# A member: its name, what it is ("file", "folder", "link", or a text for anything else), the name a link names (from
# the top of the archive), and its content.
_Member = tuple[str, str, str, "IO[bytes] | None"]


def _write(members: Iterator[_Member], folder: Path, archive: str) -> int:
    """Write checked members below `folder`, then the copies that stand for links."""
    made, links, count = {folder}, [], 0
    for name, kind, link, content in members:
        path = _inside(name, archive)
        if path is None:
            continue
        target = folder / path
        parent = target if kind == "folder" else target.parent
        if parent not in made:
            parent.mkdir(parents=True, exist_ok=True)
            made.add(parent)
        if kind == "file":
            with open(target, "wb") as file:
                shutil.copyfileobj(content, file, BLOCK)
            count += 1
        elif kind == "link":
            named = _inside(link, archive, f"the link {name!r} to ")
            links.append((name, link, folder / (named or ""), target))
        elif kind != "folder":
            raise UnsafeArchive(f"{archive} holds {kind} ({name!r}); nothing of it is used")
    for name, link, named, target in links:
        if named == target or not named.is_file():
            raise UnsafeArchive(f"{archive}: {name!r} is a link to {link!r}, which is no file in it")
        shutil.copyfile(named, target)
        count += 1
    return count


def _inside(name: str, archive: str, of: str = "") -> str | None:
    """The relative path of a member below the folder; None for one that is not wanted. Raises UnsafeArchive."""
    # Windows' separators count as well: archives travel, and so does what is unpacked from them.
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or _DRIVE.match(name) or ".." in parts or "\0" in name:
        raise UnsafeArchive(f"{archive} holds {of}{name!r}, which lies outside of the folder; nothing of it is used")
    if "__MACOSX" in parts or parts[-1].startswith("._") or parts[-1] == ".DS_Store":
        return None
    return posixpath.normpath(name)


def _zip_members(archive: Path, bar: tqdm, room: Callable[[int], None] | None) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        if room:
            room(sum(entry.file_size for entry in entries))
        for entry in entries:
            if entry.flag_bits & 1:
                raise ArchiveError(f"{archive.name} is protected by a password: unpack it by hand")
            # The name as stored: ZipFile cuts it at NUL. Some programs for Windows write their own separator.
            name, mode = entry.orig_filename.replace("\\", "/"), entry.external_attr >> 16
            if name.endswith("/"):
                yield name, "folder", "", None
            elif stat.S_ISLNK(mode):
                yield name, "link", _from_top(name, file.read(entry).decode("utf-8", "replace")), None
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                with file.open(entry) as content:
                    yield name, "file", "", content
            else:
                yield name, "a device or pipe", "", None
            bar.update(entry.compress_size)


def _tar_members(archive: Path, bar: tqdm, room: Callable[[int], None] | None) -> Iterator[_Member]:
    head = _head(archive, 6)
    opener = next((opener for magic, opener in _TAR_OPENERS.items() if head.startswith(magic)), None)
    with open(archive, "rb") as raw, opener(raw) if opener else raw as plain:
        # A stream, read once from front to end: seeking back in a compressed file means to read it again.
        with tarfile.open(fileobj=plain, mode="r|", bufsize=BLOCK) as tar:
            while (entry := tar.next()) is not None:
                tar.members.clear()  # TarFile keeps every member it has seen
                if entry.isdir():
                    yield entry.name, "folder", "", None
                elif entry.issym():
                    yield entry.name, "link", _from_top(entry.name, entry.linkname), None
                elif entry.islnk():
                    yield entry.name, "link", entry.linkname, None
                elif entry.isreg():
                    yield entry.name, "file", "", tar.extractfile(entry)
                else:
                    yield entry.name, "a device or pipe", "", None
                bar.update(raw.tell() - bar.n)
        while plain.read(BLOCK):  # to the end, where the checksum of the compressed file is
            pass


def _from_top(name: str, link: str) -> str:
    """What a symbolic link names, from the top of the archive; stays absolute or outside ("../x") if it is."""
    return link if link.startswith("/") else posixpath.normpath(posixpath.join(posixpath.dirname(name), link))


def _bar(archive: Path) -> tqdm:
    """A progress bar over the bytes of the archive; none where the output is not a terminal."""
    text, size = f"unpacking {archive.name}", archive.stat().st_size
    return tqdm(total=size, unit="B", unit_scale=True, desc=text, disable=None, leave=False)


def _head(path: Path, count: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)
