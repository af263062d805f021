"""The commonest mistakes with data folders, recognised by name, each with the command that mends it.

Nothing here is run while everything is in its place. Folders are listed up to `MOST` entries, so that a folder of a
million images costs no more than one of two thousand; no image is looked at except where that is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from dassl.utils.texts import counted
from dassl.utils.tools import not_a_download
from datasets import readers
from datasets.doctor.archives import archives_in, unpacking
from datasets.doctor.published import OTHER_FOLDERS, plain
from datasets.folders import MOST, listing, q, some
from datasets.table import Row

FEW = 40  # a folder with more subfolders than this holds classes, not a dataset
FLAT = (readers.fgvc_aircraft, readers.oxford_flowers, readers.oxford_pets, readers.stanford_cars)
# Folder names that say nothing about the dataset they belong to.
COMMON = {"images", "image", "img", "jpg", "data", "train", "test", "val", "validation", "dataset", "flowers"}
VALPREP = "https://raw.githubusercontent.com/soumith/imagenetloader.torch/master/valprep.sh"


class Mistake(NamedTuple):
    """A mistake by its name, what was found, and the command that mends it ("" where there is none)."""

    name: str
    found: str
    fix: str = ""


def expected(row: Row, with_split: bool = False) -> list[str]:
    """What must lie in a row's folder: "images/", "annotations/test.txt"; without the lists where a split file is."""
    folders = row.image_folders or (row.images,)
    return [f"{folder}/" for folder in folders] + ([] if with_split else list(row.needs))


# ---- the data root -------------------------------------------------------------------------------------------------


def wrong_root(root: str, rows: list[Row]) -> tuple[Mistake, str] | None:
    """Whether the datasets lie one level deeper than `root`, or around it: (the mistake, the right root)."""
    place = Path(root)
    if not rows or any((place / row.folder).is_dir() for row in rows):
        return None

    def held(folder: Path) -> list[str]:
        tops = ((row.folder, expected(row)[0].split("/")[0]) for row in rows)
        return [name for name, top in tops if (folder / name / top).is_dir()]

    if not place.is_dir():
        folders, _ = listing(place.parent)
        near = next((name for name in folders if plain(name) == plain(place.name)), "")
        if not near:
            return None
        right = place.parent / near
        return Mistake("wrong capitalisation", f"there is no {place}, but {right}", f"--root {q(right)}"), str(right)
    deeper = [place / name for name in listing(place)[0][:200]]
    around = [place.parent, place.parent.parent]
    best = max((*around, *deeper), key=lambda folder: len(held(folder)))
    there = held(best)
    if not there:
        return None
    if best in deeper:
        name = "data root one level too high"
    elif any(place.is_relative_to(best / folder) for folder in there):
        name = "data root inside a dataset"
    else:
        name = "another data root"
    return Mistake(name, f"{some(f'{folder}/' for folder in there)} in {best}", f"--root {q(best)}"), str(best)


# ---- the folder of a dataset ---------------------------------------------------------------------------------------


def mistakes(row: Row, root: str, with_split: bool) -> list[Mistake]:
    """Why the dataset of a row is not found, or cannot be used, the most telling first.

    Args:
        row: the dataset.
        root: the data root, an existing folder.
        with_split: whether a split file is used, so that the lists are not needed.
    """
    place = Path(root, row.folder)
    if not place.is_dir():
        return _elsewhere(row, Path(root), place)
    gone = [entry for entry in expected(row, with_split) if not there(place / entry, entry)]
    found = [*_saved_instead(row, place), *(_misplaced(row, Path(root), place, gone) if gone else _inside(row, place))]
    return list(dict.fromkeys(found))


def download(name: str, root: str) -> str:
    """The command that fetches a dataset, unpacks archives that lie in its folder, or tells what to fetch by hand."""
    return f"python -m datasets.download {name} --root {q(root) if root else 'DATA'}"


def there(path: Path, entry: str) -> bool:
    """Whether an entry of `expected` is there: a folder if it ends in a slash, else a file."""
    return path.is_dir() if entry.endswith("/") else path.is_file()


