"""Tables of experiments as plain text: `python -m reporting.table [--title TEXT] [--costs] LABEL=FOLDER ...`."""

import sys
from collections.abc import Sequence

import pandas as pd

from dassl import program
from dassl.utils.arguments import Parser, add_seeds
from reporting.about import about_text, unlike_text
from reporting.experiments import (
    Choice,
    Experiment,
    ReportError,
    Stat,
    choose,
    further_choices,
    load_experiment,
    named_folders,
    stat,
)
from reporting.frame import frame_of
from reporting.published import SOURCES, TASKS, beside

AVERAGE = "average"
WIDTH = 120  # most characters per line of a table


def spread_text(ci95: bool) -> str:
    if ci95:
        return "mean ± 95 % interval over seeds (1.96 * std / sqrt(n), population std: ddof = 0), per cent"
    return "mean ± standard deviation over seeds (population: ddof = 0), per cent; no ± where n = 1"


def number_text(choice: Choice) -> str:
    name = "the metric each task declares" if choice.number == "overall_metric" else choice.number
    return f"number: {name}" + ("" if choice.task else "; over several tasks their unweighted mean")


def mean_title(choice: Choice, tasks: int) -> str:
    """The name of the column or row with the mean over `tasks` tasks."""
    if choice.task is not None:
        return choice.task[1]
    return "mean over tasks" if tasks > 1 else "overall"


def cell(value: Stat | None) -> str:
    if value is None:
        return "-"
    return f"{value.mean:.2f}" if value.spread is None else f"{value.mean:.2f} ± {value.spread:.2f}"


