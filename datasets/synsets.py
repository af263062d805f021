"""Readers of ImageNet and its shifted sets: images in folders named by WordNet ids.

The class names are in CoOp's `classnames.txt`: lines of `n01440764 tench`, in the order of the labels. The file is
searched for in the dataset's own folder, then in ImageNet's. Without it, the names that open_clip ships (OpenAI's, in
the order of the labels) are used with the ids that timm ships.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dassl.utils import counted
from datasets.folders import are, some
from datasets.readers import class_names, in_folders, lines_of
from datasets.source import Raw

if TYPE_CHECKING:
    from datasets.known.row import Row

CLASSNAMES = "classnames.txt"
HELP = f"download CoOp's {CLASSNAMES} (Google Drive 1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF) and put it there"
LISTS = {
    "ImageNetA": "imagenet_a",
    "ImageNetR": "imagenet_r",
}  # timm's names; other sets have all of ImageNet's classes


def imagenet(row: Row, folder: Path) -> Raw:
    """images/{train,val}/<id>/*: pools "train" and "test"; the latter is the published validation set.

    Without the folder `train`, zero-shot and tests of trained models still work.

    Raises:
        ValueError: a part without class folders (e.g. a flat `val/`), or with unexpected ones.
    """
    pools, words = {}, classnames(row, folder)
    for pool, part in (("train", "train"), ("test", "val")):
        where = folder / row.images / part
        if part == "train" and not where.is_dir():
            continue
        names = _own(row, where, words)
        pools[pool] = in_folders(row, folder / row.images, names, part + "/")
    return Raw([tuple(words.values())], pools, listed=True)


def synset_folders(row: Row, folder: Path) -> Raw:
    """<images>/<id>/*, for testing only. The classes are those with a folder, in the order of ImageNet."""
    words = classnames(row, folder)
    names = _own(row, folder / row.images, words)
    pools = {"test": in_folders(row, folder / row.images, names, "")}
    return Raw([tuple(words[name] for name in names)], pools, listed=True)


def numbered_folders(row: Row, folder: Path) -> Raw:
    """<images>/<label>/*, for testing only."""
    words, images = classnames(row, folder), folder / row.images
    found, names = set(class_names(row, images)), [str(label) for label in range(len(words))]
    _compare(row, images, found, names)
    return Raw([tuple(words.values())], {"test": in_folders(row, images, names, "")}, listed=True)


def _own(row: Row, where: Path, words: dict[str, str]) -> list[str]:
    """The class folders in `where`, in the order of the labels."""
    found = set(class_names(row, where))
    expected = list(words)
    if row.classes < len(words):
        listed = shipped_ids(LISTS.get(row.name, ""))
        expected = [name for name in words if name in (listed or found)]
    _compare(row, where, found, expected)
    return expected


def _compare(row: Row, where: Path, found: set[str], expected: list[str]) -> None:
    odd, gone = sorted(found - set(expected)), [name for name in expected if name not in found]
    if odd or gone:
        parts = [f"{counted(len(gone), 'class folder')} {are(len(gone))} missing: {some(gone, 5)}"] if gone else []
        parts += [f"{counted(len(odd), 'folder')} of unknown classes: {some(odd, 5)}"] if odd else []
        raise ValueError(f"{row.name}: in {where} {'; '.join(parts)}. Unpack the images again.")


# ---- words -------------------------------------------------------------------------------------------------------


def classnames(row: Row, folder: Path) -> dict[str, str]:
    """{WordNet id: words} of the 1,000 classes of ImageNet, in the order of the labels.

    Args:
        row: the dataset.
        folder: its folder.

    Raises:
        ValueError: a damaged `classnames.txt`, or neither the file nor shipped names.
    """
    for place in (folder, folder.parent / "imagenet"):
        if (place / CLASSNAMES).is_file():
            return _read(place / CLASSNAMES)
    ids = shipped_ids("imagenet")
    if not ids:
        raise ValueError(f"{row.name}: no {CLASSNAMES} in {folder}, and timm has no list of classes; {HELP}")
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    print(f"{row.name}: no {CLASSNAMES} in {folder}; the class names that open_clip ships are used")
    return dict(zip(ids, IMAGENET_CLASSNAMES, strict=True))


def _read(path: Path) -> dict[str, str]:
    words = {}
    for line in lines_of(path):
        name, _, text = line.partition(" ")
        if not text.strip() or name in words:
            raise ValueError(f"{path}: found the line {line!r}, expected e.g. `n01440764 tench`, each id once; {HELP}")
        words[name] = text.strip()
    if len(words) != 1000:
        raise ValueError(f"{path}: found {len(words):,} classes, expected the 1,000 of ImageNet; {HELP}")
    return words


@cache
def shipped_ids(name: str) -> tuple[str, ...]:
    """WordNet ids that timm lists for `name` ("imagenet", "imagenet_a", "imagenet_r"); () without a list.

    Reads the file only, since importing timm takes a second.
    """
    found = importlib.util.find_spec("timm")
    path = Path(found.origin).parent / "data/_info" / f"{name}_synsets.txt" if found and found.origin else None
    return tuple(lines_of(path)) if path and path.is_file() else ()
