"""Loss and accuracy during training, per epoch, of one run or of several.

    python -m analysis.curve output/icon5/MTCoOp/tiny_ep20_4shots/cnctx0_..._loss/seed1
    python -m analysis.curve output/icon5/MTCoOp/tiny_ep20_4shots/cnctx0_..._loss output/icon5/CoOp/...

FOLDER is a run, or an experiment with a run per seed. The numbers are those of the training lines in the log of the
run: means over the batches of an epoch, up to the last printed line. Unfinished runs are drawn as far as they got. The
result on the validation split is drawn as well if the run computed it (TEST.FINAL_MODEL best_val).
"""

from __future__ import annotations

import sys
from pathlib import Path

from analysis import plots
from dassl import program
from dassl.runs.logs import training_epochs
from dassl.runs.record import is_run, log_files
from dassl.runs.results import read_run
from dassl.utils import UserError
from dassl.utils.arguments import Parser
from reporting.experiments import check_folder, load_experiment

COLUMNS = ("run", "folder", "epoch", "loss", "accuracy_percent", "validation_percent", "learning_rate")


def run_folders(folder: Path) -> list[Path]:
    """The folder itself if it is one of a run, else the runs of the experiment in it. ReportError without any."""
    check_folder(folder)
    return [folder] if is_run(folder) else [run.folder for run in load_experiment(folder).runs]


def epochs_of(folder: Path) -> list[dict]:
    """The epochs in the newest log with training lines, see `training_epochs`. Raises UserError without any."""
    for path in log_files(folder):
        with open(path, encoding="utf-8", errors="replace") as stream:
            if found := training_epochs(stream):
                return found
    raise UserError(f"{folder}: no training line in a log.txt; expected a run of a method that is trained in epochs")


def labels_of(folders: list[Path]) -> list[str]:
    """A short unique label for each run: its method if it is known, and the name of its folder."""
    methods = [read_run(folder).settings.get("method") or "" for folder in folders]
    labels = [" ".join(filter(None, (method, folder.name))) for method, folder in zip(methods, folders, strict=True)]
    return [
        label if labels.count(label) == 1 else f"{label} ({folder})"
        for label, folder in zip(labels, folders, strict=True)
    ]


def table(folders: list[Path]) -> list[dict]:
    """Rows of COLUMNS: one per run and epoch."""
    names = ("epoch", "loss", "acc", "validation", "lr")
    rows = []
    for folder, label in zip(folders, labels_of(folders), strict=True):
        for epoch in epochs_of(folder):
            about = (label, str(folder), *(epoch.get(name) for name in names))
            rows.append(dict(zip(COLUMNS, about, strict=True)))
    return rows


def draw(figure, rows: list[dict]) -> None:
    """Draw two panels, loss and accuracy against the epoch, with a line per run; validation is dashed."""
    panels = figure.subplots(1, 2)
    runs = list(dict.fromkeys(row["run"] for row in rows))
    validated = any(row["validation_percent"] is not None for row in rows)
    for number, run in enumerate(runs):
        own = [row for row in rows if row["run"] == run]
        style = {"ms": 3.5, "lw": 1.2, **plots.series(number)}
        for axes, key, ls in zip((*panels, panels[1]), COLUMNS[3:6], ("-", "-", "--"), strict=True):
            known = [(row["epoch"], row[key]) for row in own if row[key] is not None]
            if known:
                axes.plot(*zip(*known, strict=True), ls=ls, label=plots.wrapped(run, 60), **style)
    panels[0].set_ylabel("training loss, mean over the epoch")
    panels[1].set_ylabel("accuracy (%)\ntraining images" + ("; dashed: validation split" if validated else ""))
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=1 if max(map(len, runs)) > 35 else 3)


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.curve", description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="run, or experiment with a run per seed")
    parser.add_argument("--out", metavar="NAME", help="figure to write; default: FOLDER/figures/curve (first FOLDER)")
    options = parser.parse_args(arguments)

    folders = [run for folder in options.folders for run in run_folders(Path(folder))]
    out = plots.output(options.out, options.folders[0], "curve")
    rows = table(list(dict.fromkeys(folders)))
    names = {row["run"] for row in rows}
    lines = len(names) if max(map(len, names)) > 35 else -(-len(names) // 3)
    with plots.figure(out, COLUMNS, rows, 8.6, 3.6 + 0.2 * lines) as figure:
        draw(figure, rows)
    for name in dict.fromkeys(row["run"] for row in rows):
        last = [row for row in rows if row["run"] == name][-1]
        numbers = [f"loss {last['loss']:.4g}"] if last["loss"] is not None else []
        numbers += (
            [f"training accuracy {last['accuracy_percent']:.1f} %"] if last["accuracy_percent"] is not None else []
        )
        print(f"{name}: epoch {last['epoch']}, {', '.join(numbers)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
