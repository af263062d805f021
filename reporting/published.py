"""Published figures beside measured ones, and as a frame of their own. `load` is the table of all figures."""

from collections.abc import Callable, Mapping
from functools import cache

import pandas as pd

from reporting.frame import COLUMNS
from reporting.published_tables import COSTS, SOURCES, TASKS, TRAINED_ON, TRANSFER, H, load, names

METRICS = ("overall_metric", "overall_acc")  # of which there are figures
KEY = ("suite", "task_key", "protocol", "classes", "source_suite", "backbone", "shots", "method", "metric")
BESIDE = (*KEY, "published_method", "published", "published_std", "source", "note", "comparable", "why")


@cache
def _index() -> dict[tuple, list[dict]]:
    """{(method, protocol, classes, dataset): figures, the preferred first}."""
    found: dict[tuple, list[dict]] = {}
    frame = load()
    frame = frame[~frame["metric"].isin(COSTS) & (frame["mean_over"] != "shots")]
    for figure in frame.to_dict("records"):
        figure["shots"] = _number(figure["shots"])
        found.setdefault(tuple(figure[name] for name in ("method", "protocol", "classes", "dataset")), []).append(
            figure
        )
    return found


def _number(value) -> int | None:
    return None if pd.isna(value) else int(value)


def beside(frame: pd.DataFrame, source: str | None = None) -> pd.DataFrame:
    """The published figures of the runs in a frame (`reporting.frame`).

    Args:
        frame: with all rows of its runs. Finished ones are taken into account, with their values of METRICS.
        source: only figures of this source. If it has a single suite, its averages also stand beside runs of
            other data.

    Returns: a row per KEY of the frame that has a figure; besides, classes "H" where base and new classes are there.
        `task_key` is "" for the mean over tasks. `published_method`, `published`, `published_std`, `source` (its title)
        and `note` tell the figure. `comparable`: whether dataset or suite, backbone, shots, metric and choice of
        settings are the same, and nothing else speaks against it; `why`: what differs.
    """
    found = _beside(frame, source).drop_duplicates(list(KEY), ignore_index=True)
    return found[list(BESIDE)]


def finder(frame: pd.DataFrame) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A function from a part of the frame to the rows of `beside` for it, which needs all rows of the runs.

    The configurations of a part tell variants of a method apart that have the same name.
    """
    figures = _beside(frame, None)

    def find(part: pd.DataFrame) -> pd.DataFrame:
        there = _clean(part)[[*KEY, "config"]].drop_duplicates()
        there = pd.concat([there, there[there["classes"] == "base"].assign(classes=H)])
        found = figures.merge(there, on=[*KEY, "config"])
        return found.drop_duplicates(list(KEY), ignore_index=True)[list(BESIDE)]

    return find


def _beside(frame: pd.DataFrame, source: str | None) -> pd.DataFrame:
    """`beside` with a row per KEY and configuration."""
    known = {dataset for _, _, _, dataset in _index()}
    other, found = _only_suite(source), []
    for key in _keys(frame).to_dict("records"):
        key["shots"] = _number(key["shots"])
        key["dataset"] = key["task_key"] or key["suite"]
        if key["dataset"] not in known and other and not key["task_key"]:
            key["dataset"] = other
        if figures := _figures_of(key, source):
            found.append({**_compared(key, figures), "config": key["config"]})
    return pd.DataFrame(found, columns=[*BESIDE, "config"]).astype({"shots": "Int64", "comparable": "bool"})


def _only_suite(source: str | None) -> str | None:
    """The suite of a source that has exactly one."""
    suites = {name for name in load(source)["dataset"].unique() if name in TASKS} if source else ()
    return next(iter(suites)) if len(suites) == 1 else None


def _clean(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].fillna("") for name in ("task_key", "source_suite", "config")})


def _keys(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per KEY and configuration of the finished tests, with what is to be known of their runs.

    `tasks`: least number of tasks of a run, 0 if unknown; `same`: whether the metrics METRICS have the same values;
    `chosen`: whether test images chose settings.
    """
    runs = frame[(frame["status"] == "complete") & frame["metric"].isin(METRICS) & (frame["split"] == "test")]
    runs, key = _clean(runs), [*KEY, "config"]
    run = ["experiment", "seed", *(name for name in key if name not in ("task_key", "metric"))]
    several = runs["task_key"].where(runs["task_key"] != "")
    values = runs.groupby([*run, "task_key"], dropna=False)["value"]
    runs = runs.assign(
        tasks=several.groupby([runs[name] for name in run], dropna=False).transform("nunique"),
        same=(values.transform("count") == len(METRICS)) & (values.transform("max") == values.transform("min")),
        chosen=runs["chosen_on"] == "test",
    )
    columns = {"tasks": ("tasks", "min"), "same": ("same", "all"), "chosen": ("chosen", "any")}
    keys = runs.groupby(key, sort=False, dropna=False).agg(**columns).reset_index()
    halves = keys[keys["protocol"] == "base-to-new"]
    rest = [name for name in key if name != "classes"]
    return pd.concat([keys, halves[halves.duplicated(rest, keep="first")].assign(classes=H)])


def _figures_of(key: Mapping, source: str | None) -> list[dict]:
    """The figures of a method on a dataset, whatever their backbone and shots, the preferred first."""
    if key["protocol"] in TRANSFER and key["source_suite"] not in ("", TRAINED_ON):
        return []
    protocols = [key["protocol"]]
    if key["protocol"] != "base-to-new":
        protocols += [protocol for protocol in ("few-shot", *TRANSFER) if protocol != key["protocol"]]
    for name in names(key["method"], key["config"]):
        found = []
        for protocol in protocols:
            figures = _index().get((name, protocol, key["classes"], key["dataset"]), [])
            figures = [figure for figure in figures if source in (None, figure["source"])]
            # zero-shot CLIP is the same under every protocol
            found += [figure for figure in figures if protocol == key["protocol"] or figure["shots"] == 0]
        if found:
            return found
    return []


