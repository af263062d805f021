"""What the report says about the runs themselves: which are missing, how each was made, how training went."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dassl.runs.logs import training_epochs
from dassl.runs.record import log_files
from dassl.utils.tools import open_file
from reporting.page.blocks import Cell, Row, Table
from reporting.page.rows import Group, natural

MOST_LOGS = 60  # read for one figure of training curves
MOST_UNFINISHED = 200
ABOUT = {
    "config": "configuration",
    "backbone": "backbone",
    "version": "versions",
    "split_hash": "hash of the splits",
    "weights_hash": "hash of CLIP's weights",
    "config_hash": "hash of the settings",
}


def common_folder(frame: pd.DataFrame) -> str:
    """The folder that contains all runs, as the paths begin; "" if they begin differently."""
    try:
        return os.path.commonpath([os.path.dirname(path) for path in frame["path"].unique()])
    except ValueError:  # no runs, or absolute and relative paths
        return ""


def one_per_run(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with one row per run folder; runs of a suite that was joined from runs of tasks are left out."""
    joined = frame["joined"] & frame["task_id"].isna() & frame["metric"].notna()
    return frame[~joined].drop_duplicates("path")


def unfinished_table(frame: pd.DataFrame, root: str = "") -> Table | None:
    """The runs without results, with their reasons; None where every run has finished."""
    runs = one_per_run(frame[(frame["status"] != "complete") | frame["metric"].isna()])
    if runs.empty:
        return None
    runs = runs.sort_values("path", key=lambda paths: paths.map(natural))
    rows = [
        Row(os.path.relpath(path, root) if root else path, [Cell(status or "unknown"), Cell(problem or "–")])
        for path, status, problem in zip(runs["path"], runs["status"], runs["problem"], strict=True)
    ]
    left = len(rows) - MOST_UNFINISHED
    notes = [f"and {left} more, in the CSV file"] if left > 0 else []
    data = runs[["path", "status", "problem"]]
    return Table(
        "unfinished", "Runs without results", "run", ["status", "reason"], rows[:MOST_UNFINISHED], data, notes, 2
    )


def made(group: Group, root: str = "") -> dict:
    """How the runs of a group were made: its title, what all runs have in common, and an entry per row and setting.

    Paths are relative to `root`. Runs whose commands differ only in the seed, or in the number of their task, share an
    entry, with {SEED} and {TASK} in place of the numbers.
    """
    runs = one_per_run(group.frame).copy()
    tasks = runs["task_id"].where(runs["joined"])
    runs["pattern"] = [_pattern(*found) for found in zip(runs["command"], runs["seed"], tasks, strict=True)]
    paths = [os.path.relpath(path, root) if root else path for path in runs["path"]]
    runs["place"] = [_pattern(*found) for found in zip(paths, runs["seed"], tasks, strict=True)]
    common = {column: values for column in ABOUT if len(values := _distinct(runs[column])) == 1}
    entries = []
    for (row, place, pattern), part in runs.groupby(["row", "place", "pattern"], sort=False, dropna=False):
        about = {"seeds": [str(seed) for seed in sorted(part["seed"].dropna().unique())]}
        about |= {title: _distinct(part[column]) for column, title in ABOUT.items() if column not in common}
        seconds = part["train_seconds"].mean()
        about["training"] = [] if pd.isna(seconds) else [f"{seconds:,.1f} s"]
        about = {title: values for title, values in about.items() if values}
        entries.append({"row": row, "place": place, "command": pattern, "about": about})
    entries.sort(key=lambda entry: (group.rows.index(entry["row"]), natural(entry["place"])))
    common = {ABOUT[column]: values for column, values in common.items()}
    return {"title": group.title, "common": common, "entries": entries}


def _distinct(column: pd.Series) -> list[str]:
    """The different values as text, of hashes the beginning."""
    short = 12 if column.name.endswith("_hash") else None
    return [str(value)[:short] for value in column.dropna().unique() if value != ""]


def _pattern(text: str, seed, task) -> str:
    """A command or path with {SEED} in place of the seed, and {TASK} in place of the task of a run of one task."""
    if pd.notna(task):
        text = re.sub(rf"\btask([-_]?){task}\b", r"task\1{TASK}", text)
        text = re.sub(rf"-{task}(?=/|$| )", "-{TASK}", text)
    if pd.isna(seed):
        return text
    text = re.sub(rf"\bseed([-_]?){seed}\b", r"seed\1{SEED}", text)
    return re.sub(rf"(--seed[ =]){seed}\b", r"\1{SEED}", text)


def differences(group: Group) -> list[str]:
    """Notes on what runs of a group should have in common and do not."""
    runs, notes = one_per_run(group.frame), []
    for column, title in (("split_hash", "splits"), ("weights_hash", "weights of CLIP")):
        each = runs[runs[column] != ""].groupby(["tested", "classes"])[column].nunique()
        if column == "split_hash" and runs["joined"].any():
            continue  # a run of one task has the hash of its split
        if (each > 1).any():
            notes.append(f"Not all runs have the same {title}: their hashes differ. Compare their numbers with care.")
    drawn = runs[~runs["joined"]].groupby(["tested", "classes", "shots", "seed"])["fewshot_hash"].nunique()
    if (drawn > 1).any():
        notes.append(
            "Not all runs of a seed have the same few-shot images: DATASET.FEWSHOT_SPLIT differs. Compare their "
            "numbers with care."
        )
    tasks = group.of("overall_metric", mean=False).groupby("row")["task"].agg(lambda names: frozenset(names))
    if tasks.nunique() > 1:
        most = frozenset().union(*tasks)
        for row, found in tasks.items():
            if found != most:
                notes.append(
                    f"{row} has no results of: {', '.join(sorted(most - found))}. Its means are over other tasks."
                )
    return notes


def training_curves(group: Group, shots, rows: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Mean over seeds per row and epoch of what the logs of the runs print: loss, acc, validation."""
    runs = one_per_run(group.frame)
    runs = runs[(runs["shots"] == shots).fillna(False) & runs["row"].isin(rows)]
    found, each = {}, max(1, MOST_LOGS // max(1, runs["row"].nunique()))
    for row in rows:
        epochs = []
        for path in runs.loc[runs["row"] == row, "path"].head(each):
            for file in log_files(path)[:1]:
                epochs += _epochs(file)
        table = pd.DataFrame(epochs)
        if len(table) and "loss" in table:
            kept = [column for column in ("loss", "acc", "validation") if column in table]
            table = table.groupby("epoch")[kept].mean()
            if len(table) > 1:
                found[row] = table.iloc[:: max(1, len(table) // 100)]  # at most about 100 points per line
    return found


def _epochs(file: Path) -> list[dict]:
    try:
        with open_file(file, encoding="utf-8", errors="replace") as stream:
            return training_epochs(stream)
    except (OSError, ValueError):
        return []


def facts(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """(title, text) lines about all runs, for the head of the page."""
    runs = one_per_run(frame)
    counts = runs["status"].replace("", "unknown").value_counts()
    status = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    lines = [("Runs", f"{len(runs):,} ({status})")]
    lines.append(("Folder", common_folder(frame) or "several"))
    for column, title in (("backbone", "Backbone"), ("version", "Versions")):
        values = [value for value in runs[column].dropna().unique() if value]
        if values:
            more = f"; and {len(values) - 3} others" if len(values) > 3 else ""
            lines.append((title, "; ".join(values[:3]) + more))
    return lines
