"""Mean and standard deviation over the seeds of finished runs.

    python parse_test_res.py output/icon5/MTCoOp/tiny_ep20_4shots/cnctx0_..._loss      one experiment: seed1, seed2, ...
    python parse_test_res.py output/icon5 --multi-exp                                  every experiment below a folder

Runs of single tasks (task0, task1, ...) are joined to their suite. A folder with base and new classes gives both and
their harmonic mean.

The numbers come from results.json, or else from the newest log (log.txt, log.txt-<time>) with a final test result;
validation results never count. The standard deviation is that of the population (ddof = 0, numpy's default).
"""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before all other imports

import argparse
import sys
from pathlib import Path

from dassl.utils.arguments import Parser, add_seeds
from reporting.about import about_text, differing_text, named_label
from reporting.base2new import Halves, as_plain, halves, halves_table, load_halves, pairs_table
from reporting.experiments import Experiment, ReportError, find_experiments, load_experiment
from reporting.export import as_csv, as_json, describe, emit, output_options
from reporting.frame import frame_of
from reporting.relative import TEXT, relative_stds, relative_table
from reporting.table import experiments_table, notes_text, seeds_table
from reporting.tables import Numbers, choose, further_choices
from reporting.text import WIDTH, Table, number_text, spread_text


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "directory", type=Path, metavar="FOLDER", help="folder of an experiment, or with --multi-exp of several"
    )
    parser.add_argument("more", nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--multi-exp", action="store_true", help="a row per experiment below the folder")
    parser.add_argument("--test-log", action="store_true", help="accept logs of runs that only tested")
    parser.add_argument(
        "--ci95", action="store_true", help="1.96 * std / sqrt(n), half the 95 %% interval, in place of std"
    )
    parser.add_argument(
        "--keyword",
        metavar="K",
        help="which number: a metric (overall_metric, overall_acc, mean_acc, ...) or a task (name or number)",
    )
    add_seeds(parser, "expected seeds (default: those of sibling experiments)")
    parser.add_argument("--relative-std", action="store_true", help="also print std / mean over seeds (not with --csv)")
    output_options(parser)
    return parser


def load(options) -> tuple[list[Experiment], list[Halves]]:
    """The requested experiments, and the pairs of base and new classes among them.

    Raises:
        ReportError: none of their runs is finished.
    """
    given = (options.test_log, options.seeds)
    if options.multi_exp:
        experiments = find_experiments(options.directory, *given)
        pairs = halves(experiments)
    elif pair := load_halves(options.directory, *given):
        experiments, pairs = [pair.base, pair.new], [pair]
    else:
        experiments, pairs = [load_experiment(options.directory, "", *given)], []
    if any(experiment.finished for experiment in experiments):
        return experiments, pairs
    lines = [f"no finished run in {options.directory}"]
    if experiments:
        lines += [f"{run.folder}: {run.problem}" for experiment in experiments for run in experiment.runs][:10]
    lines.append(
        'looked for results.json with status "complete", and for logs with a test result after "Finished training"'
    )
    raise ReportError("\n".join(lines))


def blocks(options, experiments: list[Experiment], pairs: list[Halves], several: list[Numbers]) -> list[str | Table]:
    """Lines and tables for people, with tables per choice."""
    width = WIDTH if options.format == "text" else float("inf")
    found = [str(options.directory), about_text(experiments), f"{spread_text(options.ci95)};"]
    found = list(filter(None, found))
    for numbers in several:
        found.append(("" if numbers is several[0] else "\n") + f"{number_text(numbers.choice)}\n")
        if not options.multi_exp:
            table = halves_table(pairs[0], numbers) if pairs else seeds_table(experiments[0], numbers, width)
            found.append(table)
            continue
        labels = [named_label(each) for each in experiments]
        found.append(experiments_table(experiments, numbers, average=True, labels=labels, width=width))
        finished = sum(bool(experiment.finished) for experiment in experiments)
        if finished < len(experiments):
            found.append(
                f"\nthe average is over the {finished} of {len(experiments)} experiments that have finished runs"
            )
        if pairs:
            found += ["", pairs_table(pairs, numbers)]
    if options.relative_std:
        found += [f"\n{TEXT}\n", relative_table(experiments, several[0])]
    return found


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.more:
        parser.error(
            f"expected one folder, found {1 + len(options.more)}; --multi-exp shows all below a folder, and python -m "
            "reporting.table LABEL=FOLDER LABEL=FOLDER ... compares chosen ones"
        )
    if options.relative_std and options.format == "csv":
        parser.error("--relative-std goes with tables or --json; in CSV it is the column spread over the column mean")
    experiments, pairs = load(options)
    frame = frame_of([(experiment.label, experiment) for experiment in experiments])
    choices = [choose(options.keyword, frame), *([] if options.keyword else further_choices(frame))]
    several = [Numbers(frame, choice, options.ci95) for choice in choices]
    notes = notes_text(experiments)
    if pairs and not options.multi_exp:
        notes = "\n".join(f"note: {note}" for note in pairs[0].notes())
    elif options.multi_exp and (found := differing_text(experiments)):
        notes = "\n".join(filter(None, (notes, f"note: the average is over experiments that differ in {found}")))
    plain = [as_plain(pair, several[0]) for pair in pairs]
    more = {"base_to_new": plain} if pairs else {}
    if further := several[1:]:
        more["further_metrics"] = {
            numbers.choice.number: [describe(experiment, numbers) for experiment in experiments] for numbers in further
        }
    if options.relative_std:
        more["relative_std"] = relative_stds(experiments, several[0])
    emit(
        options,
        notes,
        as_json=lambda: as_json(experiments, several[0], **more),
        as_csv=lambda: as_csv(experiments, several, plain),
        blocks=lambda: blocks(options, experiments, pairs, several),
    )


if __name__ == "__main__":
    sys.exit(main())
