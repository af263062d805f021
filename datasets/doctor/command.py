"""Say what is there of datasets and suites, what is missing, and how to mend it: `python -m datasets.check --help`.

Status: 0 if everything asked for is usable, 1 if something is not, 2 for wrong arguments. Nothing is written; the
split of a dataset that has no split file is worked out and not saved.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from datasets.doctor.decode_check import decode_all
from datasets.doctor.report import Report, examine, headline, refusal
from datasets.folders import q
from datasets.source import SPLITS
from datasets.suites import SOURCES, SUITES, expand, known_sources

CONFIGS = Path(__file__).resolve().parents[2] / "configs/datasets"


@dataclass
class Asked:
    """A suite, dataset or YAML file that was asked for.

    Attributes:
        label: what it is called.
        tasks: (dataset, index of the task within it, key of the task) in order.
        sources: what reads its datasets.
        root: the data root, absolute, "" for none.
    """

    label: str
    tasks: list[tuple[str, int, str]]
    sources: Mapping[str, Any]
    root: str


# ---- what was asked for --------------------------------------------------------------------------------------------


def asked_for(name: str, root: str) -> Asked:
    """A suite, a dataset, a task of one ("Icon13/faces"), a name of configs/datasets, or a YAML file.

    Raises:
        ValueError: there is none of that name, or the file cannot be used.
    """
    if name.lower().endswith((".yaml", ".yml")):
        return _from_yaml(Path(name), root)
    known = {known.lower(): known for known in (*SUITES, *SOURCES)}
    found = known.get(name.lower())
    if found:
        return _asked(found, SUITES.get(found, (found,)), root)
    if "/" in name and name.partition("/")[0] in SOURCES:
        return _asked(name, (name,), root)
    if (CONFIGS / f"{name}.yaml").is_file():
        return _from_yaml(CONFIGS / f"{name}.yaml", root)
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"; did you mean {known[near[0]]}?" if near else ""
    if file := next((name + ending for ending in (".yaml", ".yml") if os.path.isfile(name + ending)), ""):
        hint = f"; did you mean the file {file}?"
    elif os.path.isdir(name):
        hint = f"; {name} is a folder: own data are described by a YAML file (docs/own-data.md)"
    raise ValueError(
        f"there is no suite or dataset {name!r}{hint}\n{_wrapped('suites: ', SUITES)}\n"
        f"{_wrapped('datasets: ', SOURCES)}\n  or give a YAML file with DATASET.TASKS"
    )


def _wrapped(head: str, names: Iterable[str]) -> str:
    return textwrap.fill(head + ", ".join(names), 110, initial_indent="  ", subsequent_indent="    ")


def _asked(label: str, entries, root: str, moved=str) -> Asked:
    tasks = expand(entries)
    known = known_sources(entries, moved)
    return Asked(label, tasks, {dataset: known[dataset] for dataset, _, _ in tasks}, root)


def _from_yaml(path: Path, root: str) -> Asked:
    """The suite of a dataset file or of a run's config.yaml; its DATASET.ROOT holds where none is given."""
    import trainers  # noqa: F401  declares the settings that the config.yaml of a run has
    from dassl.config import get_cfg_default, load
    from dassl.data.views import replace_prefix
    from datasets.fewshot import task_subset

    if not path.is_file():
        near = CONFIGS / path.name
        raise ValueError(f"there is no file {path}" + (f"; did you mean {near}?" if near.is_file() else ""))
    cfg = get_cfg_default()
    load(cfg, [str(path)], [])
    name, entries = cfg.DATASET.NAME, list(cfg.DATASET.TASKS)
    if not entries and name not in (*SUITES, *SOURCES):
        near = get_close_matches(str(name), [*SUITES, *SOURCES], n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ", and DATASET.TASKS is empty"
        raise ValueError(f"{path}: there is no suite or dataset {name!r} (DATASET.NAME){hint}")
    moves = (cfg.DATALOADER.OLD_DATA_PATH, cfg.DATALOADER.NEW_DATA_PATH)
    root = root or (os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT)) if cfg.DATASET.ROOT else "")
    asked = _asked(name or path.stem, entries or SUITES.get(name, (name,)), root, lambda p: replace_prefix(p, *moves))
    chosen = task_subset(cfg.DATASET.SUBSAMPLE_TASKS, [key for _, _, key in asked.tasks])
    asked.tasks = [asked.tasks[i] for i in chosen]
    asked.sources = {dataset: asked.sources[dataset] for dataset, _, _ in asked.tasks}
    return asked