def _compared(key: dict, figures: list[dict]) -> dict:
    """The row of `beside` for the figure that fits best."""

    def fits(figure: dict) -> tuple:
        return figure["backbone"] == key["backbone"], figure["shots"] in (0, key["shots"])

    def rank(figure: dict) -> tuple:
        return (
            *(not fit for fit in fits(figure)),
            figure["caveat"] != "",
            figure["read_off_plot"] > 0,
            figure["computed"],
        )

    best = min(figures, key=rank)  # the first of equals
    others = {}
    for figure in figures:
        if fits(figure) == fits(best) and figure["source"] != best["source"] and figure["value"] != best["value"]:
            others.setdefault(f"{figure['value']:.2f}", figure["source"])
    also = "; ".join(f"also {value} ({other})" for value, other in others.items())
    why = "; ".join(_differences(key, best))
    return {
        **{name: key[name] for name in KEY},
        "published_method": best["method"],
        "published": best["value"],
        "published_std": best["std"],
        "source": SOURCES[best["source"]],
        "note": "; ".join(filter(None, (best["note"], also))),
        "comparable": not why,
        "why": why,
    }


def _differences(key: dict, figure: dict) -> list[str]:
    """Why runs cannot be compared with a figure."""
    found, shots, suite = [], figure["shots"], key["dataset"]
    if key["task_key"] == "" and suite != key["suite"]:
        found.append(f"published for {suite}, these runs are of {key['suite']}")
    elif key["task_key"] == "" and 0 < (tasks := key["tasks"]) < TASKS.get(suite, 0):
        found.append(f"these runs have {tasks} of the {TASKS[suite]} tasks")
    if figure["backbone"] != key["backbone"]:
        found.append(
            f"published for {figure['backbone']}, these runs are {key['backbone'] or 'of an unknown backbone'}"
        )
    if shots not in (0, key["shots"]):
        here = f", these runs have {key['shots']}" if key["shots"] and key["shots"] > 0 else ""
        count = "an unknown number of images" if shots is None else f"{shots} image{'s' * (shots > 1)}"
        found.append(f"published with {count} per class{here}")
    if figure["metric"] != key["metric"] and not key["same"]:
        name = {"overall_acc": "overall accuracy", "overall_metric": "the metric that each task declares"}
        found.append(f"published is {name[figure['metric']]} ({figure['metric']})")
    if figure["caveat"]:
        found.append(figure["caveat"])
    if figure["chosen_on"] and not key["chosen"]:
        found.append("test images chose settings in the published code")
    if key["chosen"] and not figure["chosen_on"]:
        found.append("test images chose settings of these runs")
    if figure["read_off_plot"] > 0:
        found.append(f"read off a plot, ±{figure['read_off_plot']:g}")
    return found


# ---------------------------------------------------------------------------------------------------- as a frame


def as_frame() -> pd.DataFrame:
    """The published figures with the columns of `reporting.frame`, as if each were a run without a seed.

    Of several sources of a figure, it has the one that `beside` prefers. Means over shots and harmonic means are left
    out; means over the eleven datasets are there, also where they are not printed. A figure in overall accuracy is
    there as `overall_metric`, too.
    """
    figures = load()
    figures = figures[~figures["metric"].isin(COSTS) & (figures["mean_over"] != "shots") & (figures["classes"] != H)]
    figures = figures[~figures["dataset"].str.startswith("average")]
    alone = figures["table"].isin(["domain_shift", "cross_dataset"])  # each dataset is a suite
    mean = figures["dataset"].isin(TASKS)
    figures["suite"] = figures["dataset"].where(alone | mean, "General11")
    figures["task_key"] = figures["dataset"].where(~mean, "")
    figures = pd.concat([figures, figures[alone].assign(task_key="")])
    rank = figures.assign(caveat=figures["caveat"] != "", read_off_plot=figures["read_off_plot"] > 0)
    rank = rank.reset_index(drop=True).sort_values(["caveat", "read_off_plot", "computed"], kind="stable")
    figures = figures.iloc[rank.index]
    figures = figures.drop_duplicates(["method", "backbone", "protocol", "classes", "shots", "suite", "task_key"])
    figures["declared"] = figures["metric"].where(figures["metric"] == "overall_acc", "")
    accuracy = figures[figures["metric"] == "overall_acc"]
    figures = pd.concat([figures, accuracy.assign(metric="overall_metric")])
    order = {name: number for number, name in enumerate(figures["dataset"].unique())}
    transfer = figures["protocol"].isin(TRANSFER)
    frame = figures.assign(
        path="published/" + figures["source"],
        experiment="published/" + figures["method"],
        source_suite=transfer.map({True: TRAINED_ON, False: ""}),
        shots=figures["shots"].where(figures["shots"] != 0),
        split="test",
        task=figures["task_key"],
        task_id=figures["dataset"].map(order).astype("Int64").where(figures["task_key"] != ""),
        status="complete",
        joined=False,
    )
    rest = {name: "" if kind == "str" else None for name, kind in COLUMNS.items() if name not in frame}
    return frame.assign(**rest)[list(COLUMNS)].astype(COLUMNS).reset_index(drop=True)
