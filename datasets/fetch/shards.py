"""Lay out a webdataset: tar files in which `KEY.jpg` and `KEY.cls` are an image and its class number.

The shards of a part are unpacked to `images/<part>/KEY.jpg`, and `images/labels.tsv` lists `<part>/KEY.jpg` and its
class numbers, of which an image of a tagging task may have several. Plain files can be looked at, cached and repaired
like those of any other dataset.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from dassl.utils.disk import blocks_of, write_sparing
from datasets.fetch.archives import BROKEN, ArchiveError, UselessArchive, tar_members
from datasets.readers import IMAGE_ENDINGS, LABELS_FILE

LABELS = (".cls", ".npy")  # a class number; or one 0 or 1 per class


class DamagedShard(ArchiveError):
    """A shard that is damaged. `path` is its path in the repository."""

    def __init__(self, path: str, reason: Exception):
        super().__init__(f"{path} is damaged ({str(reason) or type(reason).__name__})")
        self.path = path


def unpack_shards(shards: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Unpack shards into `folder`, which does not exist.

    Args:
        shards: {part: its files}.
        folder: the destination; the caller removes it if this function raises.

    Raises:
        DamagedShard: a damaged shard.
        ArchiveError: a sample without an image or without a label, or a key that occurs twice.
        OSError: the disk.
    """
    lines = []
    for part, paths in shards.items():
        (folder / part).mkdir(parents=True)
        for shard in paths:
            try:
                lines += _unpack(shard, part, folder / part)
            except BROKEN as error:
                raise DamagedShard(f"{part}/{shard.name}", error) from None
            except UselessArchive as error:
                raise DamagedShard(f"{part}/{shard.name}", error) from None
    with open(folder / LABELS_FILE, "w", encoding="utf-8") as file:
        file.writelines(lines)


def _unpack(shard: Path, part: str, folder: Path) -> Iterator[str]:
    """Write the images of one shard; yields their lines of labels.tsv."""
    images: dict[str, str] = {}
    labels: dict[str, str] = {}
    for name, kind, content in tar_members(shard):
        if kind != "file":
            continue
        # as in webdataset: the key ends at the first dot of the file's name
        path = PurePosixPath(name.replace("\\", "/"))
        stem, _, ending = path.name.partition(".")
        if not stem:
            continue
        key, ending = "_".join([*(p for p in path.parent.parts if p not in ("..", "/")), stem]), f".{ending.lower()}"
        if ending in LABELS:
            labels[key] = _label(content, ending, f"{part}/{shard.name}: {name}")
        elif ending in IMAGE_ENDINGS:
            target = folder / f"{key}{ending}"
            if key in images or target.exists():
                raise ArchiveError(f"{part}/{shard.name} has the key {key} twice, or another shard has it")
            images[key] = f"{part}/{target.name}"
            with open(target, "wb") as file:
                write_sparing(file, blocks_of(content))
    if odd := sorted(images.keys() ^ labels.keys()):
        what = "image" if odd[0] in labels else "label"
        raise ArchiveError(f"{part}/{shard.name}: {odd[0]} has no {what}; expected {odd[0]}.jpg and {odd[0]}.cls")
    return (f"{images[key]}\t{labels[key]}\n" for key in images)


def _label(content: IO[bytes], ending: str, where: str) -> str:
    """The class numbers of a sample, separated by blanks."""
    data = content.read()
    try:
        if ending == ".cls":
            return str(int(data))
        import numpy as np

        return " ".join(map(str, np.flatnonzero(np.load(io.BytesIO(data), allow_pickle=False))))
    except ValueError:
        raise ArchiveError(f"{where} is not a class number: {data[:40]!r}") from None
