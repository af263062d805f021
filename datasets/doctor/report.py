"""What is there of a dataset and what is wrong with it, for `python -m datasets.check` and for the start of every run.

Both use the same reading and the same words: a run refuses with what the command prints.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dassl.utils import is_user_error
from dassl.utils.texts import counted
from datasets import readers, splits
from datasets.doctor import mistakes, oddities
from datasets.doctor.mistakes import Mistake
from datasets.doctor.published import size_line
from datasets.folders import listing, some
from datasets.source import SPLITS, Source

MISTAKES, BAD = 4, 20  # of a dataset that are printed
NOTHING = "no such folder"


@dataclass
class Report:
    """A dataset as it was found.

    Attributes:
        name: the dataset.
        status: "usable", "missing" or "broken".
        folder: the folder that was looked at.
        problem: what is wrong, in a line; "" if nothing is.
        images: number of images of each split.
        classes: number of classes found, None where they could not be counted; `declared`: that there should be.
        split: where the split comes from; `split_hashes`: {task: hash of its split}.
        mistakes: mistakes recognised by name.
        notes: what is odd but does no harm.
        expected: what should lie in `folder`; `source`, `size`, `command`: where to get it, and how.
        by_hand: whether the command only tells what has to be fetched by hand.
        bad: images that cannot be decoded (`--deep`).
        absent: whether files or folders are not there, rather than wrong.
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
            text.append(_line("mistake", f"{mistake.name}: {mistake.found}"))
            text += [_line("fix", mistake.fix)] if mistake.fix else []
        text += [_line("bad", line) for line in self.bad[:BAD]]
        text += [_line("", f"and {len(self.bad) - BAD:,} more")] if len(self.bad) > BAD else []
        mended = any(mistake.fix for mistake in self.mistakes)  # it is there, so that it need not be fetched
        hand = "   (tells what has to be fetched by hand)" if self.by_hand else ""
        text += [_line("get it", self.command + hand)] if self.command and not mended else []
        text += [_line("looked in", self.folder)] if self.folder else []
        text += [_line("" if i else "expected", line) for i, line in enumerate(self.expected)]
        text += [_line("source", self.source)] if self.source and not mended else []
        text += [_line("size", self.size)] if self.size and not mended else []
        if self.images:
            text.append(_line("images", ", ".join(f"{split} {self.images[split]:,}" for split in SPLITS)))
        if self.classes is not None:
            text.append(_line("classes", f"{self.classes:,} found, {self.declared:,} expected"))
        text += [_line("split", self.split)] if self.split else []
        return text + [_line("note", note) for note in self.notes]


def _line(head: str, text: str) -> str:
    return f"  {head:<9}  {text}"


# ---- looking at a dataset ------------------------------------------------------------------------------------------


def absent(name: str, source: Any, root: str, train: bool = True) -> Report | None:
    """The report of a dataset whose files or folders are not there; None if they are. Looks at no image.

    Without `train`, images that only training needs may be lacking, if they lie in a folder of their own.
    """
    row = getattr(source, "row", None)
    gap = source.missing(root, train) if row else source.missing(root)
    if not gap:
        return None
    report = Report(name, "missing", absent=True)
    if row is None:  # own data, and what ships with the project, say all there is to say
        report.problem = gap
        return report
    place = Path(root, row.folder) if root else Path("<root>", row.folder)
    report.folder, report.declared = str(place), row.classes
    with_split = bool(root) and source.split_file(root) is not None
    gone = [entry for entry in mistakes.expected(row, with_split) if not mistakes.there(place / entry, entry)]
    report.problem = f"not there: {some(gone, 6)}" if place.is_dir() else NOTHING
    if row.train_folders and not source.missing(root, train=False):
        report.problem += "; without training images there are only zero-shot and tests of trained models"
    report.expected = _tree(row)
    report.source, report.size = row.source, size_line(row)
    report.command, report.by_hand = mistakes.download(name, root), not fetched_by_command(row)
    if root and os.path.isdir(root):
        report.mistakes = mistakes.mistakes(row, root, with_split)
    return report


