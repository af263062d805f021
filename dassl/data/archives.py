"""Members of archives that are read in place: "…/images.zip/faces/x.webp", "…/shard-0003.tar/0001.jpg"."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
from collections import OrderedDict

from dassl.utils.errors import UserError
from dassl.utils.tools import open_file

ENDINGS = (".zip", ".tar")
_PART = re.compile(r"\.(?:zip|tar)/")
_OPEN = 16
_opened: OrderedDict[tuple, zipfile.ZipFile | Tar] = OrderedDict()


class Tar:
    """A tar archive without compression, whose members are read by their positions. Several threads may read.

    Raises:
        UserError: the file is compressed, damaged, or not a tar archive.
    """

    def __init__(self, path: str):
        self.path = path
        try:
            with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
                members = [member for member in archive if member.isreg()]
        except tarfile.TarError as error:
            raise UserError(f"{path}: not a whole tar archive without compression ({error})") from None
        self.places = {member.name.removeprefix("./"): (member.offset_data, member.size) for member in members}

    def read(self, name: str) -> bytes:
        offset, size = self.places[name]
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(size)


def split_archive(path: str) -> tuple[str, str] | None:
    """("…/images.zip", "faces/x.webp"), or None if no part of the path is a zip or tar file."""
    path = path.replace("\\", "/") if os.sep == "\\" else path
    for found in _PART.finditer(path):
        if os.path.isfile(archive := path[: found.end() - 1]):
            return archive, path[found.end() :]
    return None


def opened(path: str) -> zipfile.ZipFile | Tar:
    """An open archive. Handles are per process, because forked processes would share one file position."""
    stat = os.stat(path)
    key = (os.getpid(), path, stat.st_mtime_ns, stat.st_size)
    archive = _opened.get(key)
    if archive is None:
        archive = _opened[key] = Tar(path) if path.endswith(".tar") else zipfile.ZipFile(path)
        while len(_opened) > _OPEN:
            _opened.popitem(last=False)  # its destructor closes it once nobody reads from it
    return archive


def members(path: str) -> list[str]:
    """Names of the files in an archive, sorted. Raises UserError if it cannot be read."""
    try:
        archive = opened(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: not a zip archive ({error})") from None
    names = archive.places if isinstance(archive, Tar) else archive.namelist()
    return sorted(name for name in names if not name.endswith("/"))


def stamp(archive: str, member: str) -> list | None:
    """Values that change when a member changes: name, size and CRC, or in a tar file its place; None if missing."""
    found = opened(archive)
    if isinstance(found, Tar):
        stat = os.stat(archive)
        place = found.places.get(member)
        return place and [os.path.abspath(archive), stat.st_size, stat.st_mtime_ns, member, *place]
    info = found.NameToInfo.get(member)
    return info and [member, info.file_size, info.CRC]


def open_path(path: str):
    """Open a file, or a member of an archive, for reading bytes. Raises FileNotFoundError."""
    found = split_archive(path)
    if found is None:
        return open_file(path, "rb")
    archive, member = found
    try:
        return io.BytesIO(opened(archive).read(member))
    except KeyError:
        raise FileNotFoundError(path) from None
