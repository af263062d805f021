"""Where a dataset is on the network: its files with their sources and checksums, and its repository on the hub."""

from __future__ import annotations

from dataclasses import dataclass

# Beginnings of published addresses that no longer answer, or no longer have the file. They are still tried, last.
DEAD = ("https://ai.stanford.edu/~jkrause", "http://madm.dfki.de/")


def note_of(url: str) -> str:
    """ " (dead: ...)" for a published address that is known not to answer any more; else ""."""
    return " (dead: its host no longer serves the file)" if url.startswith(DEAD) else ""


@dataclass(frozen=True)
class Hub:
    """A repository of data sets on the Hugging Face hub. It is asked before the published addresses.

    Attributes:
        repos: names of the repository, tried in this order.
        revision: branch, tag or commit; "": the default branch.
        shards: whether it is a webdataset (train/*.tar, test/*.tar, classnames.txt) of one dataset; else it holds
            archives of several datasets in CoOp's layout, each with the name of its dataset's folder.
        size: approximate download size in MB; 0 if not known.
    """

    repos: tuple[str, ...]
    revision: str = ""
    shards: bool = False
    size: int = 0

    @property
    def page(self) -> str:
        """Web page of the repository."""
        return f"https://huggingface.co/datasets/{self.repos[0]}"


COOP = Hub(("zhengli97/prompt_learning_dataset",))  # CoOp's sets but ImageNet, with its split files


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
        some: whether an archive may lack a part of `put`.
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
    some: bool = False

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
