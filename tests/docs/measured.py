"""Runs recorded for the tables of README.md and docs/: their numbers in a small file, and the tables made from it.

    sh scripts/demo.sh                                               makes the runs
    python -m tests.docs.measured output -o docs/measured/demo.csv   records them
    python -m tests.docs.tables                                      writes the tables into the pages

A table is that of a grid (configs/sweeps): the grid names the folder of each run, the record has its numbers.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path

import pandas as pd

from dassl.utils import atomic_write
from reporting.frame import read_frame
from reporting.published_tables import load as load_published
from reporting.tables import select
from sweeps.calls import Place
from sweeps.grid import expand, read_grid
from sweeps.rows import read_rows
from tests.docs.method_tables import table

MEASURED = Path(__file__).resolve().parents[2] / "docs" / "measured"
COLUMNS = ("run", "suite", "task", "value", "parameters", "mebibytes")
BASELINES, METHOD = ("CoOp-MT", "CoOp-CA"), "SoftCPT-NATA"
SHARED = ("", "one set per task", "soft")  # how the rows of configs/rows/sharing.yaml end, and those that do not:
OTHER_NAMES = {"SoftCPT-NATA": ("SoftCPT-NATA", "soft"), "MTUPT-soft": ("MTUPT", "soft"), "MTUPT-hard": ("MTUPT", "")}


# ---- records


def record(folders: list[Path], tasks: bool = True) -> pd.DataFrame:
    """The finished runs below the folders: COLUMNS, a row per run and task; `task` is "" for the mean over the tasks.

    `run` is the folder below the last folder named output, `value` the declared metric in per cent.
    """
    frame = read_frame(folders)
    frame = pd.concat([select(frame), *([select(frame, per_task=True)] if tasks else [])])
    frame = frame[frame["status"] == "complete"]
    frame["run"] = [path.rpartition("/output/")[2] for path in frame["path"]]
    frame["mebibytes"] = (frame["memory_bytes"] / 2**20).round().astype("Int64")
    frame["task"] = frame["task"].where(frame["task_id"].notna(), "")
    return frame[list(COLUMNS)].sort_values("run", kind="stable")


@cache
def load(name: str) -> pd.DataFrame:
    """docs/measured/NAME.csv, with (run, task) as index."""
    frame = pd.read_csv(MEASURED / f"{name}.csv", keep_default_na=False, na_values={"value": ""})
    return frame.set_index(["run", "task"])


@cache
def measured(name: str, grid: str, task: str = "", **changes) -> pd.DataFrame:
    """The runs of a grid with their recorded numbers: row, shots, dataset, seed, value, parameters, mebibytes.

    Args:
        name: of the record.
        grid: name of a file in configs/sweeps; `changes` replace its entries.
        task: name of the task; "": the mean over the tasks.

    Raises:
        KeyError: runs of the grid that are not recorded.
    """
    found = load(name).xs(task, level="task")
    rows = [
        (each.row, each.shots, call.dataset.stem, call.seed, call.folder.as_posix().removeprefix("output/"))
        for each in expand(read_grid(grid, changes), Place(output=Path()))
        for call in each.calls
    ]
    runs = pd.DataFrame(rows, columns=["row", "shots", "dataset", "seed", "run"])
    if missing := sorted(set(runs["run"]) - set(found.index)):
        raise KeyError(f"{name}.csv lacks {len(missing)} runs of {grid}: {', '.join(missing[:3])}")
    return runs.join(found[["value", "parameters", "mebibytes"]], on="run")


def text(values: pd.Series) -> str:
    """Mean and population standard deviation over seeds."""
    return f"{values.mean():.2f}" if len(values) < 2 else f"{values.mean():.2f} ± {values.std(ddof=0):.2f}"


def by_shots(runs: pd.DataFrame) -> list[str]:
    """A row per method, a column per number of images, and what it costs."""
    shots = sorted(runs["shots"].unique())
    rows = [
        [
            row.replace("*", r"\*"),
            *(text(own.loc[own["shots"] == each, "value"]) for each in shots),
            f"{own['parameters'].max():,}",
            f"{own['mebibytes'].max():,}",
        ]
        for row, own in runs.groupby("row", sort=False)
    ]
    head = [f"{each} image{'s' if each > 1 else ' per class'}" for each in shots]
    return table(["row", *head, "learned", "MiB"], rows)


# ---- the demo


def demo_by_shots() -> list[str]:
    """Means over tasks of the demo's rows."""
    runs = measured("demo", "demo")
    cells = runs.groupby(["row", "shots"], sort=False)["value"].apply(text).unstack()
    rows = [[row.replace("ZeroshotCLIP", "zero-shot CLIP"), *cells.loc[row, sorted(cells)]] for row in cells.index]
    return table(["images per class", *sorted(cells)], rows)


