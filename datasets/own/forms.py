"""Read the user's own images, in each of their forms, into a plain listing of (path, label).

- a folder of class folders;
- the folders train, val and test (any two of them, or all) with class folders in each;
- a table, CSV or TSV, with the columns path and label, and split if the images are divided;
- Hugging Face's `imagefolder` with metadata.csv or metadata.jsonl (file_name, label), one for all or one in each part.

Labels are kept as the data give them, as text; `entry.py` turns them into class names.
"""

from __future__ import annotations

import csv
import json
import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from dassl.utils import UserError, counted, open_file
from datasets.folders import are, some
from datasets.readers import IMAGE_ENDINGS, image_names, subfolders

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
TABLES = (".csv", ".tsv")
METADATA = ("metadata.csv", "metadata.jsonl")
EXPECTED = "a table has the columns path,label or path,label,split (or file_name in place of path)"
# Pictures that Pillow does not read. They are reported, because their owner expects them to be used.
NOT_READ = (".heic", ".heif", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw", ".pdf")

Rows = list[tuple[str, str]]  # (path, label)


@dataclass
class Listing:
    """The images that were found.

    Attributes:
        where: the folder or file that was read, for messages.
        folder: paths are relative to it.
        parts: {"train", "val", "test" or None: [(path, label), …]}; None holds images whose part is not given.
        notes: what was left out, in words.
    """

    where: Path
    folder: Path
    parts: dict[str | None, Rows] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """Every label once: numbers by their value, other labels in alphabetical order."""
        found = {label for part in self.parts.values() for _, label in part}
        return sorted(found, key=int if all(map(is_number, found)) else None)


def is_number(label: str) -> bool:
    return label.isascii() and label.isdigit() and len(label) < 19


def read_listing(place: Path) -> Listing:
    """Recognise the form of the file or folder `place` and read it.

    Raises:
        UserError: the form is unknown, ambiguous, or its content contradicts itself.
        FileNotFoundError: a table names images that do not exist.
    """
    if place.is_file():
        if place.suffix.lower() not in (*TABLES, ".jsonl"):
            found = place.suffix or "file without an ending"
            raise UserError(f"{place}: found a {found}, expected a folder, .csv or .tsv")
        return _listed(place, place.parent, [(None, place)])
    if not place.is_dir():
        raise UserError(f"{place}: found a pipe, a socket or a device, expected a folder, .csv or .tsv")
    names = subfolders(place)
    if file := _metadata(place):
        return _listed(file, place, [(None, file)])
    parts = [name for name in names if name.lower() in PARTS]
    if files := [(PARTS[name.lower()], file) for name in parts if (file := _metadata(place / name))]:
        listing = _listed(files[0][1] if len(files) == 1 else place, place, files)
        if without := [name for name in parts if not _metadata(place / name)]:
            listing.notes.append(f"left out: {some(without)}, without {files[0][1].name}")
        return listing
    tables = sorted(f for f in place.iterdir() if f.suffix.lower() in TABLES and not f.name.startswith("."))
    columns = {file: _header(file)[0] for file in tables}
    usable = [file for file in tables if not _lacking(columns[file])]
    if len(usable) > 1:
        raise UserError(f"{place} holds several tables of images: {some(f.name for f in usable)}; give one as ROOT")
    if usable:
        return _listed(usable[0], place, [(None, usable[0])])
    unusable = next((file for file in tables if columns[file]), None)
    unused = unusable and (
        f"the table {unusable.name} is not used, because its first line is {', '.join(columns[unusable])[:100]}"
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
        found += f", and the table {unusable.name} with the columns {', '.join(columns[unusable])}"
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


# ---- tables ---------------------------------------------------------------------------------------------------------


def _metadata(folder: Path) -> Path | None:
    """The metadata file of Hugging Face's layout in a folder."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _lacking(columns: list[str]) -> list[str]:
    """The required columns that a table does not have."""
    required = (("path", "file_name"), ("label",))
    return [names[0] for names in required if not set(names) & set(columns)]


def _header(file: Path) -> tuple[list[str], str]:
    """The columns of a table in lower case, and the character between them, out of comma, semicolon and tab."""
    try:
        with open_file(file, encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
    except UnicodeDecodeError:
        raise UserError(f"{file} is not text in UTF-8; save it as CSV in UTF-8") from None
    split = {mark: [c.strip().strip('"').strip().lower() for c in first.split(mark)] for mark in ",;\t"}
    mark = min(split, key=lambda m: (len(_lacking(split[m])), -len(split[m])))
    return [column for column in split[mark] if column], mark


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, {column in lower case: text}) of the lines of a table or .jsonl file that are not blank."""
    columns, mark = ([], "") if file.suffix.lower() == ".jsonl" else _header(file)
    if mark:
        _require(columns, str(file))
        if twice := [column for column, count in Counter(columns).items() if count > 1]:
            raise UserError(f"{file} has the column {twice[0]} twice; expected each column once")
    try:
        with open_file(file, encoding="utf-8-sig", newline="") as stream:
            if not mark:
                yield from _json_rows(file, stream)
                return
            reader = csv.DictReader(stream, delimiter=mark)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames]
            for row in reader:
                row.pop(None, None)  # cells beyond the last column
                if any(cell and cell.strip() for cell in row.values()):
                    # The quotes of a cell may hold line breaks; then the number is that of its last line.
                    yield reader.line_num, {name: (cell or "").strip() for name, cell in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a table in UTF-8: {error}") from None


def _json_rows(file: Path, stream) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = {str(key).lower(): value for key, value in dict(json.loads(line)).items()}
        except (ValueError, TypeError, RecursionError):
            raise UserError(f'{file}, line {number}: expected {{"file_name": …, "label": …}}') from None
        _require(list(row), f"{file}, line {number}")
        yield number, {key: str(value).strip() for key, value in row.items() if isinstance(value, (str, int))}


def _require(columns: list[str], where: str) -> None:
    if lacking := _lacking(columns):
        raise UserError(f"{where}: no column {' and '.join(lacking)} among {', '.join(columns) or 'none'}; {EXPECTED}")


def _listed(where: Path, folder: Path, files: list[tuple[str | None, Path]]) -> Listing:
    """The images of one table, or of one table in each part."""
    listing, problems = Listing(where, folder), defaultdict(list)  # {(noun, what is wrong): lines}
    seen: dict[str, tuple[str, str | None, str]] = {}
    repeated = 0
    for part, file in files:
        below = file.parent.relative_to(folder).as_posix()
        for number, row in _rows(file):
            line = f"line {number}" if len(files) == 1 else f"{file.relative_to(folder)} line {number}"
            path, label, split = row.get("path") or row.get("file_name"), row.get("label"), row.get("split")
            if not path or not label:
                problems["line", "without a path or a label"].append(line)
                continue
            if os.path.isabs(path):
                path = Path(os.path.relpath(path, folder)).as_posix()
            else:
                path = posixpath.normpath(posixpath.join(below, path.replace("\\", "/")))
            own = part or PARTS.get(split.lower()) if split else part
            if split and not own:
                problems["line", f"whose split is none of {', '.join(PARTS)}"].append(f"{line} ({split!r})")
            first_label, first_part, first_line = seen.setdefault(path, (label, own, line))
            if first_line == line:
                listing.parts[own].append((path, label))
            elif first_label != label:
                problems["image", "with two labels"].append(
                    f"{path}: {first_label!r} in {first_line}, {label!r} in {line}"
                )
            elif first_part != own:
                problems["image", "in two splits"].append(f"{path}: {first_part} in {first_line}, {own} in {line}")
            else:
                repeated += 1
    if None in listing.parts and len(listing.parts) > 1:
        problems["image", "without a split, though others have one"] += [path for path, _ in listing.parts[None]]
    if problems:
        texts = (f"{counted(len(all_), what)} {wrong}: {some(all_)}" for (what, wrong), all_ in problems.items())
        raise UserError(f"{where}: {'; '.join(texts)}")
    if not seen:
        raise UserError(f"{where} lists no image")
    if repeated:
        listing.notes.append(f"left out: {counted(repeated, 'line')} with an image that an earlier line has")
    # A table without splits whose images all lie in train/, val/ or test/ is divided by these folders (Hugging Face).
    parts = {top: PARTS.get(top.lower()) for top in {path.partition("/")[0] for path, _ in listing.parts.get(None, ())}}
    if None not in parts.values() and "train" in parts.values():
        for path, label in listing.parts.pop(None):
            listing.parts[parts[path.partition("/")[0]]].append((path, label))
    if gone := [path for path in seen if not os.path.isfile(folder / path)]:
        raise FileNotFoundError(
            f"{where}: {len(gone):,} of {len(seen):,} images {are(len(gone))} missing, expected below {folder}: "
            f"{some(gone)}; paths are relative to the table's folder"
        )
    return listing