def render(header: list[str], rows: list[list[str]], left: int = 1) -> str:
    """Markdown table; the first `left` columns are aligned left, the others right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row):
        cells = [
            text.ljust(w) if i < left else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i < left else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def width(table: str) -> int:
    return max(map(len, table.splitlines()))


def seeds_table(experiment: Experiment, choice: Choice, ci95: bool = False) -> str:
    """Table of one experiment: a row per task and one overall, a column per seed if there is room."""
    runs = experiment.finished
    overall = mean_title(choice, len(experiment.tasks()))
    rows = []
    if choice.task is None:
        for task in experiment.tasks():
            values = [choice.of_task(run, (task.id, task.name)) for run in runs]
            number = task.metric if choice.number == "overall_metric" else choice.number
            rows.append([task.name, number or "-", _images(task.images), values])
    kind, images = choice.number, ""  # of all tasks
    if choice.task is not None:
        task = next(task for task in experiment.tasks() if (task.id, task.name) == choice.task)
        kind = (task.metric if choice.number == "overall_metric" else choice.number) or "-"
        images = _images(task.images)
    rows.append([overall, kind, images, [choice.overall(run) for run in runs]])

    def lines(with_seeds: bool):
        header = ["task", "metric", "images", *([run.label for run in runs] if with_seeds else []), "mean", "n"]
        body = []
        for name, metric, images, values in rows:
            value = stat(values, ci95)
            each = ["-" if x is None else f"{x:.2f}" for x in values] if with_seeds else []
            body.append([name, metric, images, *each, cell(value), str(value.n if value else 0)])
        return render(header, body, left=2)

    table = lines(True)
    return table if width(table) <= WIDTH else lines(False)


def _images(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _average(stats: list[Stat | None]) -> str:
    means = [value.mean for value in stats if value is not None]
    return f"{sum(means) / len(means):.2f}" if means else "-"


def experiments_table(
    experiments: list[Experiment],
    choice: Choice,
    ci95: bool = False,
    average: bool = False,
    labels: list[str] | None = None,
) -> str:
    """A table of several experiments, in the first layout that is at most WIDTH wide.

    The layouts are: a row per experiment with a column per task; a row per task with a column per experiment; a row per
    experiment with the overall value only. Tasks are shown if all experiments have the same ones. Where labels make a
    layout too wide, numbers replace them and a legend follows. `labels` replace those of the experiments.
    """
    labels = labels or [experiment.label + experiment.mark for experiment in experiments]
    names = [str(number) for number in range(1, len(labels) + 1)]
    title = mean_title(choice, max((len(experiment.tasks()) for experiment in experiments), default=0))
    columns = [(title, [stat([choice.overall(run) for run in x.finished], ci95) for x in experiments])]
    counts = [str(value.n) if value else "0" for value in columns[0][1]]
    for task in _common_tasks(experiments) if choice.task is None else []:
        values = [stat([choice.of_task(run, task) for run in x.finished], ci95) for x in experiments]
        columns.append((task[1], values))
    cells = [[name, *map(cell, values), *([_average(values)] if average else [])] for name, values in columns]
    count = ["n", *counts, *([""] if average else [])]

    def wide(heads: list[str], shown: list[list[str]]) -> str:
        first = ["experiment", *heads, *(["average"] if average else [])]
        header, *rows = map(list, zip(first, count, *shown, strict=True))
        return render(header, rows)

    def tall(heads: list[str]) -> str:
        return render(["task", *heads, *(["average"] if average else [])], [*cells, count])

    layouts = [lambda heads: wide(heads, cells[:1])]
    if len(cells) > 1:
        layouts = [lambda heads: wide(heads, cells), tall, *layouts]
    tables = [(heads, layout(heads)) for layout in layouts for heads in (labels, names)]
    heads, table = next((found for found in tables if width(found[1]) <= WIDTH), tables[-1])
    if heads is names:
        table += "\n\n" + "\n".join(f"{name:>4}  {label}" for name, label in zip(names, labels, strict=True))
    return table


def wide_table(
    experiments: list[Experiment], choice: Choice, ci95: bool = False, published: Sequence[pd.DataFrame] = ()
) -> str:
    """The layout of papers at any width: a row per experiment, a column per task, the average last.

    `published`, as from `published_beside`, follows below a row, if it has some of the tasks.
    """
    tasks = sorted({(task.id, task.name): task for x in experiments for task in x.tasks()}.items())
    header = ["method", "n", *(task.key or task.name for _, task in tasks), AVERAGE]
    rows = []
    for number, experiment in enumerate(experiments):
        runs = experiment.finished
        values = [stat([choice.of_task(run, identity) for run in runs], ci95) for identity, _ in tasks]
        overall = stat([choice.overall(run) for run in runs], ci95)
        rows.append(
            [experiment.label + experiment.mark, str(overall.n if overall else 0), *map(cell, values), cell(overall)]
        )
        figures = _by_task(published[number], choice) if published else {}
        if any(task.key in figures for _, task in tasks):
            there = [cell(_stat(figures.get(task.key))) for _, task in tasks]
            mean = figures.get("")
            whole = mean and len(tasks) == TASKS.get(mean["suite"], 0)  # a paper's average is over all of its columns
            rows.append(["… published", "", *there, cell(_stat(mean)) if whole else ""])
    return render(header, rows)


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


def _stat(figure: dict | None) -> Stat | None:
    if figure is None:
        return None
    return Stat(figure["published"], None if pd.isna(figure["published_std"]) else figure["published_std"], 1)


def comparison_table(
    experiments: list[Experiment],
    choice: Choice,
    source: str,
    published: Sequence[pd.DataFrame],
    ci95: bool = False,
) -> str:
    """Overall values of the experiments compared with the figures of a source, where it has some."""
    text, rows, found = [f"published: {SOURCES[source]}"], [], []
    for experiment, figures in zip(experiments, published, strict=True):
        tasks, figures = experiment.tasks(), _by_task(figures, choice)
        figure = figures.get(tasks[0].key if len(tasks) == 1 else "") or figures.get("")
        if figure and experiment.finished:
            found.append((experiment, figure))
    if not found:
        return f"{text[0]}; it has no number for any of these"
    same = any(figure["comparable"] for _, figure in found)
    for experiment, figure in found:
        here = stat([choice.overall(run) for run in experiment.finished], ci95)
        rows.append([experiment.label + experiment.mark, cell(here), cell(_stat(figure))])
        if same:
            rows[-1].append(f"{here.mean - figure['published']:+.2f}" if here and figure["comparable"] else "-")
    kinds = {(run.settings.get("backbone"), run.settings.get("shots")) for x, _ in found for run in x.finished}
    kinds = sorted(f"{backbone or 'unknown backbone'}, {shots} images per class" for backbone, shots in kinds)
    text += [f"here: {'; '.join(kinds)}", ""]
    text.append(render(["method", "here", "published", *(["difference"] if same else [])], rows))
    notes = {"not comparable": "why", "published": "note"}
    notes = [f"note: {x.label}: {word}: {row[name]}" for word, name in notes.items() for x, row in found if row[name]]
    return "\n".join([*text, *(["", *notes] if notes else [])])


COSTS = (  # name, column, unit, digits
    ("parameters", "learnable parameters", 1, 0),
    ("train", "training, s", 1, 1),
    ("test", "test, s", 1, 1),
    ("memory", "peak memory, MiB", 2**20, 0),
)


def costs_table(experiments: list[Experiment]) -> str:
    """Costs of a run per experiment, averaged over seeds; costs of single tasks are summed, of memory the maximum."""
    rows = []
    for experiment in experiments:
        row = [experiment.label]
        for name, _, unit, digits in COSTS:
            value = stat([run.costs.get(name) for run in experiment.finished])
            row.append("-" if value is None else f"{value.mean / unit:,.{digits}f}")
        rows.append(row)
    return render(["experiment", *(column for _, column, _, _ in COSTS)], rows)


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
    choice = choose(options.keyword, experiments)
    if choice.task and (options.published or options.per_task_columns):
        raise ReportError(f"--keyword {options.keyword}: a metric is needed with --published or --per-task-columns")
    if options.title:
        print(options.title)
    for line in filter(None, (about_text(experiments), f"{spread_text(options.ci95)};", f"{number_text(choice)}\n")):
        print(line)
    further = [] if options.keyword else further_choices(experiments)
    published = published_beside(experiments, options.published) if options.published else []
    if options.per_task_columns:
        print(wide_table(experiments, choice, options.ci95, published))
    else:
        print(experiments_table(experiments, choice, options.ci95))
    for other in further:
        print(f"\n{number_text(other)}\n\n{experiments_table(experiments, other, options.ci95)}")
    if published:
        print("\n" + comparison_table(experiments, choice, options.published, published, options.ci95))
    if options.costs:
        print("\n" + costs_table(experiments))
    unlike = unlike_text(experiments)
    if notes := notes_text(experiments) + (f"\nnote: the experiments differ in {unlike}" if unlike else ""):
        print("\n" + notes.strip("\n"))
    print("\nwritten to (config.yaml, log.txt, results.json, checkpoints, tensorboard of each run):")
    for experiment in experiments:
        print(f"    {experiment.folder}")


if __name__ == "__main__":
    sys.exit(main())
