"""The forms that somebody's own images come in, each read into a plain listing of (path, label).

- a folder of class folders;
- the folders train, val and test (any two of them, or all) with class folders in each;
- a table, CSV or TSV, with the columns path and label, and split if the images are divided;
- Hugging Face's `imagefolder` with metadata.csv or metadata.jsonl (file_name, label), one for all or one in each part.

Labels stay what the data call them, as text; names of classes are not this module's business.
"""

from __future__ import annotations

import csv
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dassl.utils import UserError, counted
from datasets.folders import are, some
from datasets.readers import IMAGE_ENDINGS, image_names, subfolders

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
PATH_COLUMNS = ("path", "file_name")
TABLES = (".csv", ".tsv")
METADATA = ("metadata.csv", "metadata.jsonl")
EXPECTED = "expected the columns path,label or path,label,split (or file_name in place of path)"
# Pictures that Pillow does not read: whoever has them in a class folder should know that they are not used.
NOT_READ = (".heic", ".heif", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw", ".pdf")


@dataclass
class Listing:
    """What was found.

    Attributes:
        where: the folder or file that was read, for messages.
        folder: what the paths are relative to.
        parts: {"train", "val", "test" or None: [(path, label), …]}; None holds images that no part is given for.
        notes: what was left out, in words.
    """

    where: Path
    folder: Path
    parts: dict[str | None, list[tuple[str, str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """Every label once: numbers by their value, else by the alphabet."""
        found = {label for part in self.parts.values() for _, label in part}
        return sorted(found, key=int) if found and all(map(is_number, found)) else sorted(found)


def is_number(label: str) -> bool:
    return label.isascii() and label.isdigit()


def read_listing(place: Path) -> Listing:
    """Recognise the form of the file or folder `place` and read it.

    Raises:
        UserError: none of the forms, or one that contradicts itself.
        FileNotFoundError: a table names images that are not there.
    """
    if place.is_file():
        if place.suffix.lower() not in (*TABLES, ".jsonl"):
            raise UserError(
                f"{place}: found a {place.suffix or 'file without an ending'}, expected a folder, .csv or .tsv"
            )
        return _listed(place, place.parent, [(None, place)])
    if files := _metadata(place):
        listing = _listed(files[0][1] if len(files) == 1 else place, place, files)
        used = {file.parent for _, file in files}
        without = [name for name in subfolders(place) if name.lower() in PARTS and place / name not in used]
        if without and place not in used:
            listing.notes.append(f"left out: {some(without)}, without {files[0][1].name}")
        return listing
    tables = [(file, header) for file in _tables(place) if (header := _header(file)[0])]
    usable = [file for file, header in tables if _column(header, PATH_COLUMNS) and "label" in header]
    if len(usable) > 1:
        raise UserError(f"{place} holds several tables of images: {some(f.name for f in usable)}; give one as ROOT")
    if usable:
        return _listed(usable[0], place, [(None, usable[0])])
    if not (names := subfolders(place)):
        raise UserError(_nothing(place, tables))
    return _divided_folders(place, names) or _class_folders(place, names)


# ---- class folders -------------------------------------------------------------------------------------------------


def _nothing(place: Path, tables: list[tuple[Path, list[str]]]) -> str:
    if tables:
        file, header = tables[0]
        return f"{place} has no class folder, and {file.name} has the columns {', '.join(header)}; {EXPECTED}"
    images = len(image_names(place))
    found = f"found {counted(images, 'image')} and no folder" if images else "found neither folders nor a table"
    return (
        f"{place} has no class folder: {found}; expected a folder for each class with its images in it, or a table "
        "path,label (.csv)"
    )


def _divided_folders(place: Path, names: list[str]) -> Listing | None:
    """train, val and test with class folders in them; None where the folders are classes themselves."""
    parts = {name: PARTS[name.lower()] for name in names if name.lower() in PARTS}
    sure = [name for name, part in parts.items() if part == "train"] or (parts if len(parts) == len(names) else [])
    if not sure or not all(subfolders(place / name) and not image_names(place / name) for name in sure):
        return None  # "train" can be a class, too: of vehicles
    listing = Listing(place, place)
    if twice := [part for part, count in Counter(parts.values()).items() if count > 1]:
        same = [name for name, part in parts.items() if part == twice[0]]
        raise UserError(
            f"{place} has several folders for one part: {some(same)}; expected one train, val and test each"
        )
    for name, part in parts.items():
        classes = subfolders(place / name)
        if classes:
            listing.parts[part] = [row for c in classes for row in _images_of(place, f"{name}/{c}", c, listing.notes)]
        elif images := len(image_names(place / name)):
            listing.notes.append(f"{name}/ is left out: {counted(images, 'image')}, not in class folders")
    if others := [name for name in names if name not in parts]:
        listing.notes.append(f"left out, beside {some(parts)}: {some(others)}")
    return listing


def _class_folders(place: Path, names: list[str]) -> Listing:
    if len(names) == 1 and not image_names(place / names[0]) and len(inner := subfolders(place / names[0])) > 1:
        raise UserError(
            f"{place} has one folder only, {names[0]}, with the folders {some(inner)} in it; if these are the classes, "
            f"ROOT is {place / names[0]}"
        )
    listing = Listing(place, place)
    rows = [row for name in names for row in _images_of(place, name, name, listing.notes)]
    if stray := len(image_names(place)):
        listing.notes.append(f"left out: {counted(stray, 'image')} beside the class folders")
    listing.parts[None] = rows
    return listing


def _images_of(place: Path, folder: str, label: str, notes: list[str]) -> list[tuple[str, str]]:
    """(path, label) of the images in a class folder and the folders in it. Raises UserError where there is none."""
    rows, others = [], Counter()
    for where, inner, files in os.walk(place / folder):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        below = Path(where).relative_to(place).as_posix()
        for name in sorted(files):
            ending = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if ending in IMAGE_ENDINGS:
                rows.append((f"{below}/{name}", label))
            elif ending in NOT_READ:
                others[ending] += 1
    unread = some(counted(count, f"{ending} file") for ending, count in sorted(others.items()))
    if not rows:
        hint = f"it has {unread}, which must be converted, to .jpg for example" if others else "fill or remove it"
        raise UserError(f"{place}: there is no image in the class folder {folder}; {hint}")
    if others:
        notes.append(f"left out of {folder}: {unread}; convert them, to .jpg for example")
    return rows


# ---- tables ---------------------------------------------------------------------------------------------------------


def _metadata(place: Path) -> list[tuple[str | None, Path]]:
    """[(part, metadata file)] of Hugging Face's layout, part None for one file for all; nothing where there is none."""
    for name in METADATA:
        if (place / name).is_file():
            return [(None, place / name)]
    found = []
    for folder in subfolders(place):
        file = next((place / folder / name for name in METADATA if (place / folder / name).is_file()), None)
        if file and folder.lower() in PARTS:
            found.append((PARTS[folder.lower()], file))
    return found


def _tables(place: Path) -> list[Path]:
    return sorted(f for f in place.iterdir() if f.suffix.lower() in TABLES and not f.name.startswith("."))


def _open(file: Path):
    return open(file, encoding="utf-8-sig", newline="")


def _header(file: Path) -> tuple[list[str], str]:
    """The columns of a table in lower case, and the character between them: of , ; and tab the one that fits best."""
    try:
        with _open(file) as stream:
            first = stream.readline()
    except UnicodeDecodeError:
        raise UserError(f"{file} is not text in UTF-8; save it as CSV in UTF-8") from None
    split = {mark: [c.strip().strip('"').strip().lower() for c in first.split(mark)] for mark in ",;\t"}
    fits = [m for m, columns in split.items() if _column(columns, PATH_COLUMNS) and "label" in columns]
    mark = fits[0] if fits else max(split, key=lambda m: len(split[m]))
    return [column for column in split[mark] if column], mark


def _column(header: list[str], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in header), "")


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, {column: text}) of a table or a .jsonl; columns in lower case, nothing for those a line lacks."""
    if file.suffix.lower() == ".jsonl":
        yield from _json_rows(file)
        return
    header, mark = _header(file)
    _require(file, header)
    try:
        with _open(file) as stream:
            reader = csv.reader(stream, delimiter=mark)
            columns = [name.strip().lower() for name in next(reader)]
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    # The quotes of a cell may hold line breaks; then the number is that of its last line.
                    yield reader.line_num, {n: c.strip() for n, c in zip(columns, cells, strict=False)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a table in UTF-8: {error}") from None


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with open(file, encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = {str(key).lower(): value for key, value in dict(json.loads(line)).items()}
            except (ValueError, TypeError):
                raise UserError(f'{file}, line {number}: expected {{"file_name": …, "label": …}}') from None
            _require(file, list(row), f", line {number}")
            plain = {key: value for key, value in row.items() if isinstance(value, (str, int))}
            yield number, {key: str(value).strip() for key, value in plain.items()}


def _require(file: Path, header: list[str], where: str = "") -> None:
    lacking = [] if _column(header, PATH_COLUMNS) else ["path"]
    lacking += [] if "label" in header else ["label"]
    if lacking:
        raise UserError(f"{file}{where}: no column {' and '.join(lacking)} among {', '.join(header)}; {EXPECTED}")


def _listed(where: Path, folder: Path, files: list[tuple[str | None, Path]]) -> Listing:
    """The images of one table, or of one in each part."""
    listing, problems = Listing(where, folder), Problems(where)
    seen: dict[str, tuple[str, str | None, str]] = {}
    repeated = 0
    for part, file in files:
        below = "" if file.parent == folder else file.parent.relative_to(folder).as_posix()
        for number, row in _rows(file):
            line = f"line {number}" if len(files) == 1 else f"{file.relative_to(folder)} line {number}"
            path = row.get(_column(list(row), PATH_COLUMNS), "") if row else ""
            label, named = row.get("label", ""), row.get("split", "")
            if not path or not label:
                problems.add("line", "without a path or a label", line)
                continue
            path = _relative(path, folder, below)
            own = part or PARTS.get(named.lower())
            if named and not own:
                problems.add("line", f"whose split is none of {', '.join(PARTS)}", f"{line} ({named!r})")
            first = seen.setdefault(path, (label, own, line))
            if first[2] == line:
                listing.parts.setdefault(own, []).append((path, label))
            elif first[0] != label:
                problems.add("image", "with two labels", f"{path}: {first[0]!r} in {first[2]}, {label!r} in {line}")
            elif first[1] != own:
                problems.add("image", "in two splits", f"{path}: {first[1]} in {first[2]}, {own} in {line}")
            else:
                repeated += 1
    if None in listing.parts and len(listing.parts) > 1:
        problems.add("image", "without a split, though others have one", *(p for p, _ in listing.parts[None]))
    problems.stop()
    if not seen:
        raise UserError(f"{where} lists no image")
    if repeated:
        listing.notes.append(f"left out: {counted(repeated, 'line')} with an image that an earlier one has")
    _parts_by_folder(listing)
    _check_files(listing)
    return listing


class Problems:
    """Lines of a table that are wrong: each kind with its number and its first offenders."""

    def __init__(self, where: Path):
        self.where, self.found = where, {}

    def add(self, what: str, wrong: str, *lines: str) -> None:
        self.found.setdefault((what, wrong), []).extend(lines)

    def stop(self) -> None:
        if self.found:
            texts = (f"{counted(len(all_), what)} {wrong}: {some(all_)}" for (what, wrong), all_ in self.found.items())
            raise UserError(f"{self.where}: " + "; ".join(texts))


def _relative(path: str, folder: Path, below: str) -> str:
    """A path of a table relative to `folder`, with forward slashes."""
    if os.path.isabs(path):
        return Path(os.path.relpath(path, folder)).as_posix()
    return posixpath.normpath(posixpath.join(below, path.replace("\\", "/")))


def _parts_by_folder(listing: Listing) -> None:
    """Images of a table without splits that all lie in train/, val/ or test/ are in these parts (Hugging Face)."""
    rows = listing.parts.get(None, [])
    first = {path.partition("/")[0] for path, _ in rows}
    parts = {name: PARTS.get(name.lower()) for name in first}
    if rows and None not in parts.values() and "train" in parts.values():
        del listing.parts[None]
        for path, label in rows:
            listing.parts.setdefault(parts[path.partition("/")[0]], []).append((path, label))


def _check_files(listing: Listing) -> None:
    """Raises FileNotFoundError naming the first listed images that are not there; each folder is listed once."""
    there: dict[str, set[str]] = {}
    gone, total = [], 0
    for rows in listing.parts.values():
        for path, _ in rows:
            folder, _, name = path.rpartition("/")
            if folder not in there:
                try:
                    there[folder] = set(os.listdir(listing.folder / folder))
                except OSError:
                    there[folder] = set()
            total += 1
            if name not in there[folder]:
                gone.append(path)
    if gone:
        raise FileNotFoundError(
            f"{listing.where}: {len(gone):,} of {total:,} images {are(len(gone))} not there, looked for in "
            f"{listing.folder}: {some(gone)}; paths are relative to the table's folder"
        )
