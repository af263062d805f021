"""Report which datasets are there, which are missing, and how to fix it: `python -m datasets.check --help`.

Exit code: 0 if everything asked for is usable, 1 if something is not, 2 for wrong arguments. Nothing is written; the
split of a dataset without a split file is computed and not saved.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from dassl import program
from dassl.utils.errors import UserError, describe, is_user_error
from datasets.doctor.decode_check import decode_all
from datasets.doctor.names import asked_for
from datasets.doctor.report import Report, examine, headline, refusal
from datasets.folders import quoted
from datasets.source import SPLITS
from datasets.suites import SOURCES, SUITES, Asked

Found = list[tuple[Asked, dict[str, Report]]]  # suites and datasets, each with the reports on its datasets


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.check",
        description="Report which datasets are there, which are missing, and how to fix it.",
        epilog="Exit code: 0 if everything asked for is usable, 1 if something is not, 2 for wrong arguments.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="suite, dataset or YAML file; none: a summary of all")
    parser.add_argument("--root", default="", metavar="DATA", help="folder that contains all dataset folders")
    parser.add_argument("--deep", action="store_true", help="decode every image and list the bad ones")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that decode (default 1)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    args = parser.parse_intermixed_args(argv)
    if args.workers < 1:
        parser.error(f"--workers {args.workers}: expected 1 or more")
    return args


def check(args: argparse.Namespace) -> int:
    """Examine everything that was asked for and print the result; returns the exit code."""
    root = os.path.abspath(os.path.expanduser(args.root)) if args.root else ""
    asked = [asked_for(name, root) for name in dict.fromkeys(args.names or (*SUITES, *SOURCES))]
    for suite in asked:
        rows = [source.row for source in suite.sources.values() if hasattr(source, "row")]
        if rows and not suite.root:
            raise UserError(
                f"{suite.name} needs --root DATA: the folder that contains all dataset folders (DATA/{rows[0].folder}/)"
            )
    seen: dict[tuple, Report] = {}  # a dataset of several suites is examined once
    found: Found = [(suite, {}) for suite in asked]
    for suite, reports in found:
        for name, source in suite.sources.items():
            key = (id(source), suite.root, suite.indices(name))
            if key not in seen:
                seen[key] = _one(name, source, suite, args)
            reports[name] = seen[key]
    if args.json:
        print(json.dumps(as_json(found, root), indent=1, ensure_ascii=False))
    elif not args.names:
        print("\n".join(summary(found, root)))
    else:
        print("\n\n".join("\n".join(of_suite(suite, reports)) for suite, reports in found))
    return 0 if all(map(_usable, seen.values())) else 1


def _one(name: str, source: Any, suite: Asked, args: argparse.Namespace) -> Report:
    try:
        report, loaded = examine(name, source, suite.root, suite.indices(name))
        if args.deep and loaded is not None:
            report.bad = decode_all(loaded, suite.indices(name), args.workers)
            if report.bad:
                report.status = "broken"
                report.problem = f"{len(report.bad):,} of {sum(report.images.values()):,} images cannot be decoded"
        return report
    except Exception as error:  # an unforeseen error must not hide the other datasets
        kind = "" if is_user_error(error) else f"{type(error).__name__}: "
        return Report(name, "broken", problem=f"{kind}{describe(error)}".splitlines()[0])


def _usable(report: Report) -> bool:
    return report.status == "usable"


# ---- what is printed -----------------------------------------------------------------------------------------------


def of_suite(asked: Asked, reports: Mapping[str, Report]) -> list[str]:
    """The lines about a suite or dataset."""
    found = list(reports.values())
    text = refusal(asked.name, found, asked.sources, asked.root)
    head = text[:1] or [f"{headline(asked.name, found, asked.root)}, split hash {suite_hash(asked, reports)[:12]}"]
    if len(found) == 1:
        return [*head, *(text[1:] or found[0].lines()[1:])]
    notes = [f"  note: {report.name}: {note}" for report in filter(_usable, found) for note in report.notes]
    return [*head, "", *table(found, asked.sources), *notes, *text[1:]]


def summary(found: Found, root: str) -> list[str]:
    """All suites and all datasets, a line each."""
    reports = {name: report for suite, one in found if suite.name in SOURCES for name, report in one.items()}
    usable = sum(map(_usable, reports.values()))
    text = [f"{usable} of {len(reports)} datasets usable below {root or 'no data root'}", ""]
    for suite, one in found:
        if suite.name in SUITES:
            there = sum(map(_usable, one.values()))
            state = "usable" if there == len(one) else "not usable"
            text.append(f"  {suite.name:<12}{state:<12}{there} of {len(one)} datasets")
    text += ["", *table(list(reports.values()), SOURCES)]
    if usable < len(reports):
        text += ["", f"How to fix it: python -m datasets.check NAME --root {quoted(root)}"]
    return text


def table(reports: list[Report], sources: Mapping[str, Any]) -> list[str]:
    """A line for each dataset, in aligned columns."""
    rows = [("", "dataset", "folder", "classes", *SPLITS, "split", "hash")]
    rows = rows if any(map(_usable, reports)) else []
    for report in reports:
        row = getattr(sources[report.name], "row", None)
        head = (report.status, report.name, f"{row.folder}/" if row else os.path.basename(report.folder))
        if not _usable(report):
            rows.append((*head, report.problem if len(report.problem) <= 60 else f"{report.problem[:57]}..."))
            continue
        split = "given" if os.path.isabs(report.split) else report.split.removesuffix(".json")
        split = row.rule if row and " " in split else split.replace(f"_{report.name}", "")
        numbers = (f"{number:,}" for number in (report.classes, *report.images.values()))
        rows.append((*head, *numbers, split, _digest(report.split_hashes.values())[:8]))
    widths = [max((len(row[i]) for row in rows if i + 1 < len(row)), default=0) for i in range(9)]  # last cell: any
    return ["  " + _aligned(row, widths) for row in rows]


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    numbers = range(3, 7) if len(row) > 4 else ()
    cells = (f"{c:>{w}}" if i in numbers else f"{c:<{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=False)))
    return "  ".join(cells).rstrip()


def as_json(found: Found, root: str) -> dict[str, Any]:
    """Everything that was found, as plain values."""
    suites = []
    for suite, reports in found:
        usable = all(map(_usable, reports.values()))
        entry = {"name": suite.name, "root": suite.root, "usable": usable}
        entry["split_hash"] = suite_hash(suite, reports) if usable else None
        datasets = [{**asdict(r), "mistakes": [mistake._asdict() for mistake in r.mistakes]} for r in reports.values()]
        suites.append({**entry, "datasets": datasets})
    return {"root": root, "usable": all(suite["usable"] for suite in suites), "suites": suites}


def suite_hash(asked: Asked, reports: Mapping[str, Report]) -> str:
    """Hash over the splits of the tasks of a usable suite, as in results.json."""
    return _digest(reports[task.dataset].split_hashes[task.key] for task in asked.tasks)


def _digest(hashes: Iterable[str]) -> str:
    """The hash over the splits of tasks that a run writes into results.json."""
    digest = hashlib.sha256()
    for task in hashes:
        digest.update(task.encode())
    return digest.hexdigest()


@program.entry
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        return check(args)
    except BrokenPipeError:
        raise
    except Exception as error:  # a YAML file may hold anything; there is never a traceback
        kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
        raise UserError(f"{kind}{describe(error)}") from error
