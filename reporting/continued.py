"""Tables of tasks trained from scratch and from a model of other tasks (MVLPT's multi-task initialisation)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reporting.experiments import Experiment, ReportError, Seeds, load_experiment
from reporting.frame import frame_of
from reporting.tables import Choice, select, statistics
from reporting.text import number_text, render, spread_text

SCRATCH, SOURCES = "from scratch", "from sources"
TEXT = "difference: mean over the seeds that both have, in points"


def continued_tables(rows: Sequence[tuple[str, str, str]], seeds: Seeds = None) -> str:
    """One table per method: target task x {from scratch, from sources, difference}.

    Args:
        rows: (label, folder of the runs from scratch, folder of the runs from the model of the sources). Folders end in
            "task*": one run per task and seed.
        seeds: the expected seeds; missing ones are reported.
    """
    parts = [f"{spread_text(False)}; {number_text(Choice())}; {TEXT}"]
    for label, *folders in rows:
        try:
            found = {
                name: load_experiment(Path(folder), name, seeds=seeds)
                for name, folder in zip((SCRATCH, SOURCES), folders, strict=True)
            }
        except ReportError as error:
            parts.append(f"{label}: {error}")
            continue
        notes = [f"note: {label}, {name}: {note}" for name, part in found.items() for note in part.notes()]
        parts += [f"{label}\n{_table(found)}", *(["\n".join(notes)] if notes else [])]
    return "\n\n".join(parts)


def _table(parts: dict[str, Experiment]) -> str:
    """The table of one method. The mean is over the seeds that have all tasks of the table."""
    frame = select(frame_of(list(parts.items())), per_task=True)
    values = frame.pivot_table(index="seed", columns=["experiment", "task_id", "task"], values="value")
    tasks = values.columns.droplevel(0).drop_duplicates().sort_values()
    ways = {name: values[name].reindex(columns=tasks) if name in values else _empty(values, tasks) for name in parts}
    for part in ways.values():
        part["", "mean"] = part.mean(axis=1, skipna=False)
    ways["difference"] = ways[SOURCES] - ways[SCRATCH]
    texts = {name: statistics(part).texts() for name, part in ways.items()}
    columns = [column for column in ways[SCRATCH].columns if len(tasks) > 1 or column != ("", "mean")]
    lines = []
    for column in columns:
        gain = ways["difference"][column].mean()
        cells = [text[column] for text in texts.values()]
        lines.append([column[1], *cells[:2], f"+{cells[2]}" if gain >= 0 else cells[2]])
    return render(["task", *texts], lines)


def _empty(values: pd.DataFrame, tasks: pd.MultiIndex) -> pd.DataFrame:
    return pd.DataFrame(index=values.index, columns=tasks, dtype=float)
