"""Tables of results: a row per method, a column per number of images, task or data set; published figures below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from reporting.base2new import harmonic
from reporting.experiments import CHOSEN_ON_TEST
from reporting.page.blocks import Cell, Row, Table, mark_best, number, spread
from reporting.page.rows import Group, shots_order, shots_title
from reporting.tables import summary

AVERAGE, IMAGES = "average", "images per class"
PUBLISHED = ["published", "published_std", "source", "note", "comparable", "why"]


def common_n(stats: pd.DataFrame) -> int:
    """The most frequent number of seeds."""
    counts = stats.loc[stats["n"] > 1, "n"]
    return int(counts.mode().max()) if len(counts) else 1


def grid(
    group: Group,
    name: str,
    caption: str,
    stats: pd.DataFrame,
    columns: Sequence[tuple[object, str | tuple[str, str]]],
    larger: bool = True,
    published: pd.DataFrame | None = None,
) -> Table:
    """A table with a row per method.

    Args:
        stats: columns row, column, mean, std, n, missing.
        columns: (value of `column`, title) in order.
        larger: whether larger values are better.
        published: columns row, column, published, published_std, source, note, comparable, why; shown below their rows.
    """
    at = {
        (row, column): found for row, column, found in zip(stats["row"], stats["column"], _records(stats), strict=True)
    }
    usual, marked = common_n(stats), group.marked
    rows = [row for row in group.rows if any((row, column) in at for column, _ in columns)]
    marks = {}
    for column, _ in columns:
        values = [np.nan if row in marked else at.get((row, column), {}).get("mean", np.nan) for row in rows]
        marks.update({(row, column): mark for row, mark in zip(rows, mark_best(values, larger), strict=True)})
    single = {row for row in rows if row in group.zero_shot}
    notes, shown = Notes(), []
    for row in rows:
        cells = []
        for column, title in columns:
            found = at.get((row, column))
            if found is None:
                cells.append(Cell("–"))
                continue
            unusual = found["n"] != usual and row not in single
            text = spread(found["mean"], found["std"]) + (f" (n = {found['n']:.0f})" if unusual else "")
            cells.append(Cell(text, marks[row, column], found["mean"]))
            if missing := found.get("missing"):
                seeds = ", ".join(f"seed {seed}" for seed in missing)
                notes.add(f"missing: {row}, {seeds}", _title(title))
        shown.append(Row(row + (" ‡" if row in marked else ""), cells))
        if published is not None:
            shown += _published_rows(published[published["row"] == row], columns, at, row, notes)
    seeds = f"mean ± standard deviation over {usual} seeds" if usual > 1 else "one run each"
    more = [CHOSEN_ON_TEST] if marked & set(rows) else []
    data = stats.copy()
    if published is not None:
        data = data.merge(published[["row", "column", *PUBLISHED]], "left", ["row", "column"])
        data["difference"] = (data["mean"] - data["published"]).where(data["comparable"].eq(True))
    data["column"] = [_title(column) for column in data["column"]]
    data = data.rename(columns={"row": "method"})
    return Table(
        name, f"{caption}; {seeds}", "method", [title for _, title in columns], shown, data, [*more, *notes.lines()]
    )


def _published_rows(published: pd.DataFrame, columns, at: dict, row: str, notes: Notes) -> list[Row]:
    """The row with the published figures of one method: figure, and the difference or a mark of why there is none."""
    shown = {column for column, _ in columns}
    found = {record["column"]: record for record in _records(published) if record["column"] in shown}
    if not found:
        return []
    cells = []
    for column, _ in columns:
        record = found.get(column)
        if record is None:
            cells.append(Cell())
            continue
        text = spread(record["published"], record["published_std"])
        if record["comparable"] and (row, column) in at:
            text += f" ({number(at[row, column]['mean'] - record['published'], sign='+')})"
        elif not record["comparable"]:
            text += f" [{notes.letter('not comparable: ' + record['why'])}]"
        cells.append(Cell(text, "", record["published"]))
    for record in found.values():
        notes.add("published", record["source"])
    if len(said := {record["note"] for record in found.values()} - {""}) == 1:
        notes.add(f"published for {row}", said.pop())
    elif said:
        notes.add("the CSV file has notes on published figures of", row)
    return [Row("↳ published", cells, "published")]


def statistics(values: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """`summary` of values of one metric, with the groups as columns; without groups that have no value."""
    found = summary(values, by, values["metric"].iloc[0]).reset_index()
    return found[found["n"] > 0].reset_index(drop=True)


class Notes:
    """Notes below a table: {beginning: further words, each once}, and lettered reasons."""

    def __init__(self):
        self.texts: dict[str, dict[str, None]] = {}
        self.letters: dict[str, str] = {}

    def add(self, beginning: str, words: str) -> None:
        self.texts.setdefault(beginning, {})[words] = None

    def letter(self, reason: str) -> str:
        again, letter = divmod(len(self.letters), 26)
        return self.letters.setdefault(reason, chr(ord("a") + letter) + str(again or ""))  # a to z, a1 to z1, ...

    def lines(self) -> list[str]:
        lines = [f"{beginning}: {_several(list(words))}" for beginning, words in self.texts.items()]
        return [*(f"[{letter}] {reason}" for reason, letter in self.letters.items()), *lines]


def _several(words: Sequence[str], most: int = 5) -> str:
    return "; ".join(words[:most]) + (f"; and {len(words) - most} more" if len(words) > most else "")


def _title(title: str | tuple[str, str]) -> str:
    """A column in words: "4 images per class"; "food, base"."""
    group, name = ("", title) if isinstance(title, str) else title
    return f"{name} {group}" if group == IMAGES else ", ".join(filter(None, (group, name)))


def _records(frame: pd.DataFrame) -> list[dict]:
    return frame.to_dict("records")


# ---- few-shot --------------------------------------------------------------------------------------------------------


def shots_of(values: pd.DataFrame) -> list:
    """The numbers of images per class, none first and all last; NA stands for none."""
    return sorted(values["shots"].unique(), key=shots_order)


def by_shots(group: Group, metric: str) -> pd.DataFrame:
    """Statistics of the means over tasks: row, column (number of images), mean, std, n, missing.

    With several numbers of images there is a column AVERAGE for rows that have them all: over the seeds that have all.
    """
    values = group.of(metric, mean=True)
    stats = statistics(values, ["row", "shots"])
    stats["column"] = [shots_title(shots) for shots in stats["shots"]]
    trained = values[values["shots"].notna()]
    if trained["shots"].nunique() > 1:
        wide = trained.pivot_table("value", ["row", "seed"], "shots", dropna=False)
        own = wide.dropna().mean(axis=1).groupby("row")
        each = pd.DataFrame({"mean": own.mean(), "std": own.std(ddof=0), "n": own.count()})
        each["std"] = each["std"].where(each["n"] > 1)
        stats = pd.concat([stats, each.rename_axis("row").reset_index().assign(column=AVERAGE)], ignore_index=True)
        stats["missing"] = [seeds if isinstance(seeds, tuple) else () for seeds in stats["missing"]]
    return stats


def few_shot_table(group: Group, name: str, metric: str, larger: bool, published: pd.DataFrame | None) -> Table:
    """The table over methods and numbers of images."""
    stats = by_shots(group, metric)
    values = group.of(metric, mean=True)
    titles = [shots_title(shots) for shots in shots_of(values)]
    columns = [(title, ("" if title == "zero-shot" else IMAGES, title)) for title in titles]
    columns += [(AVERAGE, (IMAGES, AVERAGE))] if (stats["column"] == AVERAGE).any() else []
    if published is not None:
        published = published[published["task_key"] == ""]
        published = published.assign(column=[shots_title(shots) for shots in published["shots"]])
    tasks = group.of(metric, mean=False)["task"].nunique()
    means = f", mean over {tasks} tasks," if tasks > 1 else ""
    caption = f"{metric_text(values)}{means} by number of training images per class"
    return grid(group, name, caption, stats, columns, larger, published)


def task_table(group: Group, name: str, metric: str, larger: bool, shots, published: pd.DataFrame | None) -> Table:
    """The table over methods and tasks for one number of images, with zero-shot rows."""
    values = at_shots(group.of(metric, mean=False), shots)
    stats = statistics(values, ["row", "task"]).rename(columns={"task": "column"})
    columns = [(task, task) for task in tasks_of(values)]
    if published is not None:
        published = at_shots(published, shots)
        published = published.assign(
            column=published["task_key"].map(dict(zip(values["task_key"], values["task"], strict=True)))
        )
    caption = f"{metric_text(values)} per task, {images_text(shots)}"
    return grid(group, name, caption, stats, columns, larger, published)


def at_shots(values: pd.DataFrame, shots) -> pd.DataFrame:
    """The rows with this number of images per class, and those of zero-shot methods."""
    return values[values["shots"].isna() | (values["shots"] == shots).fillna(False)]


def tasks_of(values: pd.DataFrame) -> list[str]:
    """Names of the tasks by their number."""
    return list(values.sort_values("task_id")["task"].unique())


def images_text(shots) -> str:
    if pd.isna(shots):
        return "zero-shot"
    return "all training images" if shots < 0 else f"{int(shots)} image{'' if shots == 1 else 's'} per class"


METRICS = {
    "overall_acc": "Accuracy (%)",
    "mean_acc": "Mean accuracy of the classes (%)",
    "macro_f1": "Macro F1 (%)",
    "roc_auc": "Area under the ROC curve (%)",
    "mAP": "Mean average precision (%)",
    "mAP_11_points": "11-point mean average precision (%)",
    "top5_acc": "Top-5 accuracy (%)",
    "ece": "Expected calibration error (%)",
    "nll": "Negative log-likelihood (nats)",
    "ece_scaled": "Expected calibration error with a fitted temperature (%)",
    "nll_scaled": "Negative log-likelihood with a fitted temperature (nats)",
    "auroc_unknown": "AUROC of known against unknown classes (%)",
}


def within(text: str) -> str:
    """A text for use within a sentence."""
    return text[:1].lower() + text[1:]


def metric_text(values: pd.DataFrame) -> str:
    """What the values of one metric are. If all tasks declare the same metric, `overall_metric` is that one."""
    metric, declared = values["metric"].iloc[0], set(values["declared"].dropna()) - {""}
    if metric == "overall_metric":
        metric = declared.pop() if len(declared) == 1 else "The metric that each task declares"
    return METRICS.get(metric, f"{metric} (%)")


# ---- base to new -----------------------------------------------------------------------------------------------------

HALVES = ("base", "new", "H")


def with_harmonic(values: pd.DataFrame) -> pd.DataFrame:
    """Values per row, shots, seed and task: columns base, new, and H where both are known."""
    keys = ["row", "shots", "seed", "task_id", "task"]
    wide = values.pivot_table("value", keys, "classes", dropna=False, observed=True)
    wide = wide.reindex(columns=["base", "new"]).dropna(how="all").reset_index()
    both = wide["base"].notna() & wide["new"].notna()
    wide["H"] = [harmonic(b, n) if ok else np.nan for b, n, ok in zip(wide["base"], wide["new"], both, strict=True)]
    return wide


def half_stats(values: pd.DataFrame, by: str) -> pd.DataFrame:
    """Statistics of base, new and H per row and `by`; H is that of the means, its ± is over the seeds' own H."""
    seeds = statistics(values, ["row", by, "classes"])
    found = {
        (row, key, half): record
        for row, key, half, record in zip(seeds["row"], seeds[by], seeds["classes"], _records(seeds), strict=True)
    }
    own = with_harmonic(values).groupby(["row", by], dropna=False)["H"].agg(["count", lambda h: h.std(ddof=0)])
    own.columns = ["n", "std"]
    for (row, key), record in zip(own.index, _records(own), strict=True):
        base, new = (found.get((row, key, half)) for half in ("base", "new"))
        if base and new and record["n"]:
            std = record["std"] if record["n"] > 1 else np.nan
            mean = harmonic(base["mean"], new["mean"])
            found[row, key, "H"] = {"row": row, by: key, "classes": "H", "mean": mean, "std": std, "n": record["n"]}
    stats = pd.DataFrame(found.values())
    stats["missing"] = [found if isinstance(found, tuple) else () for found in stats["missing"]]
    return stats


