"""A file of a dataset on the network: its sources, its checksum, and the place of its content."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file that `python -m datasets.download` downloads, or for which it prints instructions.

    Attributes:
        name: its name in the dataset's folder; without `put` this is its final place.
        put: for archives, pairs (path in the archive, place in the dataset's folder). In a path, an archive inside the
            archive is written like a folder. A path that is not at the top of the archive is searched further down.
        urls: sources, tried in this order.
        drive: id on Google Drive, tried after the URLs.
        page: web page of the file, for files that a program cannot download, or no longer can.
        also: other names that a downloaded file may have.
        checksum: "md5:…" or "sha256:…" in hex, published by the dataset or by torchvision.
        size: approximate download size in MB; 0 if not known.
        unpacked: approximate size on disk in MB; 0 if it is at most `size`.
        optional: whether the dataset can be used without this file.
    """

    name: str
    put: tuple[tuple[str, str], ...] = ()
    urls: tuple[str, ...] = ()
    drive: str = ""
    page: str = ""
    also: tuple[str, ...] = ()
    checksum: str = ""
    size: int = 0
    unpacked: int = 0
    optional: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        """Places of its content, relative to the dataset's folder."""
        return tuple(place for _, place in self.put) or (self.name,)


def same_names(*names: str, within: str = "") -> tuple[tuple[str, str], ...]:
    """Pairs for `RemoteFile.put`: files and folders that keep their names, from the folder `within` of the archive."""
    return tuple((f"{within}/{name}" if within else name, name) for name in names)


def coop_split(name: str, drive: str) -> RemoteFile:
    """CoOp's split file of the dataset `name`; without it, a rule makes the split."""
    return RemoteFile(f"split_zhou_{name}.json", drive=drive, size=1, optional=True)
