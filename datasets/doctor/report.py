"""Text reports on a dataset: the files found, the problems, and how to fix them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dassl.utils.errors import counted, describe, near_path
from datasets import readers, splits, verify
from datasets.doctor.mistakes import Mistake, download, mistakes, wrong_root
from datasets.folders import some
from datasets.known.row import Row
from datasets.reading import UnusableData
from datasets.source import SPLITS, Source

MISTAKES, BAD = 4, 20  # number of mistakes and bad images of a dataset that are printed
NOTHING = "no such folder"
# Reader -> what it expects in the folder of images; other readers expect a folder per class.
TREES = {
    **dict.fromkeys((readers.fgvc_aircraft, readers.oxford_flowers, readers.oxford_pets, readers.stanford_cars), "*"),
    readers.fashion20: "<task>/<class>/*",
    readers.nested_class_folders: "<category>/<class>/*",
    readers.sun397: "<letter>/<class>/*",
    **dict.fromkeys((readers.webdataset, readers.hateful_memes), "*"),
}


@dataclass
class Report:
    """A dataset as it was found.

    Attributes:
        name: the dataset.
        status: "usable", "missing" or "broken".
        folder: the folder that was looked at.
        problem: what is wrong, in a line; "" if nothing is.
        images: number of images of each split.
        classes: number of classes of a dataset that could be read; `declared`: the expected number.
        split: origin of the split; `split_hashes`: {task: hash of its split}.
        mistakes: common mistakes that were recognised, with the commands that fix them.
        notes: oddities that do no harm.
        expected: the expected content of `folder`.
        source, size, command: where to get the dataset, its size, and the command that downloads it.
        by_hand: whether the command only tells what has to be downloaded by hand.
        bad: images that cannot be decoded (`--deep`).
        absent: whether files or folders are missing, rather than wrong.
    """

    name: str
    status: str = "usable"
    folder: str = ""
    problem: str = ""
    images: dict[str, int] = field(default_factory=dict)
    classes: int | None = None
    declared: int | None = None
    split: str = ""
    split_hashes: dict[str, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    source: str = ""
    size: str = ""
    command: str = ""
    by_hand: bool = False
    bad: list[str] = field(default_factory=list)
    absent: bool = False

    def lines(self) -> list[str]:
        """The report as lines for people, the most useful one first."""
        text = [f"{self.name}: {self.status}" + (f", {self.problem}" if self.problem else "")]
        for mistake in self.mistakes[:MISTAKES]:
            text.append(_line("mistake", mistake.found))
            text += [_line("fix", mistake.fix)] if mistake.fix else []
        text += [_line("bad", line) for line in self.bad[:BAD]]
        text += [_line("", f"and {len(self.bad) - BAD:,} more")] if len(self.bad) > BAD else []
        wanted = not any(mistake.fix for mistake in self.mistakes)  # else it is there and need not be downloaded
        hand = "   (tells what has to be downloaded by hand)" if self.by_hand else ""
        text += [_line("get it", self.command + hand)] if self.command and wanted else []
        text += [_line("looked in", self.folder)] if self.folder else []
        text += [_line("" if i else "expected", line) for i, line in enumerate(self.expected)]
        text += [_line("source", self.source)] if self.source and wanted else []
        text += [_line("size", self.size)] if self.size and wanted else []
        if self.images:
            text.append(_line("images", ", ".join(f"{split} {self.images[split]:,}" for split in SPLITS)))
        if self.classes is not None:
            text.append(_line("classes", f"{self.classes:,} found, {self.declared:,} expected"))
        text += [_line("split", self.split)] if self.split else []
        return text + [_line("note", note) for note in self.notes]


def _line(head: str, text: str) -> str:
    return f"  {head:<9}  {text}"


# ---- looking at a dataset ------------------------------------------------------------------------------------------


def examine(
    name: str, source: Any, root: str, tasks: Iterable[int] | None = None, train: bool = True
) -> tuple[Report, Source | None]:
    """Read a dataset without decoding an image: (the report, the dataset if it could be read).

    Folders are listed as they are for training, and the first bytes of `verify.SAMPLE` images are looked at. Nothing is
    written.

    Args:
        name: name of the dataset.
        source: what reads it (`suites.SOURCES`, own data).
        root: the data root, "" for none.
        tasks: indices of the tasks that are counted; by default all.
        train: whether images that only training needs have to be there.
    """
    report, row = Report(name), getattr(source, "row", None)
    if gap := source.missing(root, train) if row else source.missing(root):
        return _absent(report, source, root, gap), None
    if row:
        path = source.split_file(root)
        report.folder, report.declared = str(Path(root, row.folder, row.images)), row.classes
        report.split = path.name if path else splits.RULES[row.rule]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            loaded = source.load(root)
    except (ValueError, OSError) as error:
        report.status, report.absent = "broken", isinstance(error, FileNotFoundError)
        report.problem = _without_name(name, describe(error))
        report.mistakes = mistakes(source, root) if row else []
        return report, None
    tasks = range(len(loaded.tasks)) if tasks is None else sorted(tasks)
    _describe(report, loaded, tasks)
    seen = verify.findings(loaded, tasks, row)
    report.bad = seen.bad
    report.notes = [line.removeprefix(f"{name}: ") for line in printed.getvalue().splitlines() if line] + seen.notes
    untested = [loaded.tasks[i].key for i in tasks if i not in verify.tested(loaded)]
    report.problem = seen.problem or (verify.no_test_image(untested) if untested else "")
    report.status = "broken" if report.problem else "usable"
    return report, loaded


def _absent(report: Report, source: Any, root: str, gap: str) -> Report:
    """Complete the report of a dataset with missing files or folders. Opens no image."""
    report.status, report.absent, report.problem = "missing", True, gap
    row = getattr(source, "row", None)
    if row is None:  # own data and the embedded suite tell everything themselves
        return report
    place = Path(root or "<root>", row.folder)
    report.folder, report.declared = str(place), row.classes
    report.problem = f"not there: {some(source.absent(root), 6)}" if root and place.is_dir() else NOTHING
    if row.train_folders and not source.missing(root):
        report.problem += "; without training images there are only zero-shot and tests of trained models"
    report.expected = _tree(row)
    report.source, report.size = row.source, _size(row)
    report.command = download(report.name, root)
    report.by_hand = not row.hub and not any(file.urls or file.drive for file in row.files if not file.optional)
    if root and os.path.isdir(root):
        report.mistakes = mistakes(source, root)
    return report


def _describe(report: Report, source: Source, tasks: Iterable[int]) -> None:
    report.folder = report.folder or source.root
    own = {split: (item for item in getattr(source, split) if item.task in tasks) for split in SPLITS}
    report.images = {
        s: len({i.path for i in items}) if source.several else sum(1 for _ in items) for s, items in own.items()
    }
    report.classes = sum(len(source.tasks[i].classnames) for i in tasks)
    if report.declared is None or len(tasks) < len(source.tasks):
        report.declared = report.classes
    report.split = source.split_from
    report.split_hashes = {source.tasks[i].key: source.split_digest(i) for i in tasks}


def _without_name(name: str, text: str) -> str:
    """The text of an error without the dataset's name, which begins the line anyway."""
    head, separator, rest = text.partition("): ")
    if separator and head.startswith(f"{name} ("):
        return f"{rest} [{head.removeprefix(f'{name} (')}]"
    return text.removeprefix(f"{name}: ")