def base_to_new_table(group: Group, name: str, metric: str, larger: bool, published: pd.DataFrame | None) -> Table:
    """Base classes, new classes and their harmonic mean, by number of images."""
    values = group.of(metric, mean=True)
    stats = half_stats(values, "shots")
    stats["images"] = [shots_title(shots) for shots in stats["shots"]]
    stats["column"] = list(zip(stats["images"], stats["classes"], strict=True))
    several = [shots_title(shots) for shots in shots_of(values)]
    titles = {each: "zero-shot" if each == "zero-shot" else f"{each} images per class" for each in several}
    columns = [((each, half), (titles[each], half)) for each in several for half in HALVES]
    if len(several) == 2 and several[0] == "zero-shot":  # one number of images: zero-shot in the same columns
        stats["column"] = [(several[1], half) for half in stats["classes"]]
        columns = [((several[1], half), half) for half in HALVES]
    if published is not None:
        published = published[published["task_key"] == ""]
        known = {column for column, _ in columns}
        places = [
            (shots_title(shots), half) for shots, half in zip(published["shots"], published["classes"], strict=True)
        ]
        published = published.assign(column=[p if p in known else (several[-1], p[1]) for p in places])
    caption = f"Base to new: {within(metric_text(values))} on base classes, on new classes, and their harmonic mean H"
    caption += "" if isinstance(columns[0][1], tuple) else f", {images_text(shots_of(values)[-1])}"
    table = grid(group, name, caption, stats, columns, larger, published)
    note = (
        "H is the harmonic mean of the two means, as in published tables; its ± is over the seeds' own harmonic means"
    )
    return replace(table, notes=[*table.notes, note])


