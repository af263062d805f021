"""Statistics over seeds, as group-bys of the frame (reporting/frame.py)."""

from collections.abc import Sequence

import pandas as pd

from dassl.runs.record import canonical
from reporting.experiments import missing_seeds

OF_TASK = {"task", "task_id", "task_key"}
SIDE_BY_SIDE = ["suite", "protocol", "classes"]  # runs of these are expected to have the same seeds


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
    values = select(frame, metric, per_task)
    groups = values.dropna(subset=["value"]).groupby(by, dropna=False, sort=False)
    found = groups["value"].agg(mean="mean", std=lambda values: values.std(ddof=0), n="count")
    order = known.groupby(by, dropna=False, sort=False)
    found = found.reindex(order.size().index)
    found["n"] = found["n"].fillna(0).astype(int)
    found["std"] = found["std"].where(found["n"] > 1)
    there = {key: set(group) for key, group in groups["seed"]}
    around = {key: set(group.dropna()) for key, group in frame.groupby(SIDE_BY_SIDE)["seed"]}
    missing = []
    for key, group in order[["seed", "shots", *SIDE_BY_SIDE]] if len(by) else ():
        seeds = {int(seed) for seed in there.get(key, ()) if not pd.isna(seed)}
        own = set(group["seed"].dropna())
        if group["shots"].notna().any() and own:
            own = own.union(*(around[place] for place in set(group[SIDE_BY_SIDE].itertuples(index=False, name=None))))
            own |= set(missing_seeds(sorted(seeds)))
        missing.append(tuple(sorted(int(seed) for seed in own - seeds)))
    found["missing"] = missing
    return found
