"""The parts of a report: sections of texts, tables and figures, and a table's CSV and LaTeX files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd
from markupsafe import Markup

from reporting.figures import Figure
from reporting.text import comment, latex_signs

BEST, SECOND = "best", "second"
MARKS = {BEST: "textbf:--rwrap", SECOND: "underline:--rwrap"}  # commands of LaTeX around the text of a cell


@dataclass(frozen=True)
class Cell:
    """What a table shows in one cell: a text, BEST or SECOND, and the number to sort by."""

    text: str = ""
    mark: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table. `kind` is a class of the page's style, such as "published"."""

    label: str
    cells: Sequence[Cell]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: file name without extension.
        head: title of the column of labels.
        columns: titles; with groups of columns (group, title).
        data: the numbers behind the table, unrounded, for the CSV file.
        texts: how many of the first columns contain words, which are aligned left.
    """

    name: str
    caption: str
    head: str
    columns: Sequence[str | tuple[str, str]]
    rows: Sequence[Row]
    data: pd.DataFrame
    notes: Sequence[str] = ()
    texts: int = 0

    @property
    def titles(self) -> list[str]:
        return [column if isinstance(column, str) else column[1] for column in self.columns]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """(title, number of columns) of each group of columns; [] without groups."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if isinstance(column, str):
                return []
            if found and found[-1][0] == column[0]:
                found[-1] = (column[0], found[-1][1] + 1)
            else:
                found.append((column[0], 1))
        return found

    def as_csv(self) -> str:
        return self.data.to_csv(index=False, lineterminator="\n")

    def as_latex(self) -> str:
        """The table for LaTeX with the package booktabs."""
        texts = pd.DataFrame([[row.label, *(cell.text for cell in row.cells)] for row in self.rows], dtype=str)
        titles = [("", self.head), *self.columns] if self.groups else [self.head, *self.titles]
        texts.columns = pd.MultiIndex.from_tuples(titles) if self.groups else pd.Index(titles)
        marks = [["", *(MARKS.get(cell.mark, "") for cell in row.cells)] for row in self.rows]
        styler = texts.style.apply(lambda _: pd.DataFrame(marks, texts.index, texts.columns).to_numpy(), axis=None)
        styler = styler.format(escape="latex").format_index(escape="latex", axis=1).hide(axis="index")
        latex = styler.to_latex(
            hrules=True,
            caption=_escaped(self.caption),
            position_float="centering",
            column_format="l" * (1 + self.texts) + "r" * (len(self.columns) - self.texts),
            multicol_align="c",
        )
        notes = "".join(f"{comment(note)}\n" for note in self.notes)
        return "% \\usepackage{booktabs}\n" + latex_signs(latex) + latex_signs(notes)


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)


@dataclass
class Section:
    """A part of the page with a heading.

    Attributes:
        blocks: tables, figures, HTML (Markup) and paragraphs (str), in order.
        folded: whether the reader has to open the section.
        wide: an HTML heading of level 2 instead of 3.
    """

    key: str
    title: str
    blocks: list[Table | Figure | Markup | str] = field(default_factory=list)
    parts: list[Section] = field(default_factory=list)
    folded: bool = False

    def all_blocks(self) -> Iterable[Table | Figure | Markup | str]:
        yield from self.blocks
        for part in self.parts:
            yield from part.all_blocks()


def number(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number as tables show it, with a real minus sign; "–" where there is none."""
    if value is None or pd.isna(value):
        return "–"
    text = format(value, f"{sign},.{digits}f")
    return (text.lstrip("+-") if float(text.replace(",", "")) == 0 else text).replace("-", "−")


def spread(mean: float, std: float | None) -> str:
    """mean ± std, or the mean alone where a standard deviation is not known."""
    return number(mean) if std is None or pd.isna(std) else f"{number(mean)} ± {number(std)}"


def mark_best(values: Sequence[float | None], larger_is_better: bool = True) -> list[str]:
    """BEST, SECOND or "" per value, compared as shown (two digits). Nothing is marked among fewer than two values."""
    shown = [None if value is None or math.isnan(value) else round(value, 2) for value in values]
    order = sorted({value for value in shown if value is not None}, reverse=larger_is_better)
    if sum(value is not None for value in shown) < 2 or len(order) < 2:
        return ["" for _ in shown]
    marks = {order[0]: BEST, **({order[1]: SECOND} if shown.count(order[0]) == 1 else {})}
    return [marks.get(value, "") for value in shown]


def slug(*words: object) -> str:
    """Words as a file name and anchor: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, words)).lower()).strip("-")
