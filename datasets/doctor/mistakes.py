"""Common mistakes with data folders, and the command that fixes each.

Folders are listed up to `MOST` entries, so a folder of a million images costs no more than one of two thousand. No
image is opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from datasets.folders import listing, quoted, some
from datasets.known.row import Row
from datasets.rows import RowSource

FEW = 40  # a folder with more subfolders holds classes, not a dataset
DEPTH = 3  # levels below a folder that are searched
ARCHIVES = (".gz", ".tgz", ".bz2", ".xz", ".tar", ".zip", ".rar", ".7z")
# Names of folders of images that do not tell the dataset.
COMMON = {"images", "image", "img", "jpg", "data", "train", "test", "val", "validation", "dataset", "flowers"}


class Mistake(NamedTuple):
    """What was found, and the command that fixes it ("" without one)."""

    found: str
    fix: str = ""


def plain(name: str) -> str:
    """A name without capitals and punctuation: "Caltech_101" and "caltech-101" are the same."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def download(names: str, root: str) -> str:
    """The command that fetches datasets, unpacks their archives, or tells what to fetch by hand."""
    return f"python -m datasets.download {names} --root {quoted(root) if root else 'DATA'}"


# ---- the data root -------------------------------------------------------------------------------------------------


def wrong_root(root: str, rows: list[Row]) -> tuple[Mistake, str] | None:
    """(the mistake, the right root) if the datasets lie in a folder one level below `root`, or one or two above."""
    place = Path(root)
    if not place.is_dir() or any((place / row.folder).is_dir() for row in rows):
        return None

    def held(folder: Path) -> list[str]:
        return [row.folder for row in rows if (folder / row.folder / _images(row).split("/")[0]).is_dir()]

    deeper = [place / name for name in listing(place)[0][:200]]
    best = max((place.parent, place.parent.parent, *deeper), key=lambda folder: len(held(folder)))
    if not (there := held(best)):
        return None
    found = f"another data root: {some(f'{folder}/' for folder in there)} in {best}"
    return Mistake(found, f"--root {quoted(best)}"), str(best)


# ---- the folder of a dataset ---------------------------------------------------------------------------------------


def mistakes(source: RowSource, root: str) -> list[Mistake]:
    """Why the dataset of a row is not found or cannot be used.

    Args:
        source: the dataset.
        root: the data root, an existing folder.
    """
    row = source.row
    place, gone = Path(root, row.folder), source.absent(root)
    if not place.is_dir():
        return _elsewhere(row, place, Path(root)) or _archives(row, place, Path(root))
    if gone:
        empty = [] if any(listing(place)) else [Mistake(f"{place} is empty")]
        return _misplaced(row, place, gone) or _archives(row, place, Path(root)) or empty
    folders, files = listing(place / row.images)
    packed = not folders and all(name.lower().endswith(ARCHIVES) for name in files)
    return _archives(row, place, Path(root)) if packed else _nested(row, place)


def _elsewhere(row: Row, place: Path, root: Path) -> list[Mistake]:
    """The row's folder is missing: it may have another name, or its content may lie somewhere else."""
    images, folders = _images(row), listing(root)[0]
    top = images.split("/")[0]
    names = {plain(name) for name in (row.folder, row.name, *row.other_folders)}
    for name in folders:
        if plain(name) in names and name != top:
            where = _search(root / name, lambda folder: (folder / images).is_dir())
            if where or name.casefold() == row.folder.casefold():
                return [_belongs(where or root / name, place)]
    if top in folders and top not in COMMON:
        return [_belongs(root / top, place / top)]
    found = (root / name / row.folder for name in folders[:200])
    return [_belongs(where, place) for where in found if (where / images).is_dir()][:1]