def _elsewhere(row: Row, root: Path, place: Path) -> list[Mistake]:
    """The row's folder is not there: it may have another name, or its content may lie in the root."""
    folders, _ = listing(root)
    entries = expected(row)
    names = {plain(name) for name in (row.folder, row.name, *OTHER_FOLDERS.get(row.folder, ()))}
    top = entries[0].split("/")[0]
    found = []
    for name in (name for name in folders if plain(name) in names):
        where = _holder(root / name, entries[:1])
        if where == root / name or (where is None and name != top and name.casefold() == row.folder.casefold()):
            alike = name.casefold() == row.folder.casefold()
            found.append(
                Mistake(
                    "wrong capitalisation" if alike else "another folder name",
                    f"{root / name} is called {row.folder} here",
                    f"mv {q(root / name)} {q(place)}",
                )
            )
        elif where:
            found.append(Mistake(_depth(where), f"{entries[0]} lies in {where}", f"mv {q(where)} {q(place)}"))
    if not found and top in folders and top not in COMMON:
        text = f"{root / top} belongs into the folder {row.folder}"
        fix = f"mkdir {q(place)} && mv {q(root / top)} {q(place)}/"
        if top.casefold() == row.folder.casefold():  # the two cannot lie side by side on every file system
            fix = f"mv {q(root / top)} {q(root / 'tmp')} && mkdir {q(place)} && mv {q(root / 'tmp')} {q(place / top)}"
        found.append(Mistake("unpacked without the dataset's folder", text, fix))
    if not found:
        for name in folders[:200]:
            if (root / name / row.folder / top).is_dir():
                where = root / name / row.folder
                found.append(
                    Mistake("in another folder of the data root", f"it is {where}", f"mv {q(where)} {q(root)}/")
                )
                break
    return found or _packed(row, place, root)


def _depth(where: Path) -> str:
    return "images/ left inside data/" if where.name == "data" else "unpacked one level too deep"


def _holder(top: Path, entries: list[str]) -> Path | None:
    """The folder, `top` or up to three levels below it, that holds all of the entries."""
    level = [top]
    for _ in range(4):
        for folder in level:
            if all(there(folder / entry, entry) for entry in entries):
                return folder
        lists = ((folder, listing(folder)[0]) for folder in level)
        level = [folder / name for folder, names in lists if len(names) <= FEW for name in names][:200]
    return None


def _misplaced(row: Row, root: Path, place: Path, gone: list[str]) -> list[Mistake]:
    """The row's folder is there, but not all that belongs into it."""
    folders, files = listing(place)
    if where := _holder(place, gone):
        return [Mistake(_depth(where), f"{some(gone)} in {where}", f"mv {q(where)}/* {q(place)}/")]
    found = [alike for entry in gone if (alike := _alike(place, entry))]
    for entry in gone:
        if entry.endswith("/"):
            continue
        where = _holder(place, [Path(entry).name])
        if where and not any(entry.startswith(f"{name}/") for name in folders if (place / name) == where):
            target = place / entry
            fix = f"mkdir -p {q(target.parent)} && mv {q(where / target.name)} {q(target)}"
            found.append(Mistake("file in another place", f"{target.name} lies in {where}", fix))
    if not found and gone[0].endswith("/") and len(row.image_folders) <= 1:
        found += _without_images_folder(row, place, folders)
    found = found or _packed(row, place, root)
    if not folders and not files:
        found.append(Mistake("empty folder", f"there is nothing in {place}"))
    return found


def _alike(base: Path, path: str) -> Mistake | None:
    """The first part of a path below `base` that is there with other capitals."""
    for part in path.strip("/").split("/"):
        if (base / part).exists():
            base = base / part
            continue
        folders, files = listing(base)
        near = next((name for name in folders + files if name.casefold() == part.casefold()), "")
        if not near:
            return None
        return Mistake(
            "wrong capitalisation", f"{base / near}, expected {part}", f"mv {q(base / near)} {q(base / part)}"
        )
    return None


def _without_images_folder(row: Row, place: Path, folders: list[str]) -> list[Mistake]:
    """Class folders that lie in the dataset's folder itself, or in a folder of another name."""
    if row.read in FLAT or not row.images or row.task_keys:
        return []
    counts = range(row.classes, row.classes + len(row.skip) + 1)
    if len(folders) in counts:
        tmp = place.with_name(place.name + ".tmp")
        fix = f"mv {q(place)} {q(tmp)} && mkdir {q(place)} && mv {q(tmp)} {q(place / row.images)}"
        return [Mistake("class folders one level too high", f"they lie in {place}, without {row.images}/", fix)]
    for name in folders[:FEW]:
        if len(listing(place / name)[0]) in counts:
            fix = f"mv {q(place / name)} {q(place / row.images)}"
            return [Mistake("another folder name", f"{place / name} is called {row.images} here", fix)]
    return []


