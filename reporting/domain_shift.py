"""Table of models tested on other datasets: `python -m reporting.domain_shift [--cross] LABEL=FOLDER ...`.

FOLDER contains the runs on the source (seed1, seed2, ...) and the tests of `xd_test.sh` (xd/TARGET/seed1, ...). For
zero-shot CLIP, FOLDER is the run on the source, and the run on TARGET is a sibling folder.

The layout follows Table 1 of the UPT paper: source, targets, average of all, average of the targets (OOD). Tables of
cross-dataset transfer (`--cross`) have the average of the targets only.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dassl import program
from dassl.runs.results import canonical
from dassl.utils.arguments import Parser, add_seeds
from reporting.experiments import Experiment, ReportError, Seeds, load_experiment, named_folders
from reporting.export import emit, json_text, output_options
from reporting.frame import frame_of
from reporting.tables import OVERALL, Choice, Numbers, Stats, further_choices, metric_names, statistics
from reporting.text import Table, number_text, spread_text

TESTS = "xd"  # folder of the tests on targets, a sibling of the seeds
AVERAGE, OOD, TRANSFER = "average", "OOD average", "average of targets"
SOURCE = ""  # in place of the name of a target
Part = Experiment | None  # None if there is no run


@dataclass
class Row:
    """A method: its runs on the source and its tests on each target."""

    label: str
    source: Experiment
    targets: dict[str, Part]

    def parts(self) -> list[tuple[str, Experiment]]:
        """(name, experiment) of the columns that have runs; the source is first."""
        return [(name, part) for name, part in ((SOURCE, self.source), *self.targets.items()) if part]

    def stats(self, choice: Choice, cross: bool, ci95: bool = False) -> Stats:
        """Statistics in the order of `header`: source, targets, average(s).

        An average is the mean of the columns' means; its spread is over the averages of those seeds that have a value
        in every column. It is missing if a column has no value, because fewer datasets are not comparable.
        """
        columns = [SOURCE, *self.targets]
        values = Numbers(frame_of(self.parts()), choice).values[OVERALL].unstack(level=0)
        values.index = [label if label.startswith("seed") else "" for label in values.index]  # a single run
        values = values.groupby(level=0).first().reindex(columns=columns)
        for name, own in _averages(columns, cross).items():
            values[name] = values[own].mean(axis=1, skipna=False)
        found = statistics(values, ci95)
        for name, own in _averages(columns, cross).items():
            found.mean[name] = found.mean[own].mean(skipna=False)
        return found

    def notes(self, seeds: Seeds) -> list[str]:
        """Missing and unfinished tests, and the notes of the experiments."""
        notes = [f"source: {note}" for note in self.source.notes()]
        expected = [f"seed{seed}" for seed in seeds] if seeds else [run.label for run in self.source.finished]
        if [run.folder for run in self.source.runs] == [self.source.folder]:
            expected = []  # a single run, without seeds
        for target, part in self.targets.items():
            if part is None:
                notes.append(f"missing: every test on {target}")
                continue
            gaps = [label for label in expected if label not in {run.label for run in part.runs}]
            notes += [f"missing: {target}, {', '.join(gaps)}"] if gaps else []
            notes += [f"{target}: {note}" for note in part.notes() if not note.startswith("missing: ")]
        return notes


def _averages(columns: Sequence[str], cross: bool) -> dict[str, list[str]]:
    """{title of an average: its columns}; the source is the first of `columns`."""
    return {TRANSFER: columns[1:]} if cross else {AVERAGE: columns, OOD: columns[1:]}


# ---------------------------------------------------------------------------------------------------- folders


def load_row(label: str, folder: Path, targets: Sequence[str], seeds: Seeds = None) -> Row:
    """The runs of a method in `folder`, and its tests on `targets`.

    Raises:
        ReportError: `folder` contains no runs.
    """
    found: dict[str, Part] = dict.fromkeys(targets)
    for name in targets:
        for place in (folder / TESTS / name, folder.parent / name):
            if place.is_dir() and found[name] is None:
                try:
                    found[name] = load_experiment(place, name, seeds=seeds)
                except ReportError:  # a folder without runs
                    continue
    return Row(label, load_experiment(folder, label, seeds=seeds), found)


def load_rows(experiments: Sequence[str], targets: Sequence[str] = (), seeds: Seeds = None) -> list[Row]:
    """A row per "LABEL=FOLDER", all with the same targets; by default the targets of all rows.

    Raises:
        ReportError: wrong arguments, or no finished run.
    """
    given = named_folders(experiments)
    there = {path.name for _, folder in given for path in (folder / TESTS).glob("*") if path.is_dir()}
    targets = list(targets) or sorted(there)
    if not targets:
        places = ", ".join(str(folder / TESTS) for _, folder in given)
        raise ReportError(f"no tests on other datasets in {places}: scripts/xd_test.sh makes them")
    rows = [load_row(label, folder, targets, seeds) for label, folder in given]
    if not any(part.finished for row in rows for _, part in row.parts()):
        raise ReportError("no finished run in any of: " + ", ".join(str(row.source.folder) for row in rows))
    suites = {suite for row in rows for suite in _suites(row.source)}
    if len(suites) > 1:
        raise ReportError(f"the rows have different sources: {', '.join(sorted(suites))}; make a table of each")
    return rows


def _suites(part: Part) -> set[str]:
    """Names of the dataset, as the runs recorded it."""
    return {str(run.settings["suite"]) for run in (part.finished if part else ()) if run.settings.get("suite")}


# ---------------------------------------------------------------------------------------------------- output


def header(rows: list[Row], cross: bool) -> list[str]:
    """Titles of the columns: recorded names of the datasets where they are known and distinct, else folder names."""
    source = {suite for row in rows for suite in _suites(row.source)}
    titles = [source.pop() if source else "source"]
    for target in rows[0].targets:
        names = {suite for row in rows for suite in _suites(row.targets[target])}
        name = names.pop() if len(names) == 1 else target
        titles.append(target if name in titles else name)
    return [*titles, *([TRANSFER] if cross else [AVERAGE, OOD])]


def as_table(rows: list[Row], choice: Choice, cross: bool, ci95: bool = False) -> Table:
    """A row per method."""
    cells = [[row.label + row.source.mark, *row.stats(choice, cross, ci95).texts()] for row in rows]
    return Table(["method", *header(rows, cross)], cells)


def as_plain(rows: list[Row], choice: Choice, cross: bool, ci95: bool = False) -> list[dict]:
    """The table as plain values for JSON, unrounded."""
    names, found = header(rows, cross), []
    for row in rows:
        stats = row.stats(choice, cross, ci95)
        columns = {name: stats.plain(own) for name, own in zip(names, stats.mean.index, strict=True)}
        found.append({"method": row.label, "columns": columns})
    return found


def as_csv(described: list[dict]) -> str:
    """CSV with a row per method: mean and spread of every column."""
    rows = []
    for row in described:
        numbers = {}
        for name, value in row["columns"].items():
            numbers |= {name: value["mean"], f"{name} spread": value["spread"]}
        rows.append({"method": row["method"], **numbers})
    return pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n")


def build_parser() -> Parser:
    parser = Parser(prog="python -m reporting.domain_shift", description=__doc__.split("\n\n")[0])
    parser.add_argument("--title", metavar="TEXT", default="", help="line above the table")
    parser.add_list(
        "--targets",
        lambda word: "=" not in word,
        default=[],
        metavar="T ...",
        help="targets in this order (default: all)",
    )
    parser.add_argument("--cross", action="store_true", help="cross-dataset transfer: average of the targets only")
    parser.add_argument("--keyword", default="overall_metric", metavar="K", help="which metric")
    add_seeds(parser, "expected seeds")
    parser.add_argument("--ci95", action="store_true", help="half the 95 %% interval instead of the standard deviation")
    output_options(parser)
    parser.add_argument("experiments", nargs="+", metavar="LABEL=FOLDER", help="folder of the runs on the source")
    return parser


@program.entry
def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    choice, how = Choice(canonical(options.keyword)), (options.cross, options.ci95)
    rows = load_rows(options.experiments, options.targets, options.seeds)
    frame = frame_of([part for row in rows for part in row.parts()])
    if choice.number not in (known := metric_names(frame)):
        raise ReportError(f"--keyword {options.keyword}: expected one of {', '.join(known)}")
    notes = "\n".join(f"note: {row.label}: {note}" for row in rows for note in row.notes(options.seeds))
    data = {"number": choice.number, "spread": "ci95" if options.ci95 else "std", "ddof": 0}
    data["rows"] = plain = as_plain(rows, choice, *how)
    head = [*([options.title] if options.title else []), f"{spread_text(options.ci95)};"]
    head += [] if options.cross else [f"{AVERAGE}: of source and targets; {OOD}: of the targets alone;"]
    choices = [choice, *(further_choices(frame) if choice.number == "overall_metric" else [])]
    tables = [("" if each is choice else "\n", each, as_table(rows, each, *how)) for each in choices]
    emit(
        options,
        notes,
        as_json=lambda: json_text(data),
        as_csv=lambda: as_csv(plain),
        blocks=lambda: [*head, *(b for gap, each, table in tables for b in (f"{gap}{number_text(each)}\n", table))],
    )


if __name__ == "__main__":
    sys.exit(main())
