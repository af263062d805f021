"""The report: one self-contained HTML page about many runs, with its figures and tables as files beside it.

`build` writes FOLDER/index.html, FOLDER/figures/*.pdf and *.png, and FOLDER/tables/*.csv and *.tex. The page needs no
network and no JavaScript.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dassl.utils import atomic_write, mkdir_if_missing
from dassl.utils.errors import UserError
from reporting.figures import Figure
from reporting.page import runs
from reporting.page.blocks import Section, Table
from reporting.page.rows import Group, check_baseline, groups, natural
from reporting.page.sections import Options, keys_of, section_of

__all__ = ["Options", "build"]

PAGE = "index.html"
MOST_STYLES = 21  # lines that colours, markers and dashes tell apart


def build(frame: pd.DataFrame, folder: str | os.PathLike, options: Options | None = None) -> Path:
    """Write the report of a frame (reporting/frame.py) into `folder` and return the path of the page.

    Raises:
        UserError: no run has the metric, no row is the baseline, or the folder cannot be written.
    """
    options = options or Options()
    found = groups(frame)
    check_metric(frame, options.metric)
    check_baseline(found, options.baseline)
    target = _checked(folder)
    styles, root = _styles(found), runs.common_folder(frame)
    if len(styles) > MOST_STYLES:  # too many to tell them apart: each group has its own
        styles = None
    made = (
        section_of(group, options, styles or _styles([group]), key)
        for group, key in zip(found, keys_of(found), strict=True)
    )
    sections = [section for section in made if section]
    unfinished = runs.unfinished_table(frame, root)
    if unfinished:
        sections.append(Section("without-results", "Runs without results", [unfinished]))
    text = render(sections, options, runs.facts(frame), [runs.made(group, root) for group in found])
    for name, content in _files(sections):
        path = target / name
        mkdir_if_missing(str(path.parent))
        with atomic_write(path, "wb") as stream:
            stream.write(content)
    with atomic_write(target / PAGE) as stream:  # last: a page without its files is never there
        stream.write(text)
    return target / PAGE


def _checked(folder: str | os.PathLike) -> Path:
    """The folder of the report, made if it is missing. Raises UserError."""
    target = Path(folder)
    if target.suffix == ".html":
        raise UserError(
            f"-o {target}: expected a folder, in which the page will be {PAGE}; give {target.with_suffix('')}"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"-o {target}: expected a folder for the report: {error.strerror}") from None
    if not os.access(target, os.W_OK):
        raise UserError(f"-o {target}: cannot write into it; choose another folder")
    return target


def check_metric(frame: pd.DataFrame, metric: str) -> None:
    """Raises UserError if runs have finished and none has the metric."""
    known = set(frame["metric"].dropna())
    if known and metric not in known:
        raise UserError(f"--metric {metric}: no run has it; expected one of: {', '.join(sorted(known))}")


def _styles(found: list[Group]) -> dict[str, int]:
    """The number of the colour and marker of each row, the same in all figures."""
    rows = sorted({row for group in found for row in group.rows}, key=natural)
    trained = [row for row in rows if not all(row in group.zero_shot for group in found if row in group.rows)]
    return {row: number for number, row in enumerate([*trained, *(row for row in rows if row not in trained)])}


def _blocks(sections: list[Section], kind: type) -> Iterator:
    return (block for section in sections for block in section.all_blocks() if isinstance(block, kind))


def _files(sections: list[Section]) -> Iterator[tuple[str, bytes]]:
    """(path below the folder of the report, content) of the files of all tables and figures."""
    for table in _blocks(sections, Table):
        yield f"tables/{table.name}.csv", table.as_csv().encode()
        yield f"tables/{table.name}.tex", table.as_latex().encode()
    for figure in _blocks(sections, Figure):
        for ending, content in figure.files.items():
            yield f"figures/{figure.name}.{ending}", content


def render(sections: list[Section], options: Options, facts: list, made: list) -> str:
    """The HTML of the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.tests.update(
        table=lambda block: isinstance(block, Table),
        figure=lambda block: isinstance(block, Figure),
        markup=lambda block: isinstance(block, Markup),
    )
    loader = environment.loader
    style, script = (Markup(loader.get_source(environment, name)[0]) for name in ("page.css", "page.js"))
    template = environment.get_template("page.html.j2")
    return template.render(
        sections=sections,
        numbers={figure.name: number for number, figure in enumerate(_blocks(sections, Figure))},
        title=options.title,
        facts=facts,
        made=made,
        style=style,
        script=script,
        markup=Markup,
    )