def _misplaced(row: Row, place: Path, gone: list[str]) -> list[Mistake]:
    """The row's folder is there, but not everything that belongs into it."""

    def all_there(folder: Path) -> bool:
        return all((folder / entry).is_dir() if entry.endswith("/") else (folder / entry).is_file() for entry in gone)

    def alike(folder: Path, entry: str) -> Path | None:
        names = listing(folder)[0 if entry.endswith("/") else 1]
        return next((folder / name for name in names if name.casefold() == Path(entry).name.casefold()), None)

    if where := _search(place, all_there):
        return [Mistake(f"{some(gone)} in {where}, which is too deep", f"mv {quoted(where)}/* {quoted(place)}/")]
    found = []
    for entry in gone:
        if where := _search(place, lambda folder, entry=entry: alike(folder, entry) is not None):
            found.append(_belongs(alike(where, entry), place / entry))
    return found or _class_folders(row, place)


def _class_folders(row: Row, place: Path) -> list[Mistake]:
    """Class folders in the dataset's folder itself, or in a folder of another name, told by their number."""
    counts = range(row.classes, row.classes + len(row.skip) + 1)
    if not row.images or row.image_folders:
        return []
    folders, images = listing(place)[0], place / row.images
    if len(folders) in counts:
        aside = place.with_name(place.name + ".tmp")
        fix = f"{_move(place, aside)} && mkdir {quoted(place)} && {_move(aside, images)}"
        return [Mistake(f"the class folders in {place} belong into {images}", fix)]
    return [_belongs(place / name, images) for name in folders[:FEW] if len(listing(place / name)[0]) in counts][:1]


def _nested(row: Row, place: Path) -> list[Mistake]:
    """Folders of images that hold nothing but a folder of the same name."""
    found = []
    for where in (place / folder for folder in row.image_folders or (row.images,)):
        folders, files = listing(where)
        folders = [name for name in folders if name not in row.skip]
        if not files and [name.casefold() for name in folders] == [where.name.casefold()]:
            inner, aside = folders[0], where.with_name(where.name + ".tmp")
            fix = f"{_move(where, aside)} && {_move(aside / inner, where)} && rmdir {quoted(aside)}"
            found.append(Mistake(f"the images are in {where / inner}, which is too deep", fix))
    return found


def _archives(row: Row, place: Path, root: Path) -> list[Mistake]:
    """Archives that were not unpacked: any in the dataset's folders, and published ones in the data root."""
    known = {name for file in row.files if file.put for name in (file.name, *file.also)}
    found = []
    for folder in dict.fromkeys((place, place / row.images, root)):
        for name in listing(folder)[1]:
            if name not in known - {"archive.zip"} if folder == root else not name.lower().endswith(ARCHIVES):
                continue
            archive, fix = folder / name, ""
            if name in known:
                bring = "" if folder == place else f"{_belongs(archive, place / name).fix} && "
                fix = bring + download(row.name, str(root))
            wanted = "" if fix else f"; unpack it so that {place} contains {_images(row)}/"
            found.append(Mistake(f"{archive} is not unpacked{wanted}", fix))
    return found


# ---- searching -----------------------------------------------------------------------------------------------------


def _images(row: Row) -> str:
    """The first folder of images, relative to the row's folder."""
    return (row.image_folders or (row.images,))[0]


def _move(where: Path, place: Path) -> str:
    return f"mv {quoted(where)} {quoted(place)}"


def _belongs(where: Path, place: Path) -> Mistake:
    make = "" if place.parent.is_dir() else f"mkdir -p {quoted(place.parent)} && "
    return Mistake(f"{where} belongs at {place}", f"{make}{_move(where, place)}")


def _search(top: Path, test: Callable[[Path], bool]) -> Path | None:
    """The first folder that passes a test: `top` or one at most `DEPTH` levels below it."""
    level = [top]
    for _ in range(DEPTH + 1):
        if found := next(filter(test, level), None):
            return found
        lists = ((folder, listing(folder)[0]) for folder in level)
        level = [folder / name for folder, names in lists if len(names) <= FEW for name in names][:200]
    return None
