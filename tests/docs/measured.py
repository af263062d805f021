"""Runs recorded for the tables of README.md and docs/: their numbers in a small file, and the tables made from it.

    sh scripts/demo.sh
    python -m tests.docs.measured output/icon5 output/ZeroshotCLIP -o docs/measured/demo.csv
    python -m tests.docs.tables

The first command makes the runs, the second records them, the third writes the tables into the pages.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from dassl.utils import atomic_write
from reporting.frame import read_frame
from reporting.tables import select, summary
from tests.docs.method_tables import table

MEASURED = Path(__file__).resolve().parents[2] / "docs" / "measured"
COLUMNS = ("method", "suite", "protocol", "classes", "backbone", "config", "shots", "seed", "task_id", "task", "metric",
           "value", "chosen_on", "parameters", "memory_bytes", "status")  # fmt: skip
BASELINES, METHOD = ("CoOp-MT", "CoOp-CA"), "SoftCPT-NATA"
SHOTS = 4  # of the table of tasks


def load(name: str) -> pd.DataFrame:
    """The recorded runs of docs/measured/NAME.csv, in the form of `read_frame`."""
    kinds = {"shots": "Int64", "seed": "Int64", "task_id": "Int64", "parameters": "Int64", "memory_bytes": "Int64"}
    frame = pd.read_csv(
        MEASURED / f"{name}.csv", dtype=kinds, keep_default_na=False, na_values=dict.fromkeys((*kinds, "value"), "")
    )
    frame["suite"] = frame["suite"].astype("str")
    return frame


def _cells(frame: pd.DataFrame, method: str, columns: list, by: str, per_task: bool) -> list[str]:
    own = select(frame[frame["method"] == method], per_task=per_task)
    if own["shots"].isna().all() and by == "shots":  # zero-shot: the same for any number of images
        return [f"{own['value'].mean():.2f}"] * len(columns)
    groups = own.groupby(by)["value"]
    return [
        f"{mean:.2f}" if n < 2 else f"{mean:.2f} ± {std:.2f}"
        for mean, std, n in (
            (groups.mean()[column], groups.std(ddof=0)[column], groups.count()[column]) for column in columns
        )
    ]


def demo_by_shots() -> list[str]:
    """Means over tasks of the demo's rows."""
    frame = load("demo")
    shots = sorted(frame["shots"].dropna().unique())
    rows = [
        [method.replace("ZeroshotCLIP", "zero-shot CLIP"), *_cells(frame, method, shots, "shots", False)]
        for method in ("ZeroshotCLIP", *BASELINES, METHOD)
    ]
    return table(["images per class", *shots], rows)


def demo_differences() -> list[str]:
    """SoftCPT minus the others, seed by seed."""
    frame = select(load("demo"))
    values = frame.dropna(subset=["shots"]).pivot(index=["shots", "seed"], columns="method", values="value")
    rows = []
    for other in BASELINES:
        cells = []
        for _, found in (values[METHOD] - values[other]).groupby("shots"):
            cells.append(f"{found.mean():+.2f} ± {found.std(ddof=0):.2f} ({(found > 0).sum()} of {len(found)})")
        rows.append([f"{METHOD} - {other}", *cells])
    return table(["images per class", *values.index.levels[0]], rows)


def demo_by_task() -> list[str]:
    """The demo's rows with SHOTS images per class, by task."""
    frame = load("demo")
    frame = frame[frame["shots"].isna() | (frame["shots"] == SHOTS)]
    methods = ("ZeroshotCLIP", *BASELINES, METHOD)
    tasks = frame.dropna(subset=["task_id"]).sort_values("task_id")["task"].unique()
    columns = [_cells(frame, method, tasks, "task", True) for method in methods]
    means = [_cells(frame.fillna({"task": ""}), method, [""], "task", False)[0] for method in methods]
    return table(["task", *methods], [["mean over tasks", *means], *map(list, zip(tasks, *columns, strict=True))])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    frame = read_frame(options.folders)
    missing = summary(frame, ["method", "shots"])
    if gaps := [f"{key}: {row.missing}" for key, row in missing.iterrows() if row.missing]:
        print("not finished: " + "; ".join(gaps), file=sys.stderr)
        return 2
    frame = frame[frame["metric"] == "overall_metric"]
    with atomic_write(options.output) as stream:
        frame.to_csv(stream, index=False, columns=list(COLUMNS), lineterminator="\n", float_format="%.6g")
    return 0


if __name__ == "__main__":
    sys.exit(main())