def examine(
    name: str, source: Any, root: str, tasks: Iterable[int] | None = None, run: bool = False
) -> tuple[Report, Source | None]:
    """Read a dataset without decoding an image: (the report, the dataset if it could be read).

    Folders are listed as they are for training, and the first bytes of `oddities.SAMPLE` images are looked at.

    Args:
        name: of the dataset.
        source: what reads it (`suites.SOURCES`, own data).
        root: the data root, "" for none.
        tasks: the tasks of it that are counted; by default all.
        run: as a run needs it: a split that had to be made is saved, and a usable dataset is not described.
    """
    if report := absent(name, source, root, train=not run):
        return report, None
    report, row = Report(name), getattr(source, "row", None)
    path = source.split_file(root) if row else None
    if row:
        report.folder, report.declared = str(Path(root, row.folder, row.images)), row.classes
        report.split = path.name if path else splits.RULES[row.rule]
    printed = io.StringIO()
    try:
        with contextlib.nullcontext() if run else contextlib.redirect_stdout(printed):
            loaded = source.load(root)
    except (ValueError, OSError) as error:
        if run and not is_user_error(error):
            raise  # a bug, which a run shows with its traceback
        report.status, report.absent = "broken", isinstance(error, FileNotFoundError)
        report.problem = _without_prefix(name, str(error))
        if row:
            report.mistakes = mistakes.mistakes(row, root, path is not None)
            report.classes = _count_classes(row, Path(root, row.folder))
        return report, None
    bad = oddities.sample(loaded, Path(root, row.folder) if row else Path(loaded.root), name, root)
    tasks = range(len(loaded.tasks)) if tasks is None else sorted(tasks)
    notes, fewer = oddities.gaps(loaded, tasks), oddities.fewer(row, loaded, run) if row else []
    if bad:
        report.status, report.problem, report.mistakes = "broken", bad.name, [bad]
    elif loaded.save and row is None:
        report.bad, turned = oddities.headers(loaded)
        notes += turned
        if report.bad:
            report.status = "broken"
            files = counted(len(report.bad), "file")
            report.problem = f"{files} that cannot be read; no split is made before they are mended or removed"
    if run and report.status == "usable":
        _begin(name, loaded, notes + fewer)
        return report, loaded
    _describe(report, loaded, tasks)
    report.notes = [line.removeprefix(f"{name}: ") for line in printed.getvalue().splitlines() if line] + notes
    if row:
        report.notes += oddities.unexpected(row, Path(root, row.folder), loaded) + fewer
    if report.status == "usable" and (keys := [loaded.tasks[i].key for i in tasks if i not in oddities.tested(loaded)]):
        report.status, report.problem = "broken", oddities.untested(keys)
    return report, loaded


def _begin(name: str, source: Source, notes: list[str]) -> None:
    """Say what a run should know of a usable dataset, and save its split if that had to be made."""
    for note in notes:
        if source.save or note.startswith("WARNING"):
            print(f"{name}: {note}")
    if source.save and len(oddities.tested(source)) == len(source.tasks):  # else images have to be added first
        source.save()


def _describe(report: Report, source: Source, tasks: Collection[int]) -> None:
    report.folder = report.folder or source.root
    report.images = {split: sum(item.task in tasks for item in getattr(source, split)) for split in SPLITS}
    report.classes = sum(len(source.tasks[i].classnames) for i in tasks)
    if report.declared is None or len(tasks) < len(source.tasks):
        report.declared = report.classes
    report.split = source.split_from
    report.split_hashes = {source.tasks[i].key: source.split_digest(i) for i in tasks}


def _without_prefix(name: str, text: str) -> str:
    """An error's text without the dataset's name, which stands at the beginning of the line anyway."""
    text = text.removeprefix(name).lstrip(": ")
    if text.startswith("(") and "): " in text:
        where, _, rest = text[1:].partition("): ")
        return f"{rest} [{where}]"
    return text


def _tree(row) -> list[str]:
    """What should lie in the row's folder, a line each."""
    deeper = {readers.fashion20: "<task>/<class>/*", readers.nested_class_folders: "<category>/<class>/*"}
    inside = "*" if row.read in mistakes.FLAT else deeper.get(row.read, "<class>/*")
    lines = [f"{folder}/{inside}" if folder else inside for folder in row.image_folders or (row.images,)] + [*row.needs]
    if row.needs and row.split_files:
        lists = "the list" if len(row.needs) == 1 else f"the {len(row.needs)} lists"
        lines.append(f"or, in place of {lists}, {' or '.join(row.split_files)}")
    return lines


def _count_classes(row, place: Path) -> int | None:
    """Class folders, where the classes are the folders."""
    if row.read in mistakes.FLAT or row.task_keys or len(row.image_folders) > 1:
        return None
    return sum(name not in row.skip for name in listing(place / row.images)[0])


