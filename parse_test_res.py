"""Mean and standard deviation over seeds of finished runs.

    python parse_test_res.py output/icon5/MTCoOp/tiny_ep20_4shots/cnctx0_..._loss      one experiment: seed1, seed2, ...
    python parse_test_res.py output/icon5 --multi-exp                                  every experiment below a folder

Reads the results.json of each run, and where there is none its newest log (log.txt, log.txt-<time>) with a final test
result. Values of validation never count. The standard deviation is that of the population (numpy's default, ddof = 0).
"""

import argparse
import sys
from pathlib import Path

from reporting.experiments import Experiment, ReportError, choose, find_experiments, load_experiment
from reporting.export import as_csv, as_json
from reporting.table import experiments_table, notes_text, number_text, seeds_table, spread_text


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="folder of an experiment, or of several with --multi-exp")
    parser.add_argument("--multi-exp", action="store_true", help="a row for each experiment below the folder")
    parser.add_argument("--test-log", action="store_true", help="logs are of runs that only evaluated")
    parser.add_argument("--ci95", action="store_true", help="95 %% interval, 1.96 * std / sqrt(n), in place of std")
    parser.add_argument(
        "--keyword",
        metavar="K",
        help="which number: a metric (overall_metric, overall_acc, mean_acc, macro_f1) or a task (name or number)",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="S", help="seeds that should be there (default: 1 2 3 ...)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON in place of the table")
    output.add_argument("--csv", action="store_true", help="print CSV in place of the table")
    return parser


def load(options) -> list[Experiment]:
    """The experiments asked for. ReportError when none of their runs is finished."""
    if options.multi_exp:
        experiments = find_experiments(options.directory, options.test_log, options.seeds)
    else:
        experiments = [load_experiment(options.directory, "", options.test_log, options.seeds)]
    if any(experiment.finished for experiment in experiments):
        return experiments
    lines = [f"no finished run in {options.directory}"]
    if experiments:
        lines += [f"{run.folder}: {run.problem}" for experiment in experiments for run in experiment.runs][:10]
    lines.append(
        'looked for results.json with status "complete", and for logs with a test result after "Finished training"'
    )
    raise ReportError("\n".join(lines))


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    sys.stdout.reconfigure(errors="replace")
    try:
        experiments = load(options)
        choice = choose(options.keyword, experiments)
    except ReportError as error:
        print(error, file=sys.stderr)
        return 2
    notes = notes_text(experiments)
    if options.json or options.csv:
        print((as_json if options.json else as_csv)(experiments, choice, options.ci95), end="")
        if notes:
            print(notes, file=sys.stderr)
        return 0
    print(options.directory)
    print(f"{spread_text(options.ci95)};\n{number_text(choice)}\n")
    if options.multi_exp:
        print(experiments_table(experiments, choice, options.ci95, average=True))
        finished = sum(bool(experiment.finished) for experiment in experiments)
        if finished < len(experiments):
            print(f"\nthe average is over the {finished} of {len(experiments)} experiments that have finished runs")
    else:
        print(seeds_table(experiments[0], choice, options.ci95))
    if notes:
        print("\n" + notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
