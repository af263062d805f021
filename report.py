"""A page about all runs, and all runs as one table for other programs.

    python report.py output -o report/                report/index.html: tables, curves, comparisons, costs
    python report.py output --csv runs.csv            a row per run, task and metric
    python report.py output --parquet runs.parquet    the same with types; needs pyarrow
    python report.py --published                      the published figures, and whether they agree with each other
    python report.py --published MaPLe LP++           those of some methods
    python report.py --published -o figures/          a page about them

docs/report.md describes the page, docs/outputs.md the columns.
"""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before all other imports

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from dassl.utils import atomic_write, counted
from dassl.utils.arguments import Parser
from dassl.utils.errors import UserError


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="folders with runs at any depth")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write the page and its files")
    parser.add_argument("--title", default="Results", metavar="TEXT", help="heading of the page")
    parser.add_argument(
        "--baseline", default="", metavar="METHOD", help="compare with this row; default: zero-shot, else CoOp"
    )
    parser.add_argument(
        "--metric", default="overall_metric", metavar="M", help="number of the page; default: the declared one"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table of all runs")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="the same as Parquet; needs pyarrow")
    parser.add_argument(
        "--published", action="store_true", help="the published figures in place of runs; names of methods may follow"
    )
    parser.add_argument("--test-log", action="store_true", help="read logs of runs that only tested")
    return parser


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.published and not (options.output or options.csv or options.parquet):
        from reporting.published_text import text

        print(text([str(name) for name in options.folders]))
        return 0
    if options.published and options.folders:
        parser.error("--published with a file writes the figures of all methods: give no other words")
    if not (options.folders or options.published):
        parser.error("expected at least one folder with runs, e.g. output")
    if not (options.output or options.csv or options.parquet):
        parser.error("nothing to write: give -o FOLDER, --csv FILE or --parquet FILE")
    for file in filter(None, (options.csv, options.parquet)):
        if not file.absolute().parent.is_dir():
            raise UserError(f"{file}: there is no folder {file.parent}; create it, or choose another place")
    if options.parquet and not find_spec("pyarrow"):
        raise UserError("--parquet needs the package pyarrow: pip install pyarrow; --csv needs no further package")
    from dassl.runs.results import canonical
    from reporting import published
    from reporting.frame import read_frame

    frame = published.as_frame() if options.published else read_frame(options.folders, options.test_log)
    if options.csv:
        with atomic_write(options.csv) as stream:
            frame.to_csv(stream, index=False, lineterminator="\n")
    if options.parquet:
        with atomic_write(options.parquet, "wb") as stream:
            frame.to_parquet(stream, engine="pyarrow", index=False)
    for file in filter(None, (options.csv, options.parquet)):
        what = "source" if options.published else "run"
        print(f"{file}: {counted(len(frame), 'row')} of {counted(frame['path'].nunique(), what)}")
    if options.output:
        from reporting.page import Options, build

        beside = None if options.published else published.finder(frame)
        choice = Options(options.title, options.baseline, canonical(options.metric), beside)
        print(build(frame, options.output, choice))
    return 0


if __name__ == "__main__":
    sys.exit(main())