def fetched_by_command(row) -> bool:
    """Whether `python -m datasets.download` can fetch what the dataset cannot do without."""
    return any(file.urls or file.drive for file in row.files if not file.optional)


# ---- several datasets ----------------------------------------------------------------------------------------------


def headline(label: str, reports: list[Report], root: str) -> str:
    """The verdict on a suite in a line."""
    missing = [report for report in reports if report.status == "missing"]
    broken = [report for report in reports if report.status == "broken"]
    if not missing and not broken:
        tasks, classes, images = (sum(numbers) for numbers in zip(*map(_sizes, reports), strict=True))
        return f"{label}: usable, {counted(tasks, 'task')}, {counted(classes, 'class')}, {counted(images, 'image')}"
    many, parts = len(reports) > 1, []
    if missing:
        where = f" below DATASET.ROOT {root!r} (--root)" if root else " because DATASET.ROOT is not set (--root)"
        where = where if any(report.source for report in missing) else ""  # own data say where they were looked for
        parts.append(f"{len(missing)} of {len(reports)} datasets not found{where}" if many else f"not found{where}")
    if broken:
        parts.append(f"{len(broken)} of {len(reports)} datasets cannot be used" if many else "cannot be used")
    return f"{label}: {', '.join(parts)}"


def _sizes(report: Report) -> tuple[int, int, int]:
    return len(report.split_hashes), report.classes or 0, sum(report.images.values())


def refusal(label: str, reports: list[Report], sources: Mapping[str, Any], root: str, brief: bool = False) -> list[str]:
    """Why a suite is not usable, as lines: the verdict, then every dataset that stands in the way; [] if it is usable.

    Where all of it is explained by a wrong data root, that is said once. `brief`: datasets of which nothing is there
    are named together, and what should be there is left to `datasets.check`.
    """
    bad = [report for report in reports if report.status != "usable"]
    if not bad:
        return []
    text = [headline(label, reports, root)]
    rows = [sources[report.name].row for report in bad if report.absent and hasattr(sources[report.name], "row")]
    if root and (found := mistakes.wrong_root(root, rows)):
        mistake, right = found
        text += [_line("mistake", f"{mistake.name}: {mistake.found}"), _line("fix", mistake.fix)]
        below = {row.name: absent(row.name, sources[row.name], right) for row in rows}
        bad = [found for report in bad if (found := below.get(report.name, report))]
    elif root and rows and not os.path.isdir(root):
        text.append(_line("mistake", f"there is no folder {root}"))
    if len(reports) == 1 and reports == bad:
        text[0] += f": {reports[0].problem}"
        return text + [line for report in bad for line in report.lines()[1:]]
    nothing = [
        report for report in bad if report.command and report.problem.startswith(NOTHING) and not report.mistakes
    ]
    if brief and len(nothing) > 1:
        names = [report.name for report in nothing]
        hand = [report.name for report in nothing if report.by_hand]
        text += [_line("no folder", ", ".join(names)), _line("get them", mistakes.download(" ".join(names), root))]
        text += [_line("by hand", f"{', '.join(hand)}: that command tells how")] if hand else []
        text.append(_line("details", "the same with datasets.check: what belongs where, sizes and sources"))
        bad = [report for report in bad if report not in nothing]
    for report in bad:
        text += ["", *report.lines()]
    return text


def require_usable(label: str, sources: Mapping[str, Any], root: str) -> dict[str, Source]:
    """Read the datasets for a run, saving splits that had to be made.

    Raises:
        FileNotFoundError: files or folders that are missing, of all datasets at once.
        ValueError: datasets that are there but contradict themselves or their declaration.
    """
    reports = [report for name, source in sources.items() if (report := absent(name, source, root, train=False))]
    if reports:  # found out before anything is read
        others = [Report(name) for name in sources if name not in {report.name for report in reports}]
        raise FileNotFoundError("\n".join(refusal(label, reports + others, sources, root, brief=True)))
    found = {name: examine(name, source, root, run=True) for name, source in sources.items()}
    reports = [report for report, _ in found.values()]
    if text := "\n".join(refusal(label, reports, sources, root, brief=True)):
        if any(report.absent for report in reports):
            raise FileNotFoundError(text)
        raise ValueError(text)
    return {name: source for name, (_, source) in found.items()}
