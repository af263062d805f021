"""Tables of experiments as plain text: `python -m reporting.table [--title TEXT] [--costs] LABEL=FOLDER ...`."""

import sys
from collections.abc import Sequence

import pandas as pd

from dassl import program
from dassl.utils.arguments import Parser, add_seeds
from reporting.about import about_text, unlike_text
from reporting.experiments import Experiment, ReportError, load_experiment, named_folders
from reporting.frame import frame_of
from reporting.published import SOURCES, TASKS, beside
from reporting.tables import OVERALL, Choice, Numbers, choose, further_choices
from reporting.text import WIDTH, Table, cell, mean_title, number_text, render, spread_text

AVERAGE = "average"


def seeds_table(experiment: Experiment, numbers: Numbers, width: float = WIDTH) -> Table:
    """Table of one experiment: a row per task and one overall, a column per seed if there is room."""
    choice, tasks = numbers.choice, experiment.tasks()
    values, stats = numbers.of(experiment.label), numbers.stats
    shown = [task for task in tasks if choice.task in (None, (task.id, task.name))]
    lines = [((task.id, task.name), task.name, _metric(task, choice), _images(task.images)) for task in shown]
    if choice.task is None:
        lines.append((OVERALL, mean_title(choice, len(tasks)), choice.number, ""))

    def layout(with_seeds: bool) -> Table:
        header = ["task", "metric", "images", *(values.index if with_seeds else []), "mean", "n"]
        rows = []
        for column, *about in lines:
            each = ["-" if pd.isna(x) else f"{x:.2f}" for x in values[column]] if with_seeds else []
            rows.append(
                [*about, *each, numbers.texts[column][experiment.label], str(stats.n[column][experiment.label])]
            )
        return Table(header, rows, left=2)

    table = layout(True)
    return table if table.width <= width else layout(False)


def _metric(task, choice: Choice) -> str:
    return (task.metric if choice.number == "overall_metric" else choice.number) or "-"


