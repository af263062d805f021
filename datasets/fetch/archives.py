"""Unpack zip and tar archives that came from the network.

Every member is written here as a plain file or folder. No link, owner or permission of an archive reaches the disk, so
checking the names of the members is enough to keep them inside the folder.
"""

from __future__ import annotations

import errno
import lzma
import posixpath
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import IO

from tqdm import tqdm

from dassl.utils.tools import not_a_download

BLOCK = 1 << 20
# Raised by the readers of the archive formats for damaged content.
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error, ValueError)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_Member = tuple[str, str, "IO[bytes] | str"]  # (name, "folder", "file" or "link", content or the name it links to)


class ArchiveError(Exception):
    """An archive that was not unpacked; the text says why."""


class UselessArchive(ArchiveError):
    """An archive that is damaged, or that would write outside its folder; downloading it again may help."""


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, judged by its content: download pages name files as they like."""
    return _head(path) in _ZIP or tarfile.is_tarfile(path)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive (plain, gzip, bzip2 or xz) into `folder`, which exists.

    Links become copies of the files they name. Files added by macOS (`__MACOSX`, `._*`, `.DS_Store`) are left out.

    Args:
        archive: the file.
        folder: the destination; the caller removes it if this function raises.

    Raises:
        UselessArchive: a path or link that leaves the folder, a device, a pipe; not an archive, cut off, or altered.
        ArchiveError: an archive that Python cannot unpack.
        OSError: the disk.
    """
    if _head(archive) in (b"Rar!", b"7z\xbc\xaf"):
        raise ArchiveError(f"{archive.name} is a RAR or 7z archive, which Python cannot unpack: unpack it by hand")
    try:
        if _head(archive) in _ZIP:  # zipfile.is_zipfile also accepts a tar archive that holds a zip archive
            return _write(_zip_members(archive), folder, archive.name)
        if tarfile.is_tarfile(archive):
            return _write(_tar_members(archive), folder, archive.name)
    except _BROKEN as error:
        raise UselessArchive(f"{archive.name} is damaged ({error or type(error).__name__})") from None
    except (IsADirectoryError, NotADirectoryError, FileExistsError, RuntimeError) as error:
        # Two members of one name, a password, or a compression method that Python does not have.
        raise ArchiveError(f"{archive.name} cannot be unpacked by Python ({error}): unpack it by hand") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # gzip, bz2 and zipfile raise these two; the disk raises others
            raise
        raise UselessArchive(f"{archive.name} is damaged ({error})") from None
    raise UselessArchive(f"{archive.name} is {not_a_download(archive) or 'damaged, or not a zip or tar archive'}")


def _write(members: Iterator[_Member], folder: Path, archive: str) -> None:
    """Write the members below `folder`; copies in place of links come last, once all files are there."""
    links = []
    for name, kind, content in members:
        path = _inside(name, archive)
        if "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store":
            continue
        target = folder / path
        if kind == "link":
            links.append((folder / _inside(content, archive), target))
            continue
        (target if kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
        if kind == "file":
            with open(target, "wb") as file:
                shutil.copyfileobj(content, file, BLOCK)
    for named, target in links:
        if named == target or not named.is_file():
            raise UselessArchive(f"{archive}: {target.relative_to(folder)} links to a file that is not in the archive")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(named, target)


def _inside(name: str, archive: str) -> Path:
    """The relative path of a member. Raises UselessArchive if it leaves the folder."""
    path = PureWindowsPath(name)  # knows both separators, and drives
    if path.anchor or ".." in path.parts:
        raise UselessArchive(f"{archive} names {name!r}, which lies outside its folder; nothing of it is used")
    return Path(path.as_posix())


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for entry in _progress(file.infolist(), archive):
            mode = entry.external_attr >> 16
            if entry.filename.endswith(("/", "\\")):
                yield entry.filename, "folder", ""
            elif stat.S_ISLNK(mode):
                yield entry.filename, "link", _link(entry.filename, file.read(entry).decode("utf-8", "replace"))
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                with file.open(entry) as content:
                    yield entry.filename, "file", content
            else:
                raise UselessArchive(f"{archive.name} holds a device or pipe ({entry.filename!r})")


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as file:
        for entry in _progress(file, archive):
            if entry.isdir():
                yield entry.name, "folder", ""
            elif entry.issym():
                yield entry.name, "link", _link(entry.name, entry.linkname)
            elif entry.islnk():
                yield entry.name, "link", entry.linkname
            elif entry.isreg():
                yield entry.name, "file", file.extractfile(entry)
            else:
                raise UselessArchive(f"{archive.name} holds a device or pipe ({entry.name!r})")
        # tarfile ends at the first block it cannot read. A whole archive ends with two blocks of zeros.
        file.fileobj.seek(file.offset)
        end = file.fileobj.read(2 * tarfile.BLOCKSIZE)
        if not end or any(end):
            raise UselessArchive(f"{archive.name} is damaged (it does not end as a tar archive)")
        while file.fileobj.read(BLOCK):  # up to the end, where the checksum of a compressed file is
            pass


def _link(name: str, target: str) -> str:
    """The name, from the top of the archive, of the file that the symbolic link `name` points to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _progress(members, archive: Path):
    return tqdm(members, desc=f"unpacking {archive.name}", unit=" files", disable=None, leave=False)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(4)
