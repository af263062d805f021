"""The published figures as text, and the contradictions among them: `python report.py --published [METHOD ...]`."""

from collections.abc import Sequence

import pandas as pd

from dassl.utils.errors import UserError, counted, did_you_mean
from dassl.utils.methods import NAME
from dassl.utils.methods import methods as known_methods
from reporting.published_checks import checks, disagreements
from reporting.published_tables import COSTS, SOURCES, TARGETS, TASKS, TRAINED_ON, H, load, names
from reporting.text import render

TITLES = {
    "softcpt": "Few-shot, all tasks of a suite in one run",
    "few_shot": "Few-shot, one dataset at a time",
    "base_to_new": "Base to new",
    "domain_shift": "Domain generalisation: trained on ImageNet",
    "cross_dataset": "Cross-dataset transfer: trained on ImageNet",
}
ROWS = ["dataset", "method", "backbone", "shots", "source"]  # columns that name a row; COLUMN names the others
COLUMN = {"softcpt": "shots", "few_shot": "shots", "base_to_new": "classes"}
ORDER = {"shots": ["0", "1", "2", "4", "8", "16", "", "mean"], "classes": ["base", "new", H]}
MARKS = {
    "=": "not printed, but the average of printed figures",
    "~": "read off a plot",
    "‡": "test images chose settings",
    "×": "no run can be compared with it",
}


def text(methods: Sequence[str] = ()) -> str:
    """Tables of the figures in per cent, and the results of `checks`.

    Args:
        methods: only these, with all datasets; else all, with averages only. Names of methods or trainers of this
            project, or of the tables.

    Raises:
        UserError: no figure of a method.
    """
    frame = load()
    frame = frame[~frame["metric"].isin(COSTS)]
    chosen = _chosen(methods, frame)
    frame = frame[frame["method"].isin(chosen)] if methods else averages(frame)
    parts = [
        f"{TITLES[table]}\n\n{render(*table_of(frame, table))}" for table in TITLES if (frame["table"] == table).any()
    ]
    sources = [f"{key:<17} {SOURCES[key]}" for key in SOURCES if (frame["source"] == key).any()]
    marks = "\n".join(f"{mark}  {meaning}" for mark, meaning in MARKS.items())
    parts += [marks, "sources\n" + "\n".join(sources), *check_texts(chosen)]
    return "\n\n".join(parts)


def _chosen(methods: Sequence[str], frame: pd.DataFrame) -> list[str]:
    """Names in the tables."""
    there, found = set(frame["method"]), []
    for method in methods:
        labels = [method, *(label for label, row in known_methods().items() if row[NAME] == method)]
        own = [name for label in labels for name in names(label, None) if name in there]
        if not own:
            raise UserError(f"no published figure of {method!r}{did_you_mean(method, sorted(there))}")
        found += own
    return found


def averages(frame: pd.DataFrame) -> pd.DataFrame:
    """The figures of an overview: means over suites, domain generalisation, and the means of cross-dataset transfer."""
    mean = frame["dataset"].isin(TASKS) | (frame["table"] == "domain_shift")
    return frame[mean | ((frame["table"] == "cross_dataset") & frame["dataset"].isin([TARGETS, TRAINED_ON]))]


def table_of(frame: pd.DataFrame, table: str) -> tuple[list[str], list[list[str]], int]:
    """The figures of a table: titles of the columns, rows, and how many columns name a row.

    A row has a method; the other columns are numbers of shots, halves of the classes, or datasets. Sources of the same
    figures share a row.
    """
    frame = frame[frame["table"] == table]
    column = COLUMN.get(table, "dataset")
    keys = [name for name in ROWS if name != column]
    cells = [_cell(figure) for figure in frame.to_dict("records")]
    shots = frame["shots"].astype("string").fillna("").where(frame["mean_over"] != "shots", "mean")
    wide = frame.assign(text=cells, shots=shots).pivot_table("text", keys, column, aggfunc="first", sort=False)
    wide = wide[[name for name in ORDER.get(column, wide) if name in wide]].reset_index().fillna("")
    if "dataset" in keys and wide["dataset"].nunique() == 1:
        wide = wide.drop(columns="dataset")
    same = [name for name in wide if name != "source"]
    merged = wide.groupby(same, sort=False)["source"].agg(", ".join).reset_index()[list(wide)]
    return list(merged), merged.values.tolist(), len(merged.columns.intersection(keys))


def _cell(figure: dict) -> str:
    """A figure with the digits that are printed, and its marks."""
    digits = int(figure["decimals"])
    number = f"{figure['value']:.{digits}f}" + ("" if pd.isna(figure["std"]) else f" ± {figure['std']:.{digits}f}")
    marks = {
        "=": figure["computed"],
        "~": figure["read_off_plot"] > 0,
        "‡": figure["chosen_on"] == "test",
        "×": figure["caveat"] != "",
    }
    return " ".join([number, *(mark for mark, there in marks.items() if there)])


# ---------------------------------------------------------------------------------------------------- checks


def check_texts(methods: Sequence[str] = ()) -> list[str]:
    """What `checks` and `disagreements` find, as paragraphs."""
    done, differ = checks(), disagreements()
    if methods:
        done, differ = done[done["method"].isin(methods)], differ[differ["method"].isin(methods)]
    wrong, lines = done[~done["follows"]], []
    for kind, group in done.groupby("kind", sort=False):
        equal, follows = group["equal"].sum(), group["follows"].sum()
        lines.append(
            f"{kind}: {len(group)}; {equal} to the digit, {follows - equal} within rounding, {len(group) - follows} not"
        )
    question = "Do averages follow from the printed figures, each of which stands for half a last digit to both sides?"
    found = ["\n".join([question, *(lines or ["none of these figures has its parts beside it"])])]
    if len(wrong):
        found.append(f"{counted(len(wrong), 'contradiction')}\n\n{render(*contradictions_table(wrong))}")
    if len(differ):
        title = "averages over the eleven datasets that sources print differently"
        found.append(f"{title}\n\n{render(*disagreements_table(differ))}")
    return found


def contradictions_table(wrong: pd.DataFrame) -> tuple[list[str], list[list[str]], int]:
    """The contradictions among `checks`, as from `table_of`."""
    header = ["source", "method", "figure", "average", "printed", "of the printed figures"]
    rows = []
    for check in wrong.to_dict("records"):
        kind = "; ".join(filter(None, (check["kind"], check["remark"])))
        numbers = f"{check['printed']:.2f}", f"{check['parts']:.2f}"
        rows.append([check["source"], check["method"], _where(check, check["dataset"]), kind, *numbers])
    return header, rows, 4


def disagreements_table(differ: pd.DataFrame) -> tuple[list[str], list[list[str]], int]:
    """`disagreements`, as from `table_of`."""
    rows = []
    for row in differ.to_dict("records"):
        values = "; ".join(f"{value:.2f} ({', '.join(sources)})" for value, sources in row["values"].items())
        rows.append([row["method"], _where(row), values])
    return ["method", "figure", "printed by"], rows, 3


def _where(key: dict, dataset: str = "") -> str:
    """A figure in words: "base-to-new, base, EuroSAT, 16 shots"."""
    classes = key["classes"] if key["classes"] != "all" else ""
    shots = "" if pd.isna(key["shots"]) else f"{key['shots']} shots"
    return ", ".join(filter(None, (key["protocol"], classes, dataset, shots)))
