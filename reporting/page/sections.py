"""The section of the page about one group of rows."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

import pandas as pd
from markupsafe import Markup

from dassl.runs.results import STANDARD_METRICS
from reporting.page import classes, plots, results
from reporting.page.blocks import Section, slug
from reporting.page.comparison import comparison_table, gains
from reporting.page.costs import costs_of, costs_table
from reporting.page.rows import SHIFTS, Group, shots_order, shots_title
from reporting.page.runs import differences, one_per_run, training_curves

MOST_GAINS = 5  # panels: rows with the highest values


@dataclass(frozen=True)
class Options:
    """What the reader asked for.

    Attributes:
        title: heading of the page.
        baseline: the row or method that others are compared with; "": zero-shot, else CoOp or its kind.
        metric: the number of all tables and figures.
        beside: published figures of a part of the frame, as reporting/published.py finds them; None: without.
    """

    title: str = "Results"
    baseline: str = ""
    metric: str = "overall_metric"
    beside: Callable[[pd.DataFrame], pd.DataFrame] | None = None

    @property
    def larger(self) -> bool:
        """Whether larger values of the metric are better."""
        if self.metric in ("overall_metric", *STANDARD_METRICS):  # without PyTorch
            return True
        from dassl.metrics import METRICS

        metric = self.metric.removesuffix("_scaled")
        return metric not in METRICS or METRICS.get(metric).larger_is_better


def keys_of(groups: Sequence[Group]) -> list[str]:
    """The anchor of each group, with which the names of its files begin. Equal ones are numbered."""
    keys = []
    for group in groups:
        key = slug(group.suite, group.protocol, group.backbone, group.split if group.split != "test" else "")
        numbered = (f"{key}-{number}" for number in count(2))  # "Icon-5" and "Icon 5"; names without Latin letters
        keys.append(next(each for each in chain([key], numbered) if each not in keys))
    return keys


def section_of(group: Group, options: Options, styles: dict[str, int], key: str) -> Section | None:
    """The section of a group with the anchor `key`; None where no row has a value of the metric."""
    means, of_tasks = (group.of(options.metric, mean) for mean in (True, False))
    if means.empty and of_tasks.empty:
        return None
    make = _Maker(group, options, styles, key)
    section = Section(key, group.title, list(differences(group)))
    if means.empty:
        make.tasks_alone(section)
    elif group.protocol in SHIFTS:
        make.transfer(section)
    elif group.protocol == "base-to-new":
        make.base_to_new(section)
    else:
        make.few_shot(section)
    return section


class _Maker:
    """Makes the parts of one section."""

    def __init__(self, group: Group, options: Options, styles: dict[str, int], key: str):
        self.group, self.options, self.styles, self.key = group, options, styles, key
        self.metric, self.larger = options.metric, options.larger
        self.values = group.of(self.metric, mean=True)
        self.of_tasks = group.of(self.metric, mean=False)
        known = self.of_tasks if self.values.empty else self.values
        shots = sorted(known["shots"].dropna().unique(), key=shots_order)
        self.ticks = [shots_title(each) for each in shots]
        self.most = shots[-1] if shots else pd.NA
        self.published = self.figures()

    def at_most(self, values: pd.DataFrame) -> pd.DataFrame:
        """The values at the largest number of images per class; all of them if no row has any."""
        return values if pd.isna(self.most) else results.at_shots(values, self.most)

    def figures(self) -> pd.DataFrame | None:
        """Published figures beside the rows, with the columns of `beside` and `row`; None without any."""
        if self.options.beside is None:
            return None
        frame = self.group.frame
        frame = frame.assign(suite=frame["tested"])
        found = [self.options.beside(part).assign(row=row) for row, part in frame.groupby("row", sort=False)]
        figures = pd.concat(found, ignore_index=True)
        figures = figures[figures["metric"] == self.metric]
        return figures if len(figures) else None

    # ---- few-shot

    def few_shot(self, section: Section) -> None:
        group, name = self.group, self.key
        section.blocks.append(
            results.few_shot_table(group, f"{name}-results", self.metric, self.larger, self.published)
        )
        several = len(self.ticks) > 1
        if several:
            stats = results.by_shots(group, self.metric).assign(panel="mean over tasks")
            caption = "Mean over tasks by number of training images"
            caption += "; bands are ± one standard deviation over seeds" if stats["std"].notna().any() else ""
            section.blocks.append(
                plots.curves(f"{name}-curve", caption, stats, ["mean over tasks"], group.rows, self.ticks, self.styles)
            )
        tasks = results.tasks_of(self.of_tasks)
        if len(tasks) > 1:
            section.parts.append(self.tasks(tasks, several))
        self.against_baseline(section, self.of_tasks)
        costs = self.at_most(self.values)
        self.costs(section, costs, costs.groupby("row")["value"].mean())
        self.details(section)

    def tasks_alone(self, section: Section) -> None:
        """Results of runs that do not have all tasks of their suite, so that means are missing."""
        section.blocks.append("No row has results of all tasks, so there are no means over the tasks.")
        for half, values in self.of_tasks.groupby("classes", sort=False):
            name = f"{self.key}-tasks" + ("" if half == "all" else f"-{half}")
            group = replace(self.group, frame=self.group.frame[self.group.frame["classes"] == half])
            most = values["shots"].max()
            section.blocks.append(results.task_table(group, name, self.metric, self.larger, most, self.published))

    def tasks(self, tasks: list[str], several: bool) -> Section:
        group, name = self.group, self.key
        part = Section(f"{name}-tasks", "Per task")
        part.blocks.append(
            results.task_table(group, f"{name}-tasks", self.metric, self.larger, self.most, self.published)
        )
        shown = tasks[: plots.MOST_PANELS]
        if several:
            stats = results.statistics(self.of_tasks, ["row", "task", "shots"]).rename(columns={"task": "panel"})
            stats["column"] = [shots_title(shots) for shots in stats["shots"]]
            caption = "Each task by number of training images"
            figure = plots.curves(f"{name}-task-curves", caption, stats, shown, group.rows, self.ticks, self.styles)
        else:
            stats = results.statistics(self.at_most(self.of_tasks), ["row", "task"])
            best = self.best(plots.MOST_BARS)
            panels = {
                task: stats[stats["task"] == task].set_index("row").reindex(best).dropna(subset="mean")
                for task in shown
            }
            caption = f"Each task, {results.images_text(self.most)}; whiskers are one standard deviation over seeds"
            label = results.metric_text(self.values)
            figure = plots.bars(f"{name}-task-bars", caption, panels, label, self.styles)
        part.blocks.append(figure)
        return part

    def best(self, most: int, trained: bool = False) -> list[str]:
        """The rows with the best means at the largest number of images, at most `most`, in the order of tables."""
        means = self.at_most(self.values).groupby("row")["value"].mean().sort_values(ascending=not self.larger)
        kept = [row for row in means.index if not (trained and row in self.group.zero_shot)][:most]
        return [row for row in self.group.rows if row in kept]

    def against_baseline(self, section: Section, values: pd.DataFrame, what: str = "") -> None:
        """Gains per task and the paired test against the baseline."""
        group, name = self.group, self.key
        baseline = group.baseline(self.options.baseline)
        if not baseline or len(group.rows) < 2 or values.empty:
            return
        part = Section(f"{name}-baseline", f"Compared with {baseline}")
        what = what or results.within(results.metric_text(self.values))
        table = comparison_table(group, f"{name}-test", values, baseline, what)
        part.blocks += [table] if table else []
        at_most = self.at_most(values)
        if baseline in set(at_most["row"]):
            found = gains(at_most, [row for row in self.best(MOST_GAINS + 1, True) if row != baseline], baseline)
            panels = {row: found.loc[row].to_frame("mean").dropna() for row in found.index[:MOST_GAINS]}
            panels = {row: each for row, each in panels.items() if len(each)}
            if panels and values["task"].nunique() > 1:
                caption = f"Difference from {baseline} per task, {results.images_text(self.most)}, in points"
                part.blocks.append(plots.bars(f"{name}-gains", caption, panels, "points", sharex=True, sharey=True))
        if part.blocks:
            section.parts.append(part)

    def costs(self, section: Section, values: pd.DataFrame, means: pd.Series, label: str = "") -> None:
        group, name = self.group, self.key
        label = label or results.metric_text(self.values)
        what = f"{results.within(label)} beside parameters, time and memory, {results.images_text(self.most)}"
        table = costs_table(group, f"{name}-costs", values, means, what, self.larger)
        if table is None:
            return
        part = Section(f"{name}-costs", "Accuracy against cost", [table])
        caption = "Value against cost; the dotted line is the Pareto front: nothing else is better at that cost or less"
        figure = plots.fronts(f"{name}-pareto", caption, costs_of(values), means, label, self.larger, self.styles)
        part.blocks += [figure] if figure else []
        section.parts.append(part)

    def details(self, section: Section) -> None:
        """Classes and training curves, which the reader opens."""
        group, name = self.group, self.key
        best = self.best(1, trained=True) or self.best(1)
        runs = self.at_most(group.frame)
        runs = one_per_run(runs[runs["row"].isin(best)])
        seeds = runs["seed"].drop_duplicates().sort_values().head(classes.MOST_SEEDS)
        folders = list(runs.loc[runs["seed"].isin(seeds), "path"])
        names = dict(zip(self.of_tasks["task_key"], self.of_tasks["task"], strict=True))
        predictions = classes.read_predictions(folders, names)
        if len(predictions):
            section.parts.append(self.classes(predictions, best[0]))
        found = training_curves(group, self.most, group.rows)
        if found:
            caption = f"Training by epoch, {results.images_text(self.most)}: mean over seeds, as the logs print it"
            figure = plots.training(f"{name}-training", caption, found, self.styles)
            section.parts.append(Section(f"{name}-training", "Training curves", [figure], folded=True))

    def classes(self, predictions: pd.DataFrame, row: str) -> Section:
        name, counts = self.key, classes.confusion(predictions)
        where = f"{row}, {results.images_text(self.most)}"
        part = Section(f"{name}-classes", f"Classes: {row}", folded=True)
        pairs = classes.confused(counts)
        if len(pairs):
            part.blocks.append(classes.confused_table(f"{name}-confused", f"Most confused classes: {where}", pairs))
            part.blocks += gallery(classes.thumbnails(predictions, pairs))
        shades = {task: matrix.to_numpy(float) for task, matrix in classes.matrices(counts).items()}
        part.blocks.append(plots.matrices(f"{name}-confusion", f"Confusion matrices: {where}", shades))
        caption = f"Accuracy of the classes that are recognised worst: {where}"
        part.blocks.append(
            plots.bars(
                f"{name}-class-bars",
                caption,
                classes.accuracies(counts),
                "images classified correctly (%)",
                sharex=True,
            )
        )
        return part

    # ---- base to new, and other data

    def base_to_new(self, section: Section) -> None:
        group, name = self.group, self.key
        section.blocks.append(
            results.base_to_new_table(group, f"{name}-results", self.metric, self.larger, self.published)
        )
        if self.of_tasks["task"].nunique() > 1:
            table = results.base_to_new_tasks(group, f"{name}-tasks", self.metric, self.larger, self.most)
            section.parts.append(Section(f"{name}-tasks", "Per task", [table]))
        both = results.with_harmonic(self.of_tasks).rename(columns={"H": "value"}).dropna(subset="value")
        self.against_baseline(section, both, "harmonic mean of base and new (%)")
        base = self.at_most(self.values[self.values["classes"] == "base"])
        stats = results.half_stats(self.values, "shots")
        harmonic = stats[stats["classes"] == "H"]
        self.costs(section, base, harmonic.groupby("row")["mean"].last(), "Harmonic mean of base and new (%)")
        self.details(section)

    def transfer(self, section: Section) -> None:
        group, name = self.group, self.key
        table = results.transfer_table(group, f"{name}-results", self.metric, self.larger, self.published)
        section.blocks.append(table)
        values = self.values[self.values["tested"] != group.suite]
        values = values.assign(task=values["tested"], task_id=values["tested"])
        self.against_baseline(section, values)


def gallery(images: list[dict]) -> list[Markup]:
    """Thumbnails with what they show and what they were taken for."""
    if not images:
        return []
    figures = "".join(
        f'<figure><img src="{each["source"]}" alt="{html.escape(each["path"])}">'
        f"<figcaption>{html.escape(each['label'])} → {html.escape(each['predicted'])}</figcaption></figure>"
        for each in images
    )
    return [Markup(f'<div class="gallery" role="group" aria-label="Confused images">{figures}</div>')]
