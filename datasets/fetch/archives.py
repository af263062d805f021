"""Unpack zip and tar archives that came from the network.

Every member is written here as a plain file or folder. No link, owner or permission of an archive reaches the disk, so
checking the names of the members is enough to keep them inside the folder.
"""

from __future__ import annotations

import errno
import lzma
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import IO

from tqdm import tqdm

from dassl.utils.disk import BLOCK, blocks_of, copy_sparing, size, write_sparing
from dassl.utils.tools import not_a_download

LONGEST_END = 10 * BLOCK  # bytes of zeros after a tar archive; writers fill a block of 10 kB to 1 MB
# Raised by the readers of the archive formats for damaged content.
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error, ValueError)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # raised for names that a disk does not take
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
        ArchiveError: an archive that Python cannot unpack, or a name that the disk does not take.
        OSError: the disk; also if less than `dassl.utils.disk.SPARE` bytes of it would stay free.
    """
    if _head(archive) in (b"Rar!", b"7z\xbc\xaf"):
        raise ArchiveError(f"{archive.name} is a RAR or 7z archive, which Python cannot unpack: unpack it by hand")
    try:
        if _head(archive) in _ZIP:  # zipfile.is_zipfile also accepts a tar archive that holds a zip archive
            return _write(_zip_members(archive), folder, archive.name)
        if tarfile.is_tarfile(archive):
            return _write(tar_members(archive), folder, archive.name)
    except BROKEN as error:
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
    links, written = [], set()
    for name, kind, content in members:
        path = _inside(name, archive)
        if "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store":
            continue
        target = folder / path
        if kind == "link":
            links.append((folder / _inside(content, archive), target))
            continue
        with _taken(name, archive):
            (target if kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                continue
            _refuse_clash(target, written, archive)
            target.touch()
        with open(target, "wb") as file:
            write_sparing(file, blocks_of(content))
    for named, target in links:
        with _taken(target.name, archive):
            if named == target or not named.is_file():
                raise UselessArchive(
                    f"{archive}: {target.relative_to(folder)} links to a file that is not in the archive"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            _refuse_clash(target, written, archive)
        copy_sparing(named, target)


def _refuse_clash(target: Path, written: set[str], archive: str) -> None:
    """Raise ArchiveError if `target` is there under another spelling, on a disk that takes "A" and "a" for one."""
    if str(target) not in written and target.is_file():
        raise ArchiveError(f"{archive} holds two files whose names are one on this disk, e.g. {target.name}")
    written.add(str(target))


@contextmanager
def _taken(name: str, archive: str) -> Iterator[None]:
    """Raise ArchiveError for a name that the disk does not take."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NAMES:
            raise
        shown = name if len(name) <= 60 else f"{name[:60]}…"
        raise ArchiveError(
            f"{archive} holds a name that this disk does not take ({shown!r}: {error.strerror})"
        ) from None


def _inside(name: str, archive: str) -> Path:
    """The relative path of a member. Raises UselessArchive if it leaves the folder."""
    path = PureWindowsPath(name)  # knows both separators, and drives
    if path.anchor or ".." in path.parts:
        raise UselessArchive(f"{archive} names {name!r}, which lies outside its folder; nothing of it is used")
    if not name:
        raise UselessArchive(f"{archive} is damaged (a file without a name)")
    return Path(path.as_posix())


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        _check_members(archive, file.infolist(), file.start_dir)
        for entry in _progress(file.infolist(), archive):
            mode = entry.external_attr >> 16
            if entry.filename.endswith(("/", "\\")):
                file.open(entry).close()  # compares its name with the one beside its content
                if entry.file_size:
                    raise zipfile.BadZipFile(f"the folder {entry.filename!r} has the content of a file")
                yield entry.filename, "folder", ""
            elif stat.S_ISLNK(mode):
                yield entry.filename, "link", _link(entry.filename, file.read(entry).decode("utf-8", "replace"))
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                with file.open(entry) as content:
                    yield entry.filename, "file", content
            else:
                raise UselessArchive(f"{archive.name} holds a device or pipe ({entry.filename!r})")


def tar_members(archive: Path) -> Iterator[_Member]:
    """The members of a tar archive. Raises UselessArchive or one of `BROKEN` for a damaged one."""
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
        # tarfile ends at the first block that it cannot read, and at a block of zeros. A whole archive ends with zeros.
        file.fileobj.seek(file.offset)
        zeros = 0
        for block in blocks_of(file.fileobj):  # up to the end, where the checksum of a compressed file is
            zeros += len(block)
            if block.count(0) < len(block):
                zeros = 0
                break
        if not zeros:
            raise UselessArchive(f"{archive.name} is damaged (it does not end as a tar archive)")
        if zeros > LONGEST_END:
            raise UselessArchive(
                f"{archive.name} is damaged ({size(zeros)} of zeros at its end, as if it were cut off)"
            )


def _check_members(archive: Path, entries: list[zipfile.ZipInfo], end: int) -> None:
    """Compare the list of members at the end of a zip archive with the members themselves.

    Args:
        archive: the file.
        entries: the list.
        end: where the list begins, i.e. the members end.

    Raises:
        zipfile.BadZipFile: members that are not in the list, or members that overlap.
    """
    entries = sorted(entries, key=lambda entry: entry.header_offset)
    with open(archive, "rb") as file:
        file.seek(max(0, archive.stat().st_size - (1 << 16) - 22))  # the last record, and a comment behind it
        tail = file.read()
        record = tail[tail.rfind(b"PK\x05\x06") :]
        (count,) = struct.unpack("<H", record[10:12])  # modulo 65,536 in archives of macOS
        if count not in (0xFFFF, len(entries) % 0x10000):
            raise zipfile.BadZipFile(f"its list names {len(entries):,} members, its end says {count:,}")
        starts = [entry.header_offset for entry in entries]
        here = 0
        for entry, start in [*zip(entries, starts, strict=True), (None, end)]:
            file.seek(here)
            if here > start:
                raise zipfile.BadZipFile("members overlap")
            if _ZIP[0] in file.read(min(start - here, 28)):  # behind a member may be its checksum and sizes
                raise zipfile.BadZipFile("members are missing from its list")
            if entry is not None:
                file.seek(start)
                name, extra = struct.unpack("<26x2H", file.read(30))
                here = start + 30 + name + extra + entry.compress_size


def _link(name: str, target: str) -> str:
    """The name, from the top of the archive, of the file that the symbolic link `name` points to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _progress(members, archive: Path):
    return tqdm(members, desc=f"unpacking {archive.name}", unit=" files", disable=None, leave=False)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(4)