def _tree(row: Row) -> list[str]:
    """The expected content of the row's folder, in lines."""
    inside = TREES.get(row.read, "<class>/*")
    lines = [f"{folder}/{inside}" if folder else inside for folder in row.image_folders or (row.images,)] + [*row.needs]
    if row.needs and row.split_files:
        lists = "the list" if len(row.needs) == 1 else f"the {len(row.needs)} lists"
        lines.append(f"or, in place of {lists}, {' or '.join(row.split_files)}")
    return lines


def _size(row: Row) -> str:
    """Size of the download, number of images and of classes, in words and as far as known."""
    size, files = row.download_size, [file.size for file in row.files if not file.optional]
    if files and all(files):
        size = f"{sum(files) / 1000:.3g} GB" if sum(files) >= 1000 else f"{sum(files)} MB"
    if row.hub and row.hub.size:
        size = f"{row.hub.size / 1000:.3g} GB" if row.hub.size >= 1000 else f"{row.hub.size} MB"
    parts = [f"about {size} to download"] if size else []
    parts += [f"{row.published_images:,} images"] if row.published_images else []
    return ", ".join([*parts, f"{row.classes:,} classes"])


# ---- several datasets ----------------------------------------------------------------------------------------------


def headline(label: str, reports: list[Report], root: str) -> str:
    """The verdict on a suite, in a line."""
    missing = [report for report in reports if report.status == "missing"]
    broken = sum(report.status == "broken" for report in reports)
    if not missing and not broken:
        tasks = sum(len(report.split_hashes) for report in reports)
        classes, images = sum(report.classes for report in reports), sum(sum(r.images.values()) for r in reports)
        return f"{label}: usable, {counted(tasks, 'task')}, {counted(classes, 'class')}, {counted(images, 'image')}"
    many, parts = len(reports) > 1, []
    if missing:
        where = f" below DATASET.ROOT {root!r} (--root)" if root else " because DATASET.ROOT is not set (--root)"
        where = where if any(report.source for report in missing) else ""  # own data name the folder themselves
        parts.append(f"{len(missing)} of {len(reports)} datasets not found{where}" if many else f"not found{where}")
    if broken:
        parts.append(f"{broken} of {len(reports)} datasets cannot be used" if many else "cannot be used")
    return f"{label}: {', '.join(parts)}"


