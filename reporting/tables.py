"""Statistics over seeds, as group-bys of the frame (reporting/frame.py)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from dassl.runs.results import ALIASES, CONFIDENCE_METRICS, STANDARD_METRICS, canonical
from reporting.experiments import ReportError, missing_seeds
from reporting.text import cell

OF_TASK = {"task", "task_id", "task_key"}
SIDE_BY_SIDE = ["suite", "protocol", "classes"]  # runs of these are expected to have the same seeds
OVERALL = (-1, "")  # in place of a task: the mean over the tasks


class Stats(NamedTuple):
    """Mean (per cent), spread (NaN for n = 1) and number of values, each as Series or DataFrame."""

    mean: pd.Series
    spread: pd.Series
    n: pd.Series

    def plain(self, *key) -> dict:
        """The entry at `key` as values for JSON: {"mean": ..., "spread": ..., "n": ...}, None for NaN."""
        mean, spread, n = (part.loc[key] if len(key) > 1 else part[key[0]] for part in self)
        return {"mean": _known(mean), "spread": _known(spread), "n": int(n)}

    def texts(self):
        """The cells of tables, of the shape of `mean`."""
        if isinstance(self.mean, pd.Series):
            return self.mean.combine(self.spread, cell).astype(object)
        return self.mean.combine(self.spread, lambda mean, spread: mean.combine(spread, cell).astype(object))


def _known(value) -> float | None:
    return None if pd.isna(value) else float(value)


def statistics(values, ci95: bool = False) -> Stats:
    """Mean and population standard deviation (ddof = 0) of the columns of a table, or of the groups of a group-by.

    Args:
        ci95: half the 95 % interval, 1.96 * std / sqrt(n), instead of the standard deviation.
    """
    n = values.count()
    return Stats(values.mean(), values.std(ddof=0).where(n > 1) * (1.96 / np.sqrt(n) if ci95 else 1), n)


def select(frame: pd.DataFrame, metric: str = "overall_metric", per_task: bool = False) -> pd.DataFrame:
    """The rows with a metric, under any of its names: of the tasks, or of the means over the tasks."""
    return frame[(frame["metric"] == canonical(metric)) & (frame["task_id"].notna() == per_task)]


def summary(frame: pd.DataFrame, by: Sequence[str] | str, metric: str = "overall_metric") -> pd.DataFrame:
    """Mean and standard deviation over seeds.

    Args:
        frame: as `read_frame` returns it, or a part of it.
        by: columns that make a group. With "task", "task_id" or "task_key" among them the numbers are of single tasks,
            else means over the tasks. If "experiment" is absent, a group may contain several experiments.
        metric: "overall_metric" is the metric that each task declares.

    Returns:
        A table with the columns `by` as index, in the order in which the groups first appear, and the columns
        mean (per cent; NaN if nothing is measured),
        std (population, ddof = 0; NaN for n = 1),
        n (number of values), and
        missing (tuple of expected seeds without a value: those of unfinished runs, those that other runs of the same
        suite, protocol and classes have, and gaps between seeds; none are expected of zero-shot CLIP).
    """
    by = [by] if isinstance(by, str) else list(by)
    per_task = bool(OF_TASK & set(by))
    known = frame[frame["task_id"].notna()] if per_task else frame
    groups = known.groupby(by, dropna=False, sort=False)
    known = known.assign(group=groups.ngroup())
    values = select(known, metric, per_task).dropna(subset=["value"])
    found = statistics(values.groupby("group")["value"])
    found = pd.DataFrame({"mean": found.mean, "std": found.spread, "n": found.n}, index=range(groups.ngroups))
    found["n"] = found["n"].fillna(0).astype(int)
    found["missing"] = _missing(frame, known, values, groups.ngroups)
    return found.set_axis(groups.size().index)


def _missing(frame: pd.DataFrame, known: pd.DataFrame, values: pd.DataFrame, count: int) -> list[tuple[int, ...]]:
    """The expected seeds without a value of each of `count` groups, whose numbers are the column "group"."""
    there: list[set] = [set() for _ in range(count)]
    expected: list[set] = [set() for _ in range(count)]
    for group, seed in _different(values, ["group", "seed"]):
        there[group].add(seed)
    around: dict[tuple, set] = {}
    for *place, seed in _different(frame, [*SIDE_BY_SIDE, "seed"]):
        around.setdefault(tuple(place), set()).add(seed)
    for group, seed in _different(known, ["group", "seed"]):
        expected[group].add(seed)
    for group, *place in _different(known[known["shots"].notna()], ["group", *SIDE_BY_SIDE]):
        expected[group] |= around.get(tuple(place), set()) | set(missing_seeds(sorted(there[group])))
    return [tuple(sorted(map(int, own - seeds))) for own, seeds in zip(expected, there, strict=True)]


def _different(frame: pd.DataFrame, columns: list[str]):
    """The different rows of some columns, as tuples; rows without a seed are left out if it is among them."""
    return frame[columns].drop_duplicates().dropna().itertuples(index=False, name=None)


# ---------------------------------------------------------------------------------------------------- one number


@dataclass(frozen=True)
class Choice:
    """The number to show: name of a metric, and the task (id, name) if only one task is wanted."""

    number: str = "overall_metric"
    task: tuple[int, str] | None = None

    @property
    def column(self) -> tuple[int, str]:
        return self.task or OVERALL


class Numbers:
    """The values of one choice in the finished runs of a frame, and their statistics over the runs.

    `values`: a row per (experiment, run), a column per (number, name) of a task, and OVERALL.
    `stats` of each column, and `texts` for the cells of tables: a row per experiment.
    """

    def __init__(self, frame: pd.DataFrame, choice: Choice, ci95: bool = False):
        self.choice, self.ci95 = choice, ci95
        rows = frame[frame["metric"].notna()].astype({"task_id": "float"}).fillna({"task_id": OVERALL[0]})
        rows = rows.astype({"task_id": "int64"})
        runs = pd.MultiIndex.from_frame(rows[["experiment", "run"]].drop_duplicates())
        columns = sorted({OVERALL, *rows[["task_id", "task"]].itertuples(index=False, name=None)})
        rows = rows[rows["metric"] == choice.number].drop_duplicates(["experiment", "run", "task_id", "task"])
        wide = rows.pivot(index=["experiment", "run"], columns=["task_id", "task"], values="value")
        self.values = wide.reindex(index=runs, columns=pd.MultiIndex.from_tuples(columns))
        self.stats = statistics(self.values.groupby(level=0, sort=False), ci95)
        self.texts = self.stats.texts()

    def of(self, label: str) -> pd.DataFrame:
        """The values of an experiment, a row per run; without rows if none is finished."""
        there = label in self.stats.mean.index
        return self.values.loc[label] if there else self.values.iloc[:0].droplevel(0)

    def entry(self, label: str, column: tuple[int, str]) -> dict:
        """Statistics and values of an experiment for JSON."""
        values = self.of(label)
        known = values[column] if column in values else pd.Series(dtype=float)
        found = self.stats.plain(label, column) if len(known) else {"mean": None, "spread": None, "n": 0}
        return {**found, "values": {run: _known(value) for run, value in known.items()}}

    def relative(self) -> pd.DataFrame:
        """100 * std / mean, a row per experiment; NaN for fewer than two values or a mean of 0."""
        spread = statistics(self.values.groupby(level=0, sort=False)).spread
        return 100 * spread / self.stats.mean.where(self.stats.mean != 0)


def further_choices(frame: pd.DataFrame) -> list[Choice]:
    """A choice per metric that users have registered; tables show these metrics below the declared one."""
    standard = {"overall_metric", *STANDARD_METRICS, *CONFIDENCE_METRICS, *ALIASES.values()}
    return [Choice(name) for name in metric_names(frame) if name not in standard]


def metric_names(frame: pd.DataFrame) -> list[str]:
    """Names of all metrics that the finished runs have a value of, sorted."""
    return sorted(frame.loc[frame["value"].notna(), "metric"].unique())


def choose(keyword: str | None, frame: pd.DataFrame) -> Choice:
    """The choice for a --keyword: a metric ("macro_f1", "accuracy"), or a task by name, key or number ("task3").

    Raises:
        ReportError: no finished run has it; the text lists all metrics and tasks.
    """
    if keyword is None:
        return Choice()
    if canonical(keyword) in (metrics := metric_names(frame)):
        return Choice(canonical(keyword))
    tasks = frame[frame["metric"].notna() & frame["task_id"].notna()]
    tasks = tasks[["task_id", "task", "task_key"]].drop_duplicates(["task_id", "task"], keep="last")
    tasks = sorted(tasks.itertuples(index=False, name=None))
    wanted, number = keyword.casefold(), re.fullmatch(r"(?:task)?(\d+)", keyword.casefold())
    for test in (
        lambda task: task[1].casefold() == wanted,
        lambda task: task[2].casefold() == wanted,
        lambda task: number is not None and task[0] == int(number[1]),
    ):
        hits = [task[:2] for task in tasks if test(task)]
        if len(hits) > 1:
            names = ", ".join(f"{id_} ({name})" for id_, name in hits)
            raise ReportError(f"--keyword {keyword} fits several tasks: {names}")
        if hits:
            return Choice(task=(int(hits[0][0]), hits[0][1]))
    raise ReportError(
        f"--keyword {keyword}: neither a metric nor a task of these runs.\n"
        f"metrics: {', '.join(metrics)}\n"
        f"tasks: {', '.join(f'{id_} ({name})' for id_, name, _ in tasks) or 'none given'}"
    )