def demo_differences() -> list[str]:
    """SoftCPT minus the others, seed by seed."""
    runs = measured("demo", "demo")
    values = runs[runs["row"].isin((*BASELINES, METHOD))].pivot(index=["shots", "seed"], columns="row", values="value")
    rows = []
    for other in BASELINES:
        cells = []
        for _, found in (values[METHOD] - values[other]).groupby("shots"):
            cells.append(f"{found.mean():+.2f} ± {found.std(ddof=0):.2f} ({(found > 0).sum()} of {len(found)})")
        rows.append([f"{METHOD} - {other}", *cells])
    return table(["images per class", *values.index.levels[0]], rows)


def demo_by_task() -> list[str]:
    """The demo's rows with 4 images per class, by task."""
    rows = []
    for task in load("demo").index.unique("task"):
        runs = measured("demo", "demo", task=task)
        cells = runs[runs["shots"] == 4].groupby("row", sort=False)["value"].apply(text)
        rows.append([task or "mean over tasks", *cells])
    return table(["task", *cells.index], rows)


# ---- docs/results.md and docs/prompt-methods.md


def softcpt_rows() -> list[str]:
    """SoftCPT's table on Icon-5."""
    return by_shots(measured("embedded", "embedded", rows="softcpt"))


def upt_rows() -> list[str]:
    """Table 2 of the UPT paper on Icon-5, beside the paper's averages over its data sets."""
    found = load_published()
    found = found[(found["source"] == "upt2") & (found["mean_over"] != "")]
    found = dict(zip(found["method"].str.removesuffix(" Training"), found["value"], strict=True))
    names = read_grid("embedded").rows
    names = ("softcpt/ZeroshotCLIP", *(name for name in names if name.startswith("upt2/")), "softcpt/SoftCPT-NATA")
    runs = measured("embedded", "embedded", rows=names, shots=4)
    rows = [
        [row, text(own["value"]), f"{found[row]:.2f}" if row in found else ""]
        for row, own in runs.groupby("row", sort=False)
    ]
    return table(["row", "accuracy", "in the paper"], rows)


def style_rows() -> list[str]:
    """Table 1 of the UPT paper with drawing styles: trained on colour, tested on each."""
    runs = measured("embedded", "upt1", suites="icon5_colour", config="tiny_ep20", shots=4)
    rows, styles = [], list(runs["dataset"].unique())
    for row, own in runs.groupby("row", sort=False):
        wide = own.pivot(index="seed", columns="dataset", values="value")[styles]
        means = (wide.mean(axis=1), wide[styles[1:]].mean(axis=1))
        rows.append([row, *(text(wide[style]) for style in styles), *map(text, means)])
    heads = [style.rpartition("_")[2].capitalize() for style in styles]
    return table(["row", *heads, "average", "OOD average"], rows)


def sharing(**changes) -> list[str]:
    """What the tasks share: one set, one per task, or sets generated from the names of the tasks.

    `changes` replace entries of the grid.
    """
    runs = measured("embedded", "sharing", **changes)
    cells = runs.groupby("row", sort=False)["value"].apply(text)
    found: dict[str, list[str]] = {}
    for row, cell in cells.items():
        name, _, end = row.partition(", ")
        name, end = OTHER_NAMES.get(row, (name, end))
        found.setdefault(name, [""] * len(SHARED))[SHARED.index(end)] = cell
    rows = [[name, *own] for name, own in found.items()]
    return table(["method", "one set for all tasks", "one set per task", "generated from task names"], rows)


def sharing_of_icon13() -> list[str]:
    """The same for all tasks of the embedded suite: one seed of the rows that have been measured."""
    names = list(read_rows("sharing"))
    rows = (f"sharing/{name}" for name in names if name.startswith(("SoftCPT", "MTUPT", "MaPLe", "TCP", "DePT")))
    return sharing(suites="icon13", seeds=(1,), rows=tuple(rows))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--means", action="store_true", help="record the means over the tasks alone")
    options = parser.parse_args(arguments)
    found = record([folder.absolute() for folder in options.folders], tasks=not options.means)
    with atomic_write(options.output) as stream:
        found.to_csv(stream, index=False, lineterminator="\n", float_format="%.8g")
    return 0


if __name__ == "__main__":
    sys.exit(main())