def base_to_new_tasks(group: Group, name: str, metric: str, larger: bool, shots) -> Table:
    """The harmonic mean per task for one number of images."""
    values = at_shots(group.of(metric, mean=False), shots)
    stats = half_stats(values, "task")
    stats["column"] = list(zip(stats["task"], stats["classes"], strict=True))
    columns = [((task, half), (task, half)) for task in tasks_of(values) for half in HALVES]
    return grid(
        group, name, f"{metric_text(values)}: base, new and H per task, {images_text(shots)}", stats, columns, larger
    )


# ---- other data ------------------------------------------------------------------------------------------------------


def transfer_table(group: Group, name: str, metric: str, larger: bool, published: pd.DataFrame | None) -> Table:
    """Models tested on other data: the source, each target, and the averages of the field."""
    values = group.of(metric, mean=True)
    stats = statistics(values, ["row", "tested"]).rename(columns={"tested": "column"})
    targets = sorted(set(values["tested"]) - {group.suite})
    averages = {"average of targets": targets}
    if group.protocol == "domain-shift":
        averages = {"average": [group.suite, *targets], "OOD average": targets}
    more = [_average(values, stats, title, suites) for title, suites in averages.items()]
    stats = pd.concat([stats, *more], ignore_index=True)
    stats["missing"] = [found if isinstance(found, tuple) else () for found in stats["missing"]]
    columns = [(group.suite, f"{group.suite} (source)"), *((t, t) for t in targets), *((a, a) for a in averages)]
    if published is not None:
        published = published[published["task_key"] == ""].assign(column=published["suite"])
    caption = f"Trained on {group.suite}, tested on other data: {within(metric_text(values))}"
    return grid(group, name, caption, stats, columns, larger, published)


def _average(values: pd.DataFrame, stats: pd.DataFrame, title: str, suites: list[str]) -> pd.DataFrame:
    """The mean of the columns' means, for rows that have every column; ± over the averages of seeds that have all."""
    means = stats[stats["column"].isin(suites)].groupby("row")["mean"].agg(["mean", "count"])
    means = means.loc[means["count"] == len(suites), "mean"]
    wide = values[values["tested"].isin(suites)].pivot_table("value", ["row", "seed"], "tested", dropna=False)
    own = wide.reindex(columns=suites).dropna().mean(axis=1).groupby("row")
    found = pd.DataFrame({"mean": means, "std": own.std(ddof=0), "n": own.count()}).dropna(subset="mean")
    found["n"] = found["n"].fillna(1)
    found["std"] = found["std"].where(found["n"] > 1)
    return found.rename_axis("row").reset_index().assign(column=title)
