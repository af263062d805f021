"""Which runs form a row of a table, and which rows form a table.

A row is a method, or one of several variants of a method, with all its seeds and numbers of images. A group is what can
be compared: the rows with the same suite, protocol, split and backbone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import pandas as pd

from dassl.utils.errors import UserError

SHIFTS = ("domain-shift", "cross-dataset")
PROTOCOLS = {
    "few-shot": "few-shot",
    "base-to-new": "base to new",
    "domain-shift": "domain generalisation",
    "cross-dataset": "cross-dataset transfer",
}
ZERO_SHOT = ("ZeroshotCLIP", "CLIP", "ZS-CLIP")  # the baseline among methods without training images
KEYS = ["suite", "protocol", "split", "backbone"]


@dataclass(frozen=True)
class Group:
    """Rows that can be compared.

    Attributes:
        suite: the suite; for models tested on other data, the suite they were trained on.
        frame: the frame's rows of finished runs, all metrics, with the further columns `row` and `tested`, the tested
            suite. Models tested on other data come with their results on their own data, and with zero-shot CLIP.
    """

    suite: str
    protocol: str
    split: str
    backbone: str
    frame: pd.DataFrame

    @property
    def title(self) -> str:
        parts = [PROTOCOLS.get(self.protocol, self.protocol), self.backbone]
        parts += [f"{self.split} split"] if self.split not in ("test", "") else []
        return f"{self.suite or 'unknown suite'}: {', '.join(filter(None, parts))}"

    def of(self, metric: str, mean: bool) -> pd.DataFrame:
        """Values of a metric: means over tasks, or those of the tasks."""
        chosen = self.frame[(self.frame["metric"] == metric) & self.frame["value"].notna()]
        return chosen[chosen["task_id"].isna() == mean]

    @property
    def rows(self) -> list[str]:
        """Labels of the rows: zero-shot ones first."""
        shots = self.frame.groupby("row")["shots"].max()
        return sorted(shots.index, key=lambda row: (pd.notna(shots[row]), natural(row)))

    @property
    def zero_shot(self) -> list[str]:
        shots = self.frame.groupby("row")["shots"].max()
        return [row for row in self.rows if pd.isna(shots[row])]

    @property
    def marked(self) -> set[str]:
        """Rows whose settings were chosen on test images."""
        return set(self.frame.loc[self.frame["chosen_on"] == "test", "row"])

    def baseline(self, wanted: str = "") -> str:
        """The row that others are compared with: `wanted`, else zero-shot, else CoOp or its kind; "" without one."""
        rows = self.rows
        if wanted:
            same = [row for row in rows if row.casefold() == wanted.casefold()]
            method = self.frame.drop_duplicates("row").set_index("row")["method"]
            return next(iter(same or [row for row in rows if str(method[row]).casefold() == wanted.casefold()]), "")
        known = [row for row in self.zero_shot if row in ZERO_SHOT]
        return next(iter(known or self.zero_shot or [row for row in rows if row.startswith("CoOp")]), "")


def natural(text: str) -> list:
    """A key that sorts numbers within texts by their value."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"(\d+)", text) if part]


def groups(frame: pd.DataFrame) -> list[Group]:
    """The groups of the finished runs in a frame, by suite."""
    done = with_rows(frame[frame["metric"].notna()])
    elsewhere = done["protocol"].isin(SHIFTS)
    done = done.assign(tested=done["suite"], suite=done["source_suite"].where(elsewhere, done["suite"]))
    for key in KEYS[1:]:
        done[key] = done[key].fillna("")
    found = [Group(*key, frame=part) for key, part in done.groupby(KEYS, sort=False)]
    found = [_with_source(group, done) if group.protocol in SHIFTS else group for group in found]
    found = [group for group in found if not _shown_elsewhere(group, found)]
    return sorted(
        found,
        key=lambda group: (
            natural(group.suite),
            list(PROTOCOLS).index(group.protocol) if group.protocol in PROTOCOLS else len(PROTOCOLS),
            group.backbone,
            group.split,
        ),
    )


def _with_source(group: Group, done: pd.DataFrame) -> Group:
    """The group with the results of its rows on their own data, and with zero-shot CLIP on all data of the group."""
    same = (done["protocol"] == "few-shot") & (done["split"] == group.split) & (done["backbone"] == group.backbone)
    own = (done["suite"] == group.suite) & done["row"].isin(group.rows)
    zero_shot = done["shots"].isna() & done["suite"].isin([group.suite, *group.frame["tested"]])
    return replace(group, frame=pd.concat([group.frame, done[same & (own | zero_shot)]], ignore_index=True))


def _shown_elsewhere(group: Group, others: Sequence[Group]) -> bool:
    """Whether a group has only zero-shot CLIP on data that models trained on other data are tested on."""
    place = {"split": group.split, "backbone": group.backbone}
    return set(group.rows) == set(group.zero_shot) and any(
        other.protocol in SHIFTS
        and place == {"split": other.split, "backbone": other.backbone}
        and group.suite in set(other.frame["tested"]) - {other.suite}
        for other in others
    )


def with_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column `row`: the method, with what tells its variants apart where there are several."""
    frame = frame.copy()
    frame["method"] = frame["method"].fillna(frame["trainer"]).fillna("").replace("", pd.NA).fillna(frame["experiment"])
    frame["variant"] = frame["experiment"].map({text: _variant(text) for text in frame["experiment"].unique()})
    frame["row"] = frame["method"]
    for (method, *_), part in frame.groupby(["method", *KEYS], dropna=False, sort=False):
        variants = list(part["variant"].unique())
        if part.groupby(["shots", "classes", "source_suite"], dropna=False)["variant"].nunique().max() > 1:
            names = dict(zip(variants, _differences(variants), strict=True))
            texts = {each: f"{method} ({name})" if name else method for each, name in names.items()}
            frame.loc[part.index, "row"] = part["variant"].map(texts)
    return frame


def _variant(experiment: str) -> str:
    """An experiment's label without the parts that differ between numbers of images, halves of classes and targets."""
    parts = PurePath(re.sub(r"\d+shots?", "*shots", experiment)).parts
    if "xd" in parts:
        parts = parts[: parts.index("xd")]
    return "/".join(part for part in parts if part not in ("base", "new"))


def _differences(variants: Sequence[str]) -> list[str]:
    """What is special about each text: its words that not all have, or the whole text where they do not tell."""
    words = [re.split(r"[/_]", variant) for variant in variants]
    shared = set.intersection(*map(set, words))
    names = [" ".join(word for word in each if word not in shared) for each in words]
    return names if len(set(names)) == len(names) else list(variants)


def check_baseline(groups: Sequence[Group], wanted: str) -> None:
    """Raises UserError if no group has the wanted baseline."""
    if wanted and groups and not any(group.baseline(wanted) for group in groups):
        known = sorted({row for group in groups for row in group.rows}, key=natural)
        raise UserError(f"--baseline {wanted} is not a row of these runs; expected one of: {', '.join(known)}")


def shots_title(shots) -> str:
    """Title of a column for a number of images per class; -1 stands for all, NA for none."""
    return "zero-shot" if pd.isna(shots) else "all" if shots < 0 else str(int(shots))


def shots_order(shots) -> tuple[bool, float]:
    """Sorting key of numbers of images per class: none first, all last."""
    return pd.notna(shots), 0 if pd.isna(shots) else float("inf") if shots < 0 else float(shots)