def refusal(label: str, reports: list[Report], sources: Mapping[str, Any], root: str, brief: bool = False) -> list[str]:
    """Why a suite is not usable, in lines: the verdict, then every unusable dataset; [] if it is usable.

    Args:
        label: the suite.
        reports: reports on all of its datasets.
        sources: {dataset: what reads it}.
        root: the data root, "" for none.
        brief: name datasets without any folder together and leave out what they should hold.
    """
    bad = [report for report in reports if report.status != "usable"]
    if not bad:
        return []
    text = [headline(label, reports, root)]
    rows = [sources[report.name].row for report in bad if report.absent and hasattr(sources[report.name], "row")]
    if rows and root and (found := wrong_root(root, rows)):
        mistake, right = found
        text += [_line("mistake", mistake.found), _line("fix", mistake.fix)]
        own = [report for report in bad if not hasattr(sources[report.name], "row")]
        bad = own + [report for report in bad if report not in own and sources[report.name].missing(right)]
    elif rows and root and not os.path.isdir(root):
        text.append(_line("mistake", f"folder not found: {root}{near_path(root)}"))
    if brief and rows:
        text.append(_line("root", "the launchers in scripts/ take it from the variable YOUR_DATA_PATH"))
    if len(reports) == 1 and reports == bad:
        text[0] += f": {reports[0].problem}"
        return text + reports[0].lines()[1:]
    nothing = [r for r in bad if r.command and r.problem.startswith(NOTHING) and not r.mistakes]
    if brief and len(nothing) > 1:
        names = [report.name for report in nothing]
        text += [_line("no folder", ", ".join(names)), _line("get them", download(" ".join(names), root))]
        if hand := [report.name for report in nothing if report.by_hand]:
            text.append(_line("by hand", f"{', '.join(hand)}: that command tells how"))
        text.append(_line("details", "the same with datasets.check: what belongs where, sizes and sources"))
        bad = [report for report in bad if report not in nothing]
    for report in bad:
        text += ["", *report.lines()]
    return text


def explain(error: UnusableData) -> str:
    """What a run tells its user about datasets that are missing or unusable."""
    reports = []
    for name, source in error.sources.items():
        report = Report(name)
        if name in error.problems:
            report, _ = examine(name, source, error.root, train=error.train)
            if report.status == "usable":  # what went wrong in the run does not go wrong again
                report.status, report.problem = "broken", error.problems[name]
        reports.append(report)
    return "\n".join(refusal(error.label, reports, error.sources, error.root, brief=True))