# ---- tables --------------------------------------------------------------------------------------------------------


def table(reports: list[Report], sources: Mapping[str, Any]) -> list[str]:
    """A line for each dataset, in aligned columns."""
    if any(report.status == "usable" for report in reports):
        rows = [("", "dataset", "folder", "classes", *SPLITS, "split", "hash")]
    else:
        rows = [("", "dataset", "folder", "")]
    for report in reports:
        row = getattr(sources[report.name], "row", None)
        folder = f"{row.folder}/" if row else os.path.basename(report.folder)
        if report.status == "usable":
            counts = [f"{report.images[split]:,}" for split in SPLITS]
            split = "given" if os.path.isabs(report.split) else report.split.removesuffix(".json")
            split = row.rule if row and " " in split else split.replace(f"_{report.name}", "")
            digest = _digest(report.split_hashes.values())[:8]
            rows.append((report.status, report.name, folder, f"{report.classes:,}", *counts, split, digest))
        else:
            why = report.mistakes[0].name if report.mistakes else report.problem
            why = why if len(why) <= 60 else f"{why[:57]}..."
            rows.append((report.status, report.name, folder, why))
    widths = [max((len(row[i]) for row in rows if len(row) > 4), default=0) for i in range(len(rows[0]))]
    widths[:3] = (max(len(row[i]) for row in rows) for i in range(3))
    return ["  " + _cells(row, widths) for row in rows]


