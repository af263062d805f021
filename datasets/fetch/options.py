"""What the download command was asked for, and small steps that all downloads share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dassl.utils.transfer import Unreachable, forget
from datasets.fetch.hub import HubFile, files_of
from datasets.known.remote import DEAD, Hub, RemoteFile
from datasets.known.row import Row

MB = 10**6
TEMPORARY = ".unpacking-"


@dataclass(frozen=True)
class Options:
    """What the command was asked for.

    Attributes:
        root: the data root.
        mirror: URL or folder that is tried first.
        keep: whether archives are kept.
        say: prints a line.
        asked: the answers of the hub so far, {repository: its files, or why they are not known}.
    """

    root: Path
    mirror: str = ""
    keep: bool = False
    say: Callable[[str], None] = print
    asked: dict[Hub, tuple[HubFile, ...] | Unreachable] = field(default_factory=dict)

    @property
    def mirror_folder(self) -> Path | None:
        """The mirror as a folder of this machine; None for a URL or no mirror."""
        return Path(self.mirror).expanduser() if self.mirror and "://" not in self.mirror else None

    def on_hub(self, hub: Hub) -> tuple[HubFile, ...]:
        """The files of a repository, which is asked once. Raises Unreachable."""
        if hub not in self.asked:
            try:
                self.asked[hub] = files_of(hub)
            except Unreachable as error:
                self.asked[hub] = error
        found = self.asked[hub]
        if isinstance(found, Unreachable):
            raise found
        return found


def is_there(path: Path) -> bool:
    """Whether `path` is a file, or a folder that is not empty."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def lacking(row: Row, root: Path) -> list[RemoteFile]:
    """The files of a row whose content is not completely in place. With a split file no lists of images are needed."""
    folder = root / row.folder
    listed = any((folder / name).is_file() for name in row.split_files)

    def is_list(file: RemoteFile) -> bool:
        return all(any(f"{need}/".startswith(f"{place}/") for need in row.needs) for place in file.places)

    return [
        file
        for file in row.files
        if not all(is_there(folder / place) for place in file.places) and not (listed and is_list(file))
    ]


def at_hand(row: Row, file: RemoteFile, options: Options) -> Path | None:
    """Where the user put a file: in the dataset's folder, or in a mirror that is a folder. None if it is in neither."""
    folder, mirror = options.root / row.folder, options.mirror_folder
    places = [folder] if file.put else []  # without `put` the dataset's folder is its final place
    places += [mirror / row.folder, mirror] if mirror else []
    found = (place / name for place in places for name in (file.name, *file.also))
    return next((path for path in found if path.is_file()), None)


def sources(row: Row, file: RemoteFile, options: Options) -> list[str]:
    """The URLs that are tried for a file, in this order; dead ones last. Google Drive is tried after them."""
    mirror = options.mirror.rstrip("/") if options.mirror and not options.mirror_folder else ""
    urls = sorted(file.urls, key=lambda url: url.startswith(DEAD))
    return [*([f"{mirror}/{row.folder}/{file.name}"] if mirror else []), *urls]


def discard(archive: Path, ours: bool, folder: Path) -> str:
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


def move(source: Path, target: Path) -> bool:
    """Move a file or folder by one rename; returns False if `target` is there already."""
    if is_there(target):
        return False
    if target.is_dir():
        target.rmdir()
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(source, target)
    return True
