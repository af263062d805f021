"""A file of a dataset on the network: where it is, what it should be, and where its content belongs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file that `python -m datasets.download` fetches, or tells how to fetch by hand.

    Attributes:
        name: its name in the dataset's folder; without `put` this is its final place.
        put: for archives, pairs (path in the archive, place in the dataset's folder). An archive within the archive is
            written as a folder; a path that is not at the top of the archive is looked for further down.
        urls: where it can be fetched from, tried in this order.
        drive: id on Google Drive, tried after the URLs.
        page: where people find it, if it cannot be fetched from a program, or no longer.
        also: other names under which people have it.
        checksum: "md5:…" or "sha256:…" as published by the dataset or by torchvision.
        size: MB to fetch, about; 0 if not known.
        unpacked: MB on disk, about; 0 if that is no more than `size`.
        optional: the dataset can be used without it.
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
        """What it brings, relative to the dataset's folder."""
        return tuple(place for _, place in self.put) or (self.name,)


def same_names(*names: str, within: str = "") -> tuple[tuple[str, str], ...]:
    """Pairs for `RemoteFile.put`: things that keep their names, from the folder `within` of the archive."""
    return tuple((f"{within}/{name}" if within else name, name) for name in names)


def coop_split(name: str, drive: str) -> RemoteFile:
    """CoOp's split file of the dataset `name`; where it is not there, a rule makes a split."""
    return RemoteFile(f"split_zhou_{name}.json", drive=drive, size=1, optional=True)
