"""The command `python -m datasets.download`: download datasets, lay them out, and explain what must be done by hand.

The command can be repeated at any time: existing data are left alone, interrupted downloads are resumed, and archives
that the user downloaded by hand are unpacked. Exit code: 0 if everything requested is usable, 1 if something is not,
2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import Timeout

from dassl import program
from dassl.utils.disk import SPARE, free_space, size
from dassl.utils.errors import UserError, counted, describe
from dassl.utils.transfer import DRIVE
from datasets.doctor.names import asked_for
from datasets.doctor.report import Report, examine
from datasets.fetch.install import about, install, space
from datasets.fetch.options import MB, Options, at_hand, lacking, sources
from datasets.folders import quoted
from datasets.known.remote import RemoteFile, note_of
from datasets.known.row import Row
from datasets.splits import RULES

KAGGLE = "https://www.kaggle.com/datasets/"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.download",
        description="Download datasets and lay them out below DATA; print instructions for the others.",
        epilog="Exit code: 0 if everything requested is usable, 1 if something is not, 2 for wrong arguments.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="suite, dataset or YAML file")
    parser.add_argument("--root", default="", metavar="DATA", help="directory that contains all dataset directories")
    parser.add_argument("--dry-run", action="store_true", help="print sources and sizes; download nothing")
    parser.add_argument("--keep-archives", action="store_true", help="do not delete archives after unpacking")
    parser.add_argument(
        "--mirror",
        default="",
        metavar="PLACE",
        help="tried first: a URL (PLACE/<dataset folder>/<file>) or a folder (there, or directly in it)",
    )
    args = parser.parse_intermixed_args(argv)
    if args.mirror and (problem := _wrong_mirror(args.mirror)):
        parser.error(f"--mirror {args.mirror!r}: {problem}")
    return args


def _wrong_mirror(mirror: str) -> str:
    """Why a mirror is neither a URL nor a folder; "" if it is one."""
    if "://" not in mirror:
        there = "\0" not in mirror and os.path.isdir(os.path.expanduser(mirror))
        return "" if there else "this folder does not exist; a URL begins with http:// or https://"
    try:
        parts = urlsplit(mirror)
        host, port = parts.hostname, parts.port  # the port raises ValueError, too
    except ValueError as error:
        return f"this is not a URL ({error})"
    if parts.scheme not in ("http", "https"):
        return "expected http://…, https://… or a folder"
    if not host or port == 0 or parts.username is not None or any(c <= " " for c in mirror):
        return "expected http://HOST/PATH or https://HOST/PATH, without a user or blanks"
    return "this URL has a query, to which no file can be added" if parts.query or parts.fragment else ""


def wanted(names: list[str], root: str) -> dict[str, Any]:
    """{dataset: its source} of suites, datasets and YAML files. Raises ValueError."""
    return {name: source for asked in names for name, source in asked_for(asked, root).sources.items()}


def download(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code. Raises ValueError and OSError for wrong arguments."""
    datasets = wanted(args.names, args.root and os.path.abspath(os.path.expanduser(args.root)))
    if not args.root and (needy := [name for name, source in datasets.items() if hasattr(source, "row")]):
        raise ValueError(f"{needy[0]} needs --root DATA: the directory that contains all dataset directories")
    root = Path(os.path.abspath(os.path.expanduser(args.root)))
    if root.exists() and not root.is_dir():
        raise ValueError(f"--root {root} is not a folder")
    options = Options(root, args.mirror, args.keep_archives, lambda text: print(text, flush=True))
    reports = {name: examine(name, source, str(root))[0] for name, source in datasets.items()}
    plan = [(s.row, lacking(s.row, root)) for n, s in datasets.items() if not _done(reports[n]) and hasattr(s, "row")]
    for name, report in reports.items():
        if _done(report):
            what = "nothing to do" if hasattr(datasets[name], "row") else "nothing has to be downloaded"
            print(f"{name}: {what}, {_found(report)}")
        elif not hasattr(datasets[name], "row"):
            print("\n".join(report.lines()))
    if args.dry_run:
        return _dry_run(plan, options, all(_done(reports[n]) or hasattr(s, "row") for n, s in datasets.items()))
    needed, free = space(plan, options)[1] * MB, free_space(root)
    if plan and needed + SPARE > free:
        print(
            f"error: {', '.join(row.name for row, _ in plan)}: about {size(needed)} are needed in {root}, and "
            f"{size(SPARE)} to spare, but {size(free)} are free. Choose another --root, or fewer datasets at a time.",
            file=sys.stderr,
        )
        return 1
    for i, (row, _) in enumerate(plan):
        print(end="\n" if i else "")
        reports[row.name] = _one(row, datasets[row.name], options)
    bad = [name for name, report in reports.items() if not _done(report)]
    if len(reports) > 1 or bad:
        print(f"\n{len(reports) - len(bad)} of {len(reports)} usable" + (f"; not: {', '.join(bad)}" if bad else ""))
    return 1 if bad else 0


def _one(row: Row, source: Any, options: Options) -> Report:
    """Install a dataset and examine it again."""
    failed = None
    try:
        failed = install(row, options)
    except BrokenPipeError:  # the reader of the output is gone
        raise
    except Timeout:
        print(f"{row.name}: another download of it is running.")
    except OSError as error:
        print(f"{row.name}: {describe(error)}. Downloaded files are kept; the same command continues from there.")
    report, _ = examine(row.name, source, str(options.root))
    if failed is None:
        return report
    if _done(report):
        print(f"{row.name}: ready, {_found(report)}")
    for line in _notes(row, report, failed, options) if _done(report) else instructions(row, report, options):
        print(line)
    return report