def _packed(row: Row, place: Path, root: Path | None = None) -> list[Mistake]:
    """Archives that lie where the data should be."""
    found = []
    for archive in archives_in(row, place, root):
        damage = not_a_download(archive)
        fix, damage = ("", damage) if damage else unpacking(row, archive, place, root)
        if damage:
            found.append(Mistake("damaged archive", f"{archive}: {damage}; fetch it again"))
        else:
            found.append(Mistake("archive not unpacked", f"{archive}", fix))
    return found


# ---- the folders of images -----------------------------------------------------------------------------------------


def _inside(row: Row, place: Path) -> list[Mistake]:
    """All folders and lists are there, but what is in them cannot be used."""
    found: list[Mistake] = []
    for folder in row.image_folders or (row.images,):
        where = place / folder
        folders, files = listing(where)
        folders = [name for name in folders if name not in row.skip]
        images = [name for name in files if name.lower().endswith(readers.IMAGE_ENDINGS)]
        if not folders and not images:
            found += _packed(row, where) or [Mistake("empty folder", f"there is nothing in {where}")]
        elif not images and len(folders) == 1 and _nested(row, where / folders[0]):
            inner, tmp = where / folders[0], where.with_name(where.name + ".tmp")
            fix = f"mv {q(where)} {q(tmp)} && mv {q(tmp / inner.name)} {q(where)} && rmdir {q(tmp)}"
            found.append(Mistake("unpacked one level too deep", f"the images lie in {inner}", fix))
        elif images and not folders and row.read not in FLAT:
            found.append(_flat(row, where, len(images)))
        elif row.read not in FLAT:
            found += _empty_classes(row, where, folders)
    return found


def _nested(row: Row, inner: Path) -> bool:
    folders, files = listing(inner)
    return bool(files) if row.read in FLAT else bool(folders)


def _flat(row: Row, where: Path, count: int) -> Mistake:
    images = counted(count, "image") if count < MOST else f"more than {MOST:,} images"
    if row.name == "ImageNet" and where.name == "val":
        fix = f"cd {q(where)} && curl -LO {VALPREP} && bash valprep.sh"
        return Mistake("ImageNet val/ is flat", f"{images} in {where}, no folder for each class", fix)
    text = f"{images} in {where}, no folder for each class; unpack the archive with its folders"
    return Mistake("images are flat", text)


def _empty_classes(row: Row, where: Path, folders: list[str]) -> list[Mistake]:
    empty = [name for name in folders if not any(listing(where / name))]
    if not empty:
        return []
    text = f"{len(empty)} of {len(folders)} in {where}: {some(empty)}"
    if not row.task_keys and len(folders) - len(empty) == row.classes:  # they are no classes at all
        return [Mistake("empty folders", text, f"rmdir {' '.join(q(where / name) for name in empty)}")]
    return [Mistake("empty class folders", f"{text}; unpack the archive again")]


# ---- files that are something else ----------------------------------------------------------------------------------


def saved_instead(paths: Iterable[Path], what: str, place: Path, list_all: str) -> Mistake | None:
    """Web pages, Git LFS pointers and empty files among files that should be something else; opens each once."""
    looked, reasons = 0, []
    for path in paths:
        looked += 1
        try:
            reason = not_a_download(path)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
        if reason:
            reasons.append((path, reason))
    if not reasons:
        return None
    first, reason = reasons[0]
    text = f"{len(reasons)} of {looked} {what} looked at, e.g. {first}"
    if "LFS" in reason:
        return Mistake(f"Git LFS pointers saved as {what}", text, f"git -C {q(place)} lfs pull")
    if "web page" in reason:
        return Mistake(f"web pages saved as {what}", f"{text}; fetch them again", list_all)
    if "empty" in reason:
        return Mistake(f"empty files saved as {what}", f"{text}; fetch or unpack them again", list_all)
    return Mistake(f"unreadable {what}", f"{text}: {reason}")


def _saved_instead(row: Row, place: Path) -> list[Mistake]:
    """The lists and the split file, and a few images of each folder."""
    lists = [place / file for file in (*row.needs, *row.split_files) if (place / file).is_file()]
    images = list(islice(_a_few(row, place), 24))
    parts = (saved_instead(lists, "lists", place, ""), saved_instead(images, "images", place, ""))
    return [mistake for mistake in parts if mistake]


def _a_few(row: Row, place: Path) -> Iterator[Path]:
    for folder in row.image_folders or (row.images,):
        folders, files = listing(place / folder)
        for inner in [place / folder, *(place / folder / name for name in folders[:4])]:
            images = (name for name in listing(inner)[1] if name.lower().endswith(readers.IMAGE_ENDINGS))
            yield from (inner / name for name in islice(images, 4))
