"""What methods cost beside what they reach: parameters, training time, memory, and Pareto fronts."""

from __future__ import annotations

import pandas as pd

from reporting.page.blocks import Cell, Row, Table, number
from reporting.page.rows import Group

COSTS = {  # column of the frame: (title, unit, digits)
    "parameters": ("learned parameters", 1, 0),
    "train_seconds": ("training (s)", 1, 1),
    "test_seconds": ("test (s)", 1, 1),
    "memory_bytes": ("peak memory (MiB)", 2**20, 0),
}
DRAWN = ("parameters", "train_seconds", "memory_bytes")


def costs_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean costs of a run per row; NaN where nothing is recorded."""
    return runs.drop_duplicates(["path", "row"]).groupby("row")[list(COSTS)].mean().astype(float)


def pareto(costs: pd.Series, values: pd.Series, larger_is_better: bool = True) -> list[str]:
    """Labels of the rows that no other row beats or equals in both cost and value, by rising cost."""
    both = pd.DataFrame({"cost": costs, "value": values if larger_is_better else -values}).dropna()
    front, best = [], float("-inf")
    for row, (_, value) in both.sort_values(["cost", "value"], ascending=[True, False]).iterrows():
        if value > best:
            front.append(row)
            best = value
    return front


def front_of(cost: str, costs: pd.DataFrame, values: pd.Series, larger_is_better: bool = True) -> list[str]:
    """The Pareto front of one of `COSTS`. Costs and values are compared as shown: kilobytes of memory are chance."""
    _, unit, digits = COSTS[cost]
    return pareto((costs[cost] / unit).round(digits), values.round(2), larger_is_better)


def costs_table(
    group: Group, name: str, runs: pd.DataFrame, values: pd.Series, what: str, larger: bool
) -> Table | None:
    """Value and costs per row, with marks of the Pareto fronts; None where no cost is recorded."""
    costs = costs_of(runs)
    values = values.reindex(costs.index)
    fronts = {cost: front_of(cost, costs, values, larger) for cost in COSTS}
    if costs.isna().all(axis=None):
        return None
    rows = []
    for row in group.rows:
        if row not in costs.index:
            continue
        cells = [Cell(number(values[row]), value=values[row])]
        for cost, (_, unit, digits) in COSTS.items():
            amount = costs.loc[row, cost] / unit
            star = " *" if row in fronts[cost] else ""
            cells.append(Cell(number(amount, digits) + star, value=amount))
        rows.append(Row(row, cells))
    data = costs.reset_index().rename(columns={"row": "method"})
    data["value"] = list(values)
    for cost, front in fronts.items():
        data[f"front_{cost}"] = [method in front for method in data["method"]]
    columns = ["value", *(title for title, _, _ in COSTS.values())]
    note = "* on the Pareto front of this cost: no other row has a better value at the same or a lower cost"
    return Table(name, f"Mean costs of a run: {what}", "method", columns, rows, data, [note])
