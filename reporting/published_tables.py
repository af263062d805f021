"""Read published figures: `load` makes one tidy table of reporting/published/*.csv.

The files hold the tables as printed: a row per method and number of shots, a column per dataset or suite (under its
name in this project) and per average; a cell is a mean, or mean ± standard deviation over seeds. Further files:
sources.csv (where rows are from and the metric; the preferred source first), notes.csv (what applies to some figures,
by patterns; a leading ! negates) and methods.csv (names of this project's methods in the tables).
"""

import csv
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "published"
PROTOCOLS = {  # table: its protocol; models of the last two tables are trained on ImageNet
    "softcpt": "few-shot",
    "few_shot": "few-shot",
    "base_to_new": "base-to-new",
    "domain_shift": "domain-shift",
    "cross_dataset": "cross-dataset",
}
TRAINED_ON, TRANSFER = "ImageNet", ("domain-shift", "cross-dataset")
TASKS = {"General10": 10, "General11": 11, "Plant6": 6, "RS8": 8, "Fashion20": 20}  # suite: number of its tasks
AVERAGE, TARGETS, H = "average", "average of targets", "H"  # H: harmonic mean of base and new classes
METRICS, COSTS = ("overall_metric", "overall_acc"), ("parameters", "train_minutes")
ROW = ("table", "source", "method", "backbone", "classes", "shots", "metric")  # what identifies a printed row
COLUMNS = {
    **dict.fromkeys(ROW, "str"),
    "shots": "Int64",
    **dict.fromkeys(("protocol", "dataset", "mean_over"), "str"),
    **dict.fromkeys(("value", "std"), "float64"),
    "decimals": "Int64",
    "computed": "bool",
    "read_off_plot": "float64",
    **dict.fromkeys(("chosen_on", "caveat", "note"), "str"),
}


