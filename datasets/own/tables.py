"""Read tables of the user's own images: CSV, TSV, JSON lines, or a list in YAML.

A table has a column path (or file_name), a column label or one column per task, and an optional column split. With a
column per task, an empty cell and -1 mean that the image has no label of the task. A cell of a tagging task holds one
or several labels, `cat;dog`, or in JSON and YAML a list.
"""

from __future__ import annotations

import csv
import json
import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dassl.config import read_yaml
from dassl.utils import UserError, counted, open_file
from dassl.utils.errors import did_you_mean
from datasets.folders import are, some

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
TABLES = (".csv", ".tsv")
LISTS = (".jsonl", ".yaml", ".yml")  # tables without a header
METADATA = ("metadata.csv", "metadata.jsonl")
EXPECTED = "a table has the columns path,label or path,label,split (or file_name in place of path)"
MISSING = ("", "-1")  # cells of a task that an image has no label of
LABEL = ("label",)
TAGS = ";"  # between the labels in a cell of a tagging task

Rows = list[tuple[str, str]]  # (path, label)


@dataclass
class Listing:
    """The images that were found.

    Attributes:
        where: the folder or file that was read, for messages.
        folder: paths are relative to it.
        parts: {"train", "val", "test" or None: [(path, label), …]}; None holds images whose part is not given.
        notes: what was left out, in words.
        cells: {path: {column: cell}} of a table with a column per task; then the labels in `parts` are "".
    """

    where: Path
    folder: Path
    parts: dict[str | None, Rows] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)
    cells: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """Every label once: numbers by their value, other labels in alphabetical order."""
        found = {label for part in self.parts.values() for _, label in part}
        return sorted(found, key=int if all(map(is_number, found)) else None)


def is_number(label: str) -> bool:
    return label.isascii() and label.isdigit() and len(label) < 19


def tags_of(cell: str) -> list[str]:
    """The labels in a cell of a tagging task, each once."""
    return [tag for tag in dict.fromkeys(map(str.strip, cell.split(TAGS))) if tag not in MISSING]


def metadata(folder: Path) -> Path | None:
    """The metadata file of Hugging Face's layout in a folder."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def lacking(columns: Sequence[str], wanted: Sequence[str] = LABEL) -> list[str]:
    """The required columns that a table does not have: that of the paths, and the `wanted` ones."""
    paths = [] if {"path", "file_name"} & set(columns) else ["path"]
    return paths + [name for name in wanted if name not in columns]


def header(file: Path, wanted: Sequence[str] = LABEL) -> tuple[list[str], str]:
    """The columns of a table in lower case, and the character between them, out of comma, semicolon and tab."""
    try:
        with open_file(file, encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
    except UnicodeDecodeError:
        raise UserError(f"{file} is not text in UTF-8; save it as CSV in UTF-8") from None
    split = {mark: [c.strip().strip('"').strip().lower() for c in first.split(mark)] for mark in ",;\t"}
    mark = min(split, key=lambda m: (len(lacking(split[m], wanted)), -len(split[m])))
    return [column for column in split[mark] if column], mark


def _rows(file: Path, wanted: Sequence[str], tagging: Collection[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """(place of a row in words, {column in lower case: text}) of the rows of a table that are not blank.

    `tagging`: those of the `wanted` columns whose cells may be lists, in JSON lines and YAML.
    """
    if file.suffix.lower() in LISTS:
        yield from _listed_rows(file, wanted, tagging)
        return
    columns, mark = header(file, wanted)
    _require(columns, str(file), wanted)
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise UserError(f"{file} has the column {twice[0]} twice; expected each column once")
    try:
        with open_file(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=mark)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames]
            for row in reader:
                row.pop(None, None)  # cells beyond the last column
                if any(cell and cell.strip() for cell in row.values()):
                    # The quotes of a cell may hold line breaks; then the number is that of its last line.
                    yield f"line {reader.line_num}", {name: (cell or "").strip() for name, cell in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a table in UTF-8: {error}") from None


def _listed_rows(file: Path, wanted: Sequence[str], tagging: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of JSON lines or of a list in YAML. Columns of tasks may be absent from a row, but not from all."""
    seen: set[str] = set()
    for place, value in _json_lines(file) if file.suffix.lower() == ".jsonl" else _yaml_items(file):
        try:
            row = {str(key).lower(): cell for key, cell in dict(value).items()}
        except (ValueError, TypeError):
            raise UserError(f'{file}, {place}: expected {{"file_name": …, "label": …}}') from None
        _require(list(row), f"{file}, {place}", wanted if wanted == LABEL else ())
        seen |= row.keys()
        for key in wanted:
            if isinstance(cell := row.get(key), list):
                tags = key in tagging
                if (cell and not tags) or not all(isinstance(t, (str, int)) and TAGS not in str(t) for t in cell):
                    expected = f"names without {TAGS!r}" if tags else "one label; METRIC mAP allows several"
                    raise UserError(f"{file}, {place}: {key} is {cell!r}, expected {expected}")
                row[key] = TAGS.join(map(str, cell))
        yield place, {key: str(cell).strip() for key, cell in row.items() if isinstance(cell, (str, int))}
    if seen:
        _require(sorted(seen), str(file), wanted)


