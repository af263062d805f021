"""The tables of a grid, in the layout of its protocol, and the command for a page about its runs."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Mapping, Sequence

from .calls import REPOSITORY, Call
from .grid import Experiment, Grid, targets_of
from .launchers import shots_text
from .requests import SHIFTED


def show_left_out(experiments: Sequence[Experiment]) -> None:
    """Print the rows without a config file to standard error."""
    for row, why in {each.row: each.missing for each in experiments if each.missing}.items():
        print(f"left out: {row}, {why}", file=sys.stderr)


def show_tables(grid: Grid, experiments: Sequence[Experiment]) -> None:
    """Print the tables of a grid: one per suite and number of shots, of the rows of which any run has begun."""
    for (suite, shots), group in itertools.groupby(experiments, key=lambda each: (each.suite, each.shots)):
        there = [each for each in group if any(call.folder.is_dir() for call in each.calls)]
        rows = [f"{each.row}={each.folder}" for each in there]
        title = ", ".join(filter(None, (grid.title or suite, grid.config, shots_text(shots))))
        if rows and grid.protocol == "continue":
            from reporting.continued import continued_tables

            for target in grid.targets:
                print(f"\n{title}, continued on {target}")
                print(continued_tables([(each.row, *each.continued[target]) for each in there], grid.seeds))
        elif rows:
            print()
            _table(grid, suite, rows, title)


def _table(grid: Grid, suite: str, rows: list[str], title: str) -> None:
    seeds = ["--seeds", *map(str, grid.seeds)]
    if grid.protocol == "base-to-new":
        from reporting.base2new import rows_table

        print(f"{title}\n{rows_table(rows, grid.seeds)}")
        return
    if grid.protocol == "transfer":
        from reporting.domain_shift import main

        cross = [] if suite in SHIFTED else ["--cross"]
        main([*seeds, "--targets", *targets_of(grid, suite), "--title", title, *cross, *rows])
        return
    from reporting.table import main

    table, published = grid.table, grid.table.get("published")
    if isinstance(published, Mapping):
        published = published.get(suite)
    options = ["--published", str(published)] if published else []
    options += ["--keyword", str(table["keyword"])] if "keyword" in table else []
    options += ["--per-task-columns"] if table.get("per_task_columns") else []
    options += ["--costs"] if table.get("costs", True) else []
    main([*options, *seeds, "--title", title, *rows])


def report_command(calls: Sequence[Call]) -> str:
    """The command that makes a page about the runs (docs/report.md), in the folder that contains them all."""
    folder = os.path.commonpath([call.folder.parent for call in calls])
    return shlex.join([sys.executable, str(REPOSITORY / "report.py"), folder, "-o", os.path.join(folder, "report")])
