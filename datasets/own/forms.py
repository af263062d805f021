"""Read the user's own images, in each of their forms, into a plain listing of (path, label).

- a folder of class folders;
- the folders train, val and test (any two of them, or all) with class folders in each;
- a table, CSV or TSV, with the columns path and label, and split if the images are divided;
- Hugging Face's `imagefolder` with metadata.csv or metadata.jsonl (file_name, label), one for all or one in each part.

Labels are kept as the data give them, as text; `entry.py` turns them into class names.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from dassl.utils import UserError, counted
from datasets.folders import some
from datasets.own.tables import EXPECTED, LABEL, LISTS, PARTS, TABLES, Listing, Rows, header, lacking, listed, metadata
from datasets.readers import IMAGE_ENDINGS, image_names, subfolders

# Pictures that Pillow does not read. They are reported, because their owner expects them to be used.
NOT_READ = (".heic", ".heif", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw", ".pdf")


def read_listing(place: Path, columns: Mapping[str, bool] | None = None) -> Listing:
    """Recognise the form of the file or folder `place` and read it.

    `columns`: the columns of a table with one column per task, see `listed`; None: any form with one label per image.

    Raises:
        UserError: the form is unknown, ambiguous, or its content contradicts itself.
        FileNotFoundError: a table names images that do not exist.
    """
    if place.is_file():
        if place.suffix.lower() not in (*TABLES, *LISTS):
            found = place.suffix or "file without an ending"
            raise UserError(f"{place}: found a {found}, expected a folder, .csv or .tsv")
        return listed(place, place.parent, [(None, place)], columns)
    if not place.is_dir():
        raise UserError(f"{place}: found a pipe, a socket or a device, expected a folder, .csv or .tsv")
    names = subfolders(place)
    if file := metadata(place):
        return listed(file, place, [(None, file)], columns)
    parts = [name for name in names if name.lower() in PARTS]
    if files := [(PARTS[name.lower()], file) for name in parts if (file := metadata(place / name))]:
        listing = listed(files[0][1] if len(files) == 1 else place, place, files, columns)
        if without := [name for name in parts if not metadata(place / name)]:
            listing.notes.append(f"left out: {some(without)}, without {files[0][1].name}")
        return listing
    tables = sorted(f for f in place.iterdir() if f.suffix.lower() in TABLES and not f.name.startswith("."))
    wanted = LABEL if columns is None else tuple(columns)
    headers = {file: header(file, wanted)[0] for file in tables}
    usable = [file for file in tables if not lacking(headers[file], wanted)]
    if columns is not None and not usable:
        if len(tables) == 1:
            usable = tables  # the columns that it lacks are reported
        else:
            raise UserError(f"{place} holds no table with the columns path, {', '.join(columns)}; give one as ROOT")
    if len(usable) > 1:
        raise UserError(f"{place} holds several tables of images: {some(f.name for f in usable)}; give one as ROOT")
    if usable:
        return listed(usable[0], place, [(None, usable[0])], columns)
    unusable = next((file for file in tables if headers[file]), None)
    unused = unusable and (
        f"the table {unusable.name} is not used, because its first line is {', '.join(headers[unusable])[:100]}"
    )
    if names:
        try:
            listing = _divided_folders(place, names) or _class_folders(place, names)
        except UserError as error:
            if not unused:
                raise
            raise UserError(f"{error}; {unused}; {EXPECTED}") from None
        listing.notes += [unused] if unused else []
        return listing
    found = f"found {counted(len(image_names(place)), 'image')} and no folder"
    if unusable:
        found += f", and the table {unusable.name} with the columns {', '.join(headers[unusable])}"
    raise UserError(f"{place} has no class folder: {found}; expected one folder per class, or a table; {EXPECTED}")


# ---- class folders -------------------------------------------------------------------------------------------------


def _divided_folders(place: Path, names: list[str]) -> Listing | None:
    """Read train, val and test with class folders in them; None if the folders are classes themselves."""
    parts = {name: PARTS[name.lower()] for name in names if name.lower() in PARTS}
    sure = [name for name, part in parts.items() if part == "train"] or (parts if len(parts) == len(names) else [])
    wrong = [name for name in sure if image_names(place / name) or not subfolders(place / name)]
    if wrong and len(parts) == len(names):
        images, folders = image_names(place / wrong[0]), subfolders(place / wrong[0])
        found = f"{counted(len(images), 'image')} and {counted(len(folders), 'folder')} in {wrong[0]}"
        raise UserError(f"{place} has the folders {some(names)}; found {found}, expected class folders and no image")
    known = ("train", "val", "test")
    misspelt = {name: near[0] for name in names if name not in parts and (near := _near_part(name, known))}
    if parts and misspelt and not any(image_names(place / name) for name in [*parts, *misspelt]):
        name, near = next(iter(misspelt.items()))
        raise UserError(f"{place} has the folder {name} beside {some(parts)}; rename {name}, e.g. to {near}")
    if wrong or not sure:
        return None  # "train" can be a class, too: of vehicles
    if twice := [part for part, count in Counter(parts.values()).items() if count > 1]:
        same = some(name for name, part in parts.items() if part == twice[0])
        raise UserError(f"{place} has several folders for one part: {same}; expected one train, val and test each")
    listing = Listing(place, place)
    for name, part in parts.items():
        if classes := subfolders(place / name):
            listing.parts[part] = [row for c in classes for row in _images_of(place, f"{name}/{c}", c, listing.notes)]
        elif images := len(image_names(place / name)):
            listing.notes.append(f"left out of {name}: {counted(images, 'image')} outside class folders")
    if others := [name for name in names if name not in parts]:
        listing.notes.append(f"left out, beside {some(parts)}: {some(others)}")
    return listing


def _near_part(name: str, known: tuple[str, ...]) -> list[str]:
    return get_close_matches(name.lower(), known, n=1, cutoff=0.7)


def _class_folders(place: Path, names: list[str]) -> Listing:
    if len(names) == 1 and not image_names(place / names[0]) and len(inner := subfolders(place / names[0])) > 1:
        raise UserError(
            f"{place} has one folder only, {names[0]}, which holds the folders {some(inner)}; if these are the "
            f"classes, ROOT is {place / names[0]}"
        )
    listing = Listing(place, place)
    listing.parts[None] = [row for name in names for row in _images_of(place, name, name, listing.notes)]
    if stray := len(image_names(place)):
        listing.notes.append(f"left out: {counted(stray, 'image')} beside the class folders")
    return listing


def _images_of(place: Path, folder: str, label: str, notes: list[str]) -> Rows:
    """(path, label) of the images in a class folder and its subfolders. Raises UserError if it has no image."""
    rows, unread = [], Counter()
    if Path(os.path.realpath(place / folder)) in (real := Path(os.path.realpath(place)), *real.parents):
        raise UserError(f"{place}: the class folder {folder} is a link to a folder that contains it; remove the link")
    for where, inner, files in os.walk(place / folder):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        below = Path(where).relative_to(place).as_posix()
        for name in sorted(name for name in files if not name.startswith(".")):
            ending = os.path.splitext(name)[1].lower()
            if ending in IMAGE_ENDINGS:
                rows.append((f"{below}/{name}", label))
            elif ending in NOT_READ:
                unread[ending] += 1
    others = some(counted(count, f"{ending} file") for ending, count in sorted(unread.items()))
    if not rows:
        hint = f"convert its {others}, to .jpg for example" if others else "fill or remove it"
        raise UserError(f"{place}: the class folder {folder} has no image; {hint}")
    if others:
        notes.append(f"left out of {folder}: {others}; convert them, to .jpg for example")
    return rows