def _json_lines(file: Path) -> Iterator[tuple[str, object]]:
    try:
        with open_file(file, encoding="utf-8-sig", newline="") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    try:
                        yield f"line {number}", json.loads(line)
                    except (ValueError, RecursionError):
                        text = 'expected {"file_name": …, "label": …}'
                        raise UserError(f"{file}, line {number}: {text}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file} cannot be read as a table in UTF-8: {error}") from None


def _yaml_items(file: Path) -> Iterator[tuple[str, object]]:
    content = read_yaml(file)
    if not isinstance(content, list):
        raise UserError(f"{file}: expected a list of images, {{path: …, label: …}} each")
    yield from ((f"entry {number}", value) for number, value in enumerate(content, 1))


def _require(columns: Sequence[str], where: str, wanted: Sequence[str]) -> None:
    if gone := lacking(columns, wanted):
        hint = EXPECTED
        if wanted != LABEL:
            hint = f"a task under TASKS is a column, or names its COLUMN{did_you_mean(gone[0], list(columns))}"
        raise UserError(f"{where}: no column {' and '.join(gone)} among {', '.join(columns) or 'none'}; {hint}")


def listed(
    where: Path, folder: Path, files: Sequence[tuple[str | None, Path]], columns: Mapping[str, bool] | None = None
) -> Listing:
    """The images of one table, or of one table in each part.

    Args:
        where: what was read, for messages.
        folder: the paths of the listing are relative to it.
        files: (part or None, table).
        columns: {name in lower case of the column with the labels of a task: whether its cells may hold several}; None:
            the column label.

    Raises:
        UserError: a column that is missing, or rows that contradict each other.
        FileNotFoundError: images that do not exist.
    """
    listing, problems = Listing(where, folder), defaultdict(list)  # {(noun, what is wrong): lines}
    seen: dict[str, tuple[dict[str, tuple[str, str]], str | None, str]] = {}  # {column: (label, line)}, part, line
    repeated, unlabelled, several = 0, 0, columns is not None
    wanted, missing = (tuple(columns), MISSING) if several else (LABEL, ("",))
    tagging = [name for name, tags in (columns or {}).items() if tags]
    for part, file in files:
        below = file.parent.relative_to(folder).as_posix()
        for place, row in _rows(file, wanted, tagging):
            line = place if len(files) == 1 else f"{file.relative_to(folder)} {place}"
            path, split = row.get("path") or row.get("file_name"), row.get("split")
            labels = {name: row[name] for name in wanted if row.get(name, "") not in missing}
            if not path or not (labels or several):
                problems["line", "without a path" if several else "without a path or a label"].append(line)
                continue
            if os.path.isabs(path):
                path = Path(os.path.relpath(path, folder)).as_posix()
            else:
                path = posixpath.normpath(posixpath.join(below, path.replace("\\", "/")))
            own = part or PARTS.get(split.lower()) if split else part
            if split and not own:
                problems["line", f"whose split is none of {', '.join(PARTS)}"].append(f"{line} ({split!r})")
                continue
            if not labels:
                unlabelled += 1
                continue
            first, first_part, first_line = seen.setdefault(path, ({}, own, line))
            if first_line == line:
                listing.parts[own].append((path, "" if several else labels["label"]))
            new = False
            for name, label in labels.items():
                new |= name not in first
                other, other_line = first.setdefault(name, (label, line))
                if other != label and several and columns[name]:
                    first[name], new = (f"{other}{TAGS}{label}", line), True
                elif other != label:
                    which = f"{path}, {name}" if several else path
                    text = f"{which}: {other!r} in {other_line}, {label!r} in {line}"
                    problems["image", "with two labels of one task" if several else "with two labels"].append(text)
                    break
            else:
                if first_part != own:
                    problems["image", "in two splits"].append(f"{path}: {first_part} in {first_line}, {own} in {line}")
                elif not new:
                    repeated += 1
    if None in listing.parts and len(listing.parts) > 1:
        problems["image", "without a split, though others have one"] += [path for path, _ in listing.parts[None]]
    if problems:
        texts = [f"{counted(len(all_), what)} {wrong}: {some(all_)}" for (what, wrong), all_ in problems.items()]
        if any("two labels" in wrong for _, wrong in problems):
            texts.append("only a task with METRIC mAP may have several labels per image")
        raise UserError(f"{where}: {'; '.join(texts)}")
    if not seen:
        raise UserError(f"{where} lists no image" + (" with a label" if unlabelled else ""))
    if repeated:
        listing.notes.append(f"left out: {counted(repeated, 'line')} with an image that an earlier line has")
    if unlabelled:
        listing.notes.append(f"left out: {counted(unlabelled, 'line')} without a label of any task")
    if several:
        listing.cells = {path: {name: label for name, (label, _) in own.items()} for path, (own, *_) in seen.items()}
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
