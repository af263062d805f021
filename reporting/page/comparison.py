"""Methods against a baseline: gains per task, and a paired test over seeds and tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reporting.page.blocks import Cell, Row, Table, number
from reporting.page.rows import Group

TEST = (
    "Paired t-test over (seed, task) pairs, two-sided; values are first averaged over the numbers of images that both "
    "methods have. p is corrected over the methods with Holm's method. A baseline without seeds is compared with every "
    "seed. Seeds of one task resemble each other, so with few tasks p is too small."
)


def paired_values(values: pd.DataFrame, row: str, baseline: str) -> pd.DataFrame:
    """Columns `row` and `baseline` of the (seed, task) pairs that both have.

    Args:
        values: columns row, shots, seed, task_id, value.
    """
    left, right = (values[values["row"] == name] for name in (row, baseline))
    keys = ["shots", "seed", "task_id"]
    if right["shots"].isna().all() or left["shots"].isna().all():  # zero-shot: one value for all seeds and shots
        keys = ["task_id"]
    if len(left) >= len(right):  # the seeds are those of the side with more of them
        pairs = left.merge(right[[*keys, "value"]], on=keys, suffixes=("", "_baseline"))
    else:
        pairs = right.merge(left[[*keys, "value"]], on=keys, suffixes=("_baseline", ""))
    means = pairs.groupby(["seed", "task_id"], dropna=False)[["value", "value_baseline"]].mean()
    return means.rename(columns={"value": "row", "value_baseline": "baseline"})


def holm(p: np.ndarray) -> np.ndarray:
    """p values corrected for their number (Holm, 1979); NaN stays NaN and is not counted."""
    corrected = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return corrected


def compare(values: pd.DataFrame, rows: list[str], baseline: str) -> pd.DataFrame:
    """One line per row: method, pairs, tasks, mean difference, its 95 % interval (low, high), p and p_holm."""
    from scipy.stats import ttest_rel

    found = []
    for row in rows:
        pairs = paired_values(values, row, baseline) if row != baseline else ()
        if len(pairs) == 0:
            continue
        record = {"method": row, "baseline": baseline, "pairs": len(pairs)}
        record["tasks"] = pairs.index.get_level_values("task_id").nunique()
        record["difference"] = (pairs["row"] - pairs["baseline"]).mean()
        record |= dict.fromkeys(("low", "high", "p"), np.nan)
        if len(pairs) > 1 and np.ptp(pairs["row"] - pairs["baseline"]) > 0:
            test = ttest_rel(pairs["row"], pairs["baseline"])
            record["low"], record["high"] = test.confidence_interval(0.95)
            record["p"] = test.pvalue
        found.append(record)
    table = pd.DataFrame(found)
    if len(table):
        table["p_holm"] = holm(table["p"].to_numpy(float))
    return table


def comparison_table(group: Group, name: str, values: pd.DataFrame, baseline: str, what: str) -> Table | None:
    """The table of `compare`; None where nothing has a pair with the baseline."""
    found = compare(values, group.rows, baseline)
    if found.empty:
        return None
    rows = []
    for record in found.to_dict("records"):
        interval = f"{number(record['low'], sign='+')} to {number(record['high'], sign='+')}"
        rows.append(
            Row(
                record["method"],
                [
                    Cell(number(record["difference"], sign="+"), value=record["difference"]),
                    Cell(interval if pd.notna(record["p"]) else "–"),
                    Cell(str(record["pairs"]), value=record["pairs"]),
                    Cell(_p(record["p"]), value=record["p"]),
                    Cell(_p(record["p_holm"]), value=record["p_holm"]),
                ],
            )
        )
    columns = ["difference", "95 % interval", "pairs", "p", "p (Holm)"]
    caption = f"Difference from {baseline}: {what}, in points"
    return Table(name, caption, "method", columns, rows, found, [TEST])


def _p(p: float) -> str:
    return "–" if np.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def gains(values: pd.DataFrame, rows: list[str], baseline: str) -> pd.DataFrame:
    """Mean gain over the baseline per row and task: columns task, indexed by row. Tasks in order of their number."""
    order = list(values.sort_values("task_id")["task"].unique())
    means = values.pivot_table("value", "row", "task")
    there = [row for row in rows if row != baseline and row in means.index]  # other runs have no values of tasks
    return (means - means.loc[baseline]).loc[there, order]