def _lines(name: str) -> list[dict[str, str]]:
    with open(FOLDER / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


SOURCES = {line["source"]: line["title"] for line in _lines("sources")}

# ---------------------------------------------------------------------------------------------------- the figures


def load(source: str | None = None) -> pd.DataFrame:
    """The published figures, a row per figure, in the order of preference of their sources.

    Columns: `table`, the file; `source`, a key of SOURCES; `method`, `backbone`; `classes` ("all", "base", "new", or
    "H" for their harmonic mean); `shots` (0: zero-shot; missing: a mean over shots, or not said); `metric`
    ("overall_acc"; "overall_metric", the metric that each task declares; "parameters"; "train_minutes"); `protocol`;
    `dataset`, or a suite for the mean over its tasks, or the name of another average; `mean_over` ("datasets",
    "targets", "shots" or ""); `value` and `std` in per cent, with `decimals` printed; `computed`, whether the figure is
    not printed but follows from printed ones; `read_off_plot`, the uncertainty of a figure from a plot, else missing;
    `chosen_on`, "test" if test images chose settings; `caveat`, why no run can be compared with it; `note`.

    Args:
        source: only the figures of this source.
    """
    frame = _load()
    return frame.copy() if source is None else frame[frame["source"] == source].reset_index(drop=True)


@cache
def _load() -> pd.DataFrame:
    metrics, order = {line["source"]: line["metric"] for line in _lines("sources")}, list(SOURCES)
    rows = [_figures(table, line, metrics) for table in PROTOCOLS for line in _lines(table)]
    found = [figure for row in rows for figure in (*row, *_means(row))]
    found += _harmonic_means(found)
    found.sort(key=lambda figure: (order.index(figure["source"]), figure["computed"]))
    return pd.DataFrame(_noted(found), columns=list(COLUMNS)).astype(COLUMNS)


def _figures(table: str, line: Mapping[str, str], metrics: Mapping[str, str]) -> list[dict]:
    """The figures of a printed row."""
    row = {
        "table": table,
        **{name: line[name] for name in ("source", "method", "backbone")},
        "classes": line.get("classes", "all"),
        "shots": int(line["shots"]) if line["shots"].isdigit() else None,
        "metric": line.get("metric", metrics[line["source"]]),
        "computed": False,
        "read_off_plot": float(line.get("read_off_plot") or "nan"),
    }
    cells = {name: text for name, text in line.items() if name not in row and text}
    several = "shots" if line["shots"] == AVERAGE else ""
    names = [name for name in cells if not name.startswith(AVERAGE)]
    found = []
    for name, text in cells.items():
        mean, _, std = text.partition(" ± ")
        over = {AVERAGE: "datasets", TARGETS: "targets"}.get(name, several)
        numbers = {"value": float(mean), "std": float(std or "nan"), "decimals": -Decimal(mean).as_tuple().exponent}
        found.append(
            {**row, "dataset": _average_name(table, names) if name == AVERAGE else name, "mean_over": over, **numbers}
        )
    for figure in found:  # a test on the dataset of training is a few-shot test
        here = PROTOCOLS[table] in TRANSFER and figure["dataset"] == TRAINED_ON
        figure["protocol"] = "few-shot" if here else PROTOCOLS[table]
    return found


def _average_name(table: str, datasets: Sequence[str]) -> str:
    """What the column "average" is the mean of: the eleven datasets, also in rows that do not list them, or others."""
    if PROTOCOLS[table] in TRANSFER:
        return "average of source and targets"
    return "General11" if len(datasets) in (0, TASKS["General11"]) else f"average of {len(datasets)} datasets"


def _means(row: Sequence[dict]) -> list[dict]:
    """The mean over a printed row where it is not printed itself: over General11, or over the targets."""
    table, found = row[0]["table"], {figure["dataset"]: figure for figure in row}
    if table == "softcpt" or row[0]["classes"] == H:
        return []
    transfer = PROTOCOLS[table] in TRANSFER
    name, over = (TARGETS, "targets") if transfer else ("General11", "datasets")
    parts = [figure for figure in row if not figure["mean_over"] and not (transfer and figure["dataset"] == TRAINED_ON)]
    whole = len(parts) == {"domain_shift": 4, "cross_dataset": 10}.get(table, TASKS["General11"])
    if name in found or not whole:
        return []
    value = sum(figure["value"] for figure in parts) / len(parts)
    return [{**parts[-1], "dataset": name, "mean_over": over, "value": value, "decimals": 2, "computed": True}]


def _harmonic_means(figures: Sequence[dict]) -> list[dict]:
    """The harmonic means of base and new classes where they are not printed."""
    identity = ("table", "source", "method", "backbone", "shots", "dataset")
    halves = {(*(figure[name] for name in identity), figure["classes"]): figure for figure in figures}
    found = []
    for (*key, classes), base in halves.items():
        new = halves.get((*key, "new"))
        if classes == "base" and new and (*key, H) not in halves:
            value = 2 * base["value"] * new["value"] / (base["value"] + new["value"])
            found.append({**base, "classes": H, "value": value, "decimals": 2, "computed": True})
    return found


def _noted(figures: list[dict]) -> list[dict]:
    """The figures with what notes.csv says about them."""
    lines, patterned = _lines("notes"), ("source", "method", "protocol", "dataset")
    for figure in figures:
        fits = [line for line in lines if all(_fits(figure[name], line[name]) for name in patterned)]
        figure["chosen_on"] = "test" if any(line["chosen_on"] for line in fits) else ""
        for name in ("caveat", "note"):
            figure[name] = "; ".join(line[name] for line in fits if line[name])
        if figure["computed"]:
            figure["note"] = "; ".join(filter(None, (figure["note"], "computed here from printed figures")))
    return figures


def _fits(text: str, pattern: str) -> bool:
    return not fnmatchcase(text, pattern[1:]) if pattern.startswith("!") else fnmatchcase(text, pattern)


@cache
def names(method: str, config: str | None = "") -> tuple[str, ...]:
    """Names of a method in the tables.

    Args:
        method: its name in configs/methods.yaml, or in the tables.
        config: name of the run's configuration file, which decides between variants; None: all of them.
    """
    lines = [line for line in _lines("methods") if line["method"] == method]
    return (*(line["published"] for line in lines if config is None or fnmatchcase(config, line["config"])), method)