def _images(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def experiments_table(
    experiments: list[Experiment],
    numbers: Numbers,
    average: bool = False,
    labels: list[str] | None = None,
    width: float = WIDTH,
) -> Table:
    """A table of several experiments, in the first layout that is at most `width` wide.

    The layouts are: a row per experiment with a column per task; a row per task with a column per experiment; a row per
    experiment with the overall value only. Tasks are shown if all experiments have the same ones. Where labels make a
    layout too wide, numbers replace them and a legend follows. `labels` replace those of the experiments.
    """
    labels, choice = labels or [each.label + each.mark for each in experiments], numbers.choice
    short = [str(number) for number in range(1, len(labels) + 1)]
    columns = {choice.column: mean_title(choice, max((len(x.tasks()) for x in experiments), default=0))}
    columns |= {task: task[1] for task in (_common_tasks(experiments) if choice.task is None else [])}
    names = [experiment.label for experiment in experiments]
    cells = numbers.texts.reindex(names)[list(columns)].fillna("-")
    count = numbers.stats.n[choice.column].reindex(names).fillna(0).astype(int).astype(str)
    if average:
        means = numbers.stats.mean.reindex(names)[list(columns)].mean()
        cells.loc["average"] = ["-" if pd.isna(mean) else f"{mean:.2f}" for mean in means]
        count.loc["average"] = ""

    def wide(heads: list[str], shown: int) -> Table:
        heads, header = [*heads, *(["average"] if average else [])], [*columns.values()][:shown]
        rows = [[*row] for row in zip(heads, count, *(cells.iloc[:, i] for i in range(shown)), strict=True)]
        return Table(["experiment", "n", *header], rows)

    def tall(heads: list[str], shown: int) -> Table:
        rows = [[name, *cells.iloc[:, i]] for i, name in enumerate(columns.values())]
        return Table(["task", *heads, *(["average"] if average else [])], [*rows, ["n", *count]])

    layouts = [(wide, len(columns)), (tall, len(columns)), (wide, 1)] if len(columns) > 1 else [(wide, 1)]
    tables = [(heads, layout(heads, shown)) for layout, shown in layouts for heads in (labels, short)]
    heads, table = next((found for found in tables if found[1].width <= width), tables[-1])
    if heads is labels:
        return table
    legend = "\n".join(f"{name:>4}  {label}" for name, label in zip(short, labels, strict=True))
    return Table(table.header, table.rows, table.left, legend)


def wide_table(experiments: list[Experiment], numbers: Numbers, published: Sequence[pd.DataFrame] = ()) -> Table:
    """The layout of papers at any width: a row per experiment, a column per task, the average last.

    `published`, as from `published_beside`, follows below a row, if it has some of the tasks.
    """
    tasks = sorted({(task.id, task.name): task for x in experiments for task in x.tasks()}.items())
    header = ["method", "n", *(task.key or task.name for _, task in tasks), AVERAGE]
    names = [experiment.label for experiment in experiments]
    cells = numbers.texts.reindex(names)[[*(identity for identity, _ in tasks), OVERALL]].fillna("-")
    rows = []
    for number, experiment in enumerate(experiments):
        n = numbers.entry(experiment.label, OVERALL)["n"]
        rows.append([experiment.label + experiment.mark, str(n), *cells.iloc[number]])
        figures = _by_task(published[number], numbers.choice) if published else {}
        if any(task.key in figures for _, task in tasks):
            there = [_figure(figures.get(task.key)) for _, task in tasks]
            mean = figures.get("")
            whole = mean and len(tasks) == TASKS.get(mean["suite"], 0)  # a paper's average is over all of its columns
            rows.append(["… published", "", *there, _figure(mean) if whole else ""])
    return Table(header, rows)


def published_beside(experiments: list[Experiment], source: str) -> list[pd.DataFrame]:
    """The figures of a source beside each experiment: those of its label, else of the method that its runs record."""
    found = []
    for experiment in experiments:
        runs = frame_of([(experiment.label, experiment)])
        figures = beside(runs.assign(method=experiment.label), source)
        found.append(figures if len(figures) else beside(runs, source))
    return found


def _by_task(figures: pd.DataFrame, choice: Choice) -> dict[str, dict]:
    """{key of a task, or "" for the mean over tasks: its figure} for a metric."""
    return {row["task_key"]: row for row in figures[figures["metric"] == choice.number].to_dict("records")}


def _figure(figure: dict | None) -> str:
    return cell(figure["published"], figure["published_std"]) if figure else "-"


def comparison_table(
    experiments: list[Experiment], numbers: Numbers, source: str, published: Sequence[pd.DataFrame]
) -> str:
    """Overall values of the experiments compared with the figures of a source, where it has some."""
    text, rows, found = [f"published: {SOURCES[source]}"], [], []
    for experiment, figures in zip(experiments, published, strict=True):
        tasks, figures = experiment.tasks(), _by_task(figures, numbers.choice)
        figure = figures.get(tasks[0].key if len(tasks) == 1 else "") or figures.get("")
        if figure and experiment.finished:
            found.append((experiment, figure))
    if not found:
        return f"{text[0]}; it has no number for any of these"
    same = any(figure["comparable"] for _, figure in found)
    for experiment, figure in found:
        here = numbers.stats.mean[OVERALL][experiment.label]
        rows.append([experiment.label + experiment.mark, numbers.texts[OVERALL][experiment.label], _figure(figure)])
        if same:
            comparable = figure["comparable"] and not pd.isna(here)
            rows[-1].append(f"{here - figure['published']:+.2f}" if comparable else "-")
    kinds = {(run.settings.get("backbone"), run.settings.get("shots")) for x, _ in found for run in x.finished}
    kinds = sorted(f"{backbone or 'unknown backbone'}, {shots} images per class" for backbone, shots in kinds)
    text += [f"here: {'; '.join(kinds)}", ""]
    text.append(render(["method", "here", "published", *(["difference"] if same else [])], rows))
    notes = {"not comparable": "why", "published": "note"}
    notes = [f"note: {x.label}: {word}: {row[name]}" for word, name in notes.items() for x, row in found if row[name]]
    return "\n".join([*text, *(["", *notes] if notes else [])])


COSTS = {  # column of the frame: title, unit, digits
    "parameters": ("learnable parameters", 1, 0),
    "train_seconds": ("training, s", 1, 1),
    "test_seconds": ("test, s", 1, 1),
    "memory_bytes": ("peak memory, MiB", 2**20, 0),
}


def costs_table(frame: pd.DataFrame) -> Table:
    """Costs of a run per experiment, averaged over seeds; costs of single tasks are summed, of memory the maximum."""
    runs = frame[frame["task_id"].isna()].drop_duplicates(["experiment", "run"])
    runs = runs.astype(dict.fromkeys(COSTS, "float")).where(runs["status"] == "complete")
    means = runs.groupby("experiment")[list(COSTS)].mean().reindex(frame["experiment"].unique())
    rows = []
    for label, row in means.iterrows():
        shown = [(row[name] / unit, digits) for name, (_, unit, digits) in COSTS.items()]
        rows.append([label, *("-" if pd.isna(value) else f"{value:,.{digits}f}" for value, digits in shown)])
    return Table(["experiment", *(title for title, _, _ in COSTS.values())], rows)


def _common_tasks(experiments: list[Experiment]) -> list[tuple[int, str]]:
    """Tasks shared by all finished experiments; [] if they differ or there is only one."""
    lists = [[(task.id, task.name) for task in experiment.tasks()] for experiment in experiments if experiment.finished]
    return lists[0] if lists and len(lists[0]) > 1 and all(other == lists[0] for other in lists) else []


def notes_text(experiments: list[Experiment]) -> str:
    """The notes of all experiments, with labels if there are several."""
    lines = []
    for experiment in experiments:
        prefix = f"{experiment.label}: " if len(experiments) > 1 else ""
        lines += [f"note: {prefix}{note}" for note in experiment.notes()]
    if len({tuple((task.id, task.name) for task in x.tasks()) for x in experiments if x.finished}) > 1:
        lines.append("note: the experiments do not have the same tasks: their overall values are not comparable")
    return "\n".join(lines)


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m reporting.table", description="Mean ± std of named experiments.")
    parser.add_argument("--title", metavar="TEXT", default="", help="line above the table")
    parser.add_argument("--ci95", action="store_true", help="half the 95 %% interval instead of the standard deviation")
    parser.add_argument("--costs", action="store_true", help="add a table of parameters, times and memory of a run")
    parser.add_argument("--per-task-columns", action="store_true", help="a column per task at any width, average last")
    parser.add_argument(
        "--published",
        choices=SOURCES,
        metavar="SOURCE",
        help="compare with the numbers of a paper: softcpt, upt1, upt2, ...",
    )
    parser.add_argument("--keyword", metavar="K", help="which number: a metric or a task, as for parse_test_res.py")
    add_seeds(parser, "expected seeds")
    parser.add_argument("experiments", nargs="+", metavar="LABEL=FOLDER", help="folder with seed1, seed2, ...")
    options = parser.parse_args(arguments)
    given = named_folders(options.experiments)
    experiments = [load_experiment(folder, label, seeds=options.seeds) for label, folder in given]
    if not any(experiment.finished for experiment in experiments):
        raise ReportError("no finished run in any of: " + ", ".join(str(x.folder) for x in experiments))
    frame = frame_of([(experiment.label, experiment) for experiment in experiments])
    choice = choose(options.keyword, frame)
    if choice.task and (options.published or options.per_task_columns):
        raise ReportError(f"--keyword {options.keyword}: a metric is needed with --published or --per-task-columns")
    if options.title:
        print(options.title)
    for line in filter(None, (about_text(experiments), f"{spread_text(options.ci95)};", f"{number_text(choice)}\n")):
        print(line)
    numbers = Numbers(frame, choice, options.ci95)
    published = published_beside(experiments, options.published) if options.published else []
    if options.per_task_columns:
        print(wide_table(experiments, numbers, published))
    else:
        print(experiments_table(experiments, numbers))
    for other in [] if options.keyword else further_choices(frame):
        table = experiments_table(experiments, Numbers(frame, other, options.ci95))
        print(f"\n{number_text(other)}\n\n{table}")
    if published:
        print("\n" + comparison_table(experiments, numbers, options.published, published))
    if options.costs:
        print(f"\n{costs_table(frame)}")
    unlike = unlike_text(experiments)
    if notes := notes_text(experiments) + (f"\nnote: the experiments differ in {unlike}" if unlike else ""):
        print("\n" + notes.strip("\n"))
    print("\nwritten to (config.yaml, log.txt, results.json, checkpoints, tensorboard of each run):")
    for experiment in experiments:
        print(f"    {experiment.folder}")


if __name__ == "__main__":
    sys.exit(main())
