"""Make all runs of a grid, and print its table (docs/sweeps.md).

    python sweep.py embedded                                   a file of configs/sweeps, or a path
    python sweep.py softcpt --suites icon5 --config tiny_ep20 --shots 1 4 --rows "SoftCPT-NATA CoOp-CA" --dry-run
    python sweep.py embedded --status                          from another terminal: finished, running, failed
    python sweep.py embedded OPTIM.MAX_EPOCH 5                  further settings for all runs

Finished runs are skipped, interrupted and failed ones are made again by the same command. Several sweeps over the same
folder, also from several machines with one disk, never make a run twice at the same time. OUTPUT and YOUR_DATA_PATH
(environment) are the folders of results and data.
"""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before all other imports

import argparse
import os
import sys

from dassl.utils.arguments import Parser


def build_parser():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", metavar="GRID", help="YAML file, or the name of one in configs/sweeps")
    help_text = "settings for all runs, e.g. OPTIM.MAX_EPOCH 5"
    parser.add_argument("opts", nargs="*", default=[], metavar="KEY VALUE", help=help_text)
    parser.add_argument("--engine", choices=("local", "ray", "slurm"), default="local", help="where runs are made")
    parser.add_argument("--jobs", default=os.environ.get("JOBS", ""), metavar="N", help="runs at a time")
    parser.add_argument("--gpus", default="", metavar="0,1", help="numbers of the GPUs to use (local)")
    parser.add_argument("--only", default="", metavar="EXPRESSION", help='some runs: "row=SoftCPT* shots=1,4 seed=1"')
    parser.add_argument(
        "--dry-run", action="store_true", help="print the calls of train.py and check them, run nothing"
    )
    parser.add_argument("--status", action="store_true", help="say what has become of the runs")
    parser.add_argument("--overwrite", action="store_true", help="repeat finished and interrupted runs")
    for name, what in (("suites", "suites"), ("rows", "rows, or files of rows")):
        parser.add_argument(f"--{name}", metavar='"A B"', help=f"{what} in place of those of the grid")
    parser.add_argument("--config", metavar="NAME", help="config file in place of that of the grid")
    for name in ("shots", "seeds"):
        parser.add_argument(f"--{name}", metavar='"1 2"', help=f"{name} in place of those of the grid")
    add_cluster_options(parser)
    return parser


def add_cluster_options(parser):
    group = parser.add_argument_group(
        "options of --engine ray and slurm",
        "OUTPUT and YOUR_DATA_PATH have to be on disks that all machines share (docs/sweeps-cluster.md).",
    )
    for name, sign, what in (
        ("address", "HOST:PORT", "ray: the cluster; default: a running one, else one on this machine"),
        ("cpus-per-run", "N", "ray, slurm: processors per run; default: 1"),
        ("gpus-per-run", "X", "ray, slurm: GPUs per run, 0 to 1, e.g. 0.25; default: 1 if Ray has GPUs, SLURM: 0"),
        ("pack", "N", "slurm: runs per array element; default: 1"),
        ("partition", "NAME", "slurm: partition"),
        ("time", "MINUTES", "slurm: minutes per array element; default: 60"),
    ):
        group.add_argument(f"--{name}", default="", metavar=sign, help=what)


def read(options):
    """(grid, experiments) that the options ask for."""
    from dassl.utils import UserError
    from sweeps.calls import Place
    from sweeps.grid import expand, read_grid

    def words(text):
        return tuple((text or "").replace(",", " ").split())

    changes = {"config": options.config, "suites": words(options.suites)}
    for name in ("shots", "seeds"):
        given = words(getattr(options, name))
        if wrong := [word for word in given if not word.lstrip("-").isdigit()]:
            raise UserError(f"--{name} has to be whole numbers, found {wrong[0]!r}")
        changes[name] = tuple(map(int, given))
    if len(options.opts) % 2:
        raise UserError(f"the setting {options.opts[-1]} has no value")
    grid = read_grid(options.grid, changes)
    return grid, expand(grid, Place.of_environment(), options.opts, words(options.rows))


@program.entry(resume="the same command continues from the last checkpoints")
def main(argv=None):
    options = build_parser().parse_args(argv)
    with program.starting():
        from sweeps.grid import runs_of, selected
        from sweeps.status import show_status
        from sweeps.tables import report_command, show_left_out, show_tables

    grid, experiments = read(options)
    show_left_out(experiments)
    calls = selected(runs_of(experiments), options.only)
    if options.status:
        return show_status(calls)
    if options.dry_run:
        return preview(options, calls)
    status = make(options, calls)
    if not status or any(call.folder.exists() for call in calls):
        show_tables(grid, experiments)
        print(f"\npage of all runs: {report_command(calls)}")
    return status


def preview(options, calls):
    """Print and check the calls, and the batch script for SLURM. Returns the exit status."""
    from sweeps.dry_run import dry_run
    from sweeps.engines import check, show_script

    check(options)
    status = dry_run(calls, options.overwrite)
    if options.engine == "slurm":
        show_script(options, len(calls))
    return status


def make(options, calls):
    """Make the runs on the engine. Returns the exit status."""
    from dassl.utils import counted
    from sweeps.engines import engine_of
    from sweeps.status import Live
    from sweeps.work import Lines, show_begin, summary, work

    engine, more = engine_of(options)
    terminal = sys.stdout.isatty() and engine.slots > 1
    if options.engine == "local":
        show_begin(len(calls), engine.slots)
    else:
        print(f"{counted(len(calls), 'run')}; {engine}", flush=True)
    return summary(work(calls, engine, Live() if terminal else Lines(), options.overwrite, more))


if __name__ == "__main__":
    sys.exit(main())