def _cells(row: tuple[str, ...], widths: list[int]) -> str:
    if len(row) == 4:
        return "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row[:3], widths, strict=False)), row[3]]).rstrip()
    numbers = range(3, 7)
    cells = (f"{c:>{w}}" if i in numbers else f"{c:<{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True)))
    return "  ".join(cells).rstrip()


def _digest(hashes: Iterable[str]) -> str:
    """The hash that a run writes into results.json for these tasks."""
    digest = hashlib.sha256()
    for task in hashes:
        digest.update(task.encode())
    return digest.hexdigest()


def suite_hash(asked: Asked, reports: Mapping[str, Report]) -> str:
    """Hash over the splits of the tasks of a usable suite, as in results.json."""
    return _digest(reports[dataset].split_hashes[key] for dataset, _, key in asked.tasks)


# ---- the command ---------------------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.check",
        description="Say which datasets are there, which are not, and how to mend it.",
        epilog="Status: 0 everything asked for is usable, 1 something is not, 2 wrong arguments.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="suite, dataset or YAML file; none: all in a summary")
    parser.add_argument("--root", default="", metavar="DATA", help="folder that holds the datasets' folders")
    parser.add_argument("--deep", action="store_true", help="decode every image and list the bad ones")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that decode (default 1)")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    args = parser.parse_intermixed_args(argv)
    if args.workers < 1:
        parser.error(f"--workers {args.workers}: expected 1 or more")
    return args


def check(args: argparse.Namespace) -> int:
    """Look at everything that was asked for and print it; returns the exit status."""
    root = os.path.abspath(os.path.expanduser(args.root)) if args.root else ""
    everything = not args.names
    asked = [asked_for(name, root) for name in dict.fromkeys(args.names or (*SUITES, *SOURCES))]
    if not root and (needy := [a for a in asked if not a.root and any(hasattr(s, "row") for s in a.sources.values())]):
        first = next(source.row for source in needy[0].sources.values() if hasattr(source, "row"))
        raise ValueError(
            f"{needy[0].label} needs --root DATA, the folder in which the datasets' folders lie (DATA/{first.folder}/)"
        )
    seen: dict[tuple, Report] = {}  # a dataset of several suites is looked at once
    found = []
    for suite in asked:
        found.append((suite, {}))
        for name, source in suite.sources.items():
            tasks = tuple(index for dataset, index, _ in suite.tasks if dataset == name)
            key = (id(source), suite.root, tasks)
            if key not in seen:
                seen[key] = _one(name, source, suite.root, tasks, args)
            found[-1][1][name] = seen[key]
    if args.json:
        print(json.dumps(as_json(found, root), indent=1, ensure_ascii=False))
    elif everything:
        print("\n".join(summary(found, root)))
    else:
        print("\n\n".join("\n".join(of_suite(suite, one)) for suite, one in found))
    return 0 if all(report.status == "usable" for _, one in found for report in one.values()) else 1


def _one(name: str, source: Any, root: str, tasks: tuple[int, ...], args: argparse.Namespace) -> Report:
    try:
        report, loaded = examine(name, source, root, tasks)
        if args.deep and loaded is not None:
            report.bad = decode_all(loaded, tasks, args.workers)
            if report.bad:
                count = sum(report.images.values())
                report.status = "broken"
                report.problem = f"{len(report.bad):,} of {count:,} images cannot be decoded"
                report.mistakes = [m._replace(fix="") if "--deep" in m.fix else m for m in report.mistakes]
        return report
    except Exception as error:  # what nobody thought of: said with the dataset's name, and the others are still checked
        return Report(name, "broken", problem=f"{type(error).__name__}: {error}")


def of_suite(asked: Asked, reports: Mapping[str, Report]) -> list[str]:
    """What is printed about a suite or dataset."""
    found = list(reports.values())
    text = refusal(asked.label, found, asked.sources, asked.root)
    head = text[:1] or [f"{headline(asked.label, found, asked.root)}, split hash {suite_hash(asked, reports)[:12]}"]
    if len(found) == 1:
        return [*head, *(text[1:] or found[0].lines()[1:])]
    notes = [f"  note: {report.name}: {note}" for report in found if report.status == "usable" for note in report.notes]
    return [*head, "", *table(found, asked.sources), *notes, *text[1:]]


def summary(found: list[tuple[Asked, Mapping[str, Report]]], root: str) -> list[str]:
    """All suites and all datasets, a line each."""
    reports = {name: one[name] for asked, one in found if asked.label in SOURCES for name in one}
    sources = {name: source for asked, _ in found for name, source in asked.sources.items()}
    usable = sum(report.status == "usable" for report in reports.values())
    text = [f"{usable} of {len(reports)} datasets usable below {root or 'no data root'}", ""]
    for asked, one in found:
        if asked.label in SUITES:
            there = sum(report.status == "usable" for report in one.values())
            state = "usable" if there == len(one) else "not usable"
            text.append(f"  {asked.label:<12}{state:<12}{there} of {len(one)} datasets")
    text += ["", *table(list(reports.values()), sources)]
    if usable < len(reports):
        text += ["", f"How to mend it: python -m datasets.check NAME --root {q(root)}"]
    return text


def as_json(found: list[tuple[Asked, Mapping[str, Report]]], root: str) -> dict[str, Any]:
    """Everything that was found, as plain values."""
    suites = []
    for asked, one in found:
        good = all(report.status == "usable" for report in one.values())
        entry = {"name": asked.label, "root": asked.root, "usable": good}
        entry["split_hash"] = suite_hash(asked, one) if good else None
        suites.append({**entry, "datasets": [_plain(report) for report in one.values()]})
    return {"root": root, "usable": all(suite["usable"] for suite in suites), "suites": suites}


def _plain(report: Report) -> dict[str, Any]:
    return {**asdict(report), "mistakes": [mistake._asdict() for mistake in report.mistakes]}


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        status = check(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # whatever a YAML file may hold, there is no traceback
        kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
        print(f"error: {kind}{error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