def _notes(row: Row, report: Report, failed: dict[RemoteFile, list[str]], options: Options) -> list[str]:
    """Remarks on a usable dataset, and its missing optional files."""
    text = [_line("note", note) for note in report.notes]
    for file, reasons in failed.items():
        text.append(_line("note", f"{file.name} is missing ({reasons[0] if reasons else 'by hand'})"))
        if file.name in row.split_files:
            text.append(_line("", f"Without it the split is made by a rule: {RULES[row.rule]}."))
        text.append(_line("", f"To use it, put it into {options.root / row.folder} before the first run:"))
        text += [_line("", page) for page in (*_pages(file), *_elsewhere(row))]
    return text


def _done(report: Report) -> bool:
    return report.status == "usable"


def _found(report: Report) -> str:
    images = counted(sum(report.images.values()), "image")
    return f"usable: {images}, {counted(report.classes, 'class')}, {report.folder}"


# ---- instructions for downloads by hand ----------------------------------------------------------------------------


def instructions(row: Row, report: Report, options: Options) -> list[str]:
    """How to complete a dataset by hand: the files, their pages, and where to put them."""
    folder = options.root / row.folder
    required = [file for file in row.files if not file.optional]
    needed = [file for file in lacking(row, options.root) if not file.optional]
    if needed:
        text = [f"{row.name}: incomplete, by hand:"]
        for file in needed:
            text += ["", *_one_by_hand(file, folder)]
        text += ["", *(_line("elsewhere", page) for page in _elsewhere(row))]
        return [*text, _line("again", f"python -m datasets.download {row.name} --root {quoted(options.root)}")]
    if report.absent and row.hub and row.hub.shards:
        text = [f"{row.name}: incomplete, by hand:", _line("from", row.hub.page)]
        repository = f"hf download {row.hub.repos[0]} --repo-type dataset --local-dir {quoted(folder)}"
        text += [_line("or", repository), _line("then", "repeat this command, which lays out its shards")]
        return [*text, _line("again", f"python -m datasets.download {row.name} --root {quoted(options.root)}")]
    if report.absent and not required:
        text = [f"{row.name}: has to be downloaded by hand", _line("from", row.source)]
        text.append(_line("to", f"{folder}, which should then hold"))
        text += [_line("", f"  {line}") for line in report.expected]
        text += [_line("size", report.size)] if report.size else []
        steps = row.by_hand.format(folder=folder).splitlines()
        return text + [_line("" if i else "steps", step) for i, step in enumerate(steps)]
    text = report.lines()
    if required:
        place = quoted(folder / required[0].places[0])
        text.append(_line("again", f"existing files are never overwritten; to download it again, delete {place}"))
    return text


def _one_by_hand(file: RemoteFile, folder: Path) -> list[str]:
    text = [_line("file", f"{file.name}{about(file.size)}")]
    text += [_line("or" if i else "from", page) for i, page in enumerate(_pages(file))]
    if file.page.startswith(KAGGLE):
        name = file.page.removeprefix(KAGGLE)
        text.append(_line("or", f"kaggle datasets download {name} -p {quoted(folder)}  (with an account)"))
    text.append(_line("to", f"{folder}/{' or '.join((file.name, *file.also))}"))
    if file.put:
        brings = ", ".join(place if "." in place.split("/")[-1] else f"{place}/" for place in file.places)
        text.append(
            _line("then", f"repeat this command, which unpacks it; or unpack it so that {folder.name}/ has {brings}")
        )
    return text


def _pages(file: RemoteFile) -> list[str]:
    """Where people find a file."""
    pages = [file.page] if file.page else [f"{url}{note_of(url)}" for url in file.urls]
    return [*pages, *([DRIVE.format(file.drive)] if file.drive else [])]


def _elsewhere(row: Row) -> list[str]:
    """Where people find the whole dataset."""
    return [row.hub.page] if row.hub else []


def _line(head: str, text: str) -> str:
    return f"  {head:<9}  {text}".rstrip()


# ---- dry run -------------------------------------------------------------------------------------------------------


def _dry_run(plan: list[tuple[Row, list[RemoteFile]]], options: Options, rest: bool) -> int:
    """Print the plan without a request to any server; returns 1 if something has to be downloaded by hand."""
    drive, possible = importlib.util.find_spec("gdown") is not None, rest
    for row, files in plan:
        print(f"{row.name}: to {options.root / row.folder}")
        required = [file for file in files if not file.optional]
        if row.hub and (row.hub.shards or any(at_hand(row, file, options) is None for file in required)):
            print(_line("download", f"from the hub{about(row.hub.size)}: {row.hub.page}"))
        elif not required:
            possible = False
            print(_line("by hand", row.source))
        for file in files:
            here, urls = at_hand(row, file, options), sources(row, file, options)
            if here:
                how, where = "unpack", str(here)
            elif urls:
                how, where = "or" if row.hub and not options.mirror else "download", f"{urls[0]}{note_of(urls[0])}"
            elif file.drive:
                how, where = "download" if drive else "gdown", DRIVE.format(file.drive)
            else:
                how, where = "by hand", file.page
            if how in ("gdown", "by hand") and not file.optional and not row.hub:
                possible = False
            print(_line(how, f"{file.name}{about(file.size)}{', optional' if file.optional else ''}: {where}"))
    if plan:
        fetched, most = space(plan, options)
        print(f"\nto download: about {size(fetched * MB)}; on disk at most about {size(most * MB)}; ", end="")
        print(f"free in {options.root}: {size(free_space(options.root))}")
    if not drive and any(file.drive for _, files in plan for file in files):
        print("gdown: these files are on Google Drive, which needs `pip install gdown`; or download them by hand")
    return 0 if possible else 1


@program.entry(resume="the same command continues from here")
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        return download(args)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(describe(error)) from error
