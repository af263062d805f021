"""Numbers of papers, for comparison with measured ones.

`reporting/tables/NAME.csv` contain the printed numbers in per cent: a mean, or mean ± standard deviation over seeds.
The columns of `upt1` and `upt2` are datasets, under their names in this project; the columns of `softcpt` are numbers
of images per class.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from reporting.experiments import Experiment, Stat

TABLES = Path(__file__).parent / "tables"
SOURCES = {
    "softcpt": "Ding et al., Prompt Tuning with Soft Context Sharing for Vision-Language Models: RN50",
    "upt1": "Zang et al., Unified Vision and Language Prompt Learning, Table 1: ViT-B/16, 16 images per class",
    "upt2": "Zang et al., Unified Vision and Language Prompt Learning, Table 2: ViT-B/16, 16 images per class",
}
AVERAGE = "average"
NAMES = {  # label in this project: name in the papers
    "ZeroshotCLIP": "ZS-CLIP",
    "LinearProbe": "LP-CLIP",
    "Joint": "Joint Training",
    **{name: f"SoftCPT-{name}" for name in ("NATA", "NATS")},  # labels of earlier versions
    "SoftCPT": "SoftCPT-NATA",
}
OWN_CHOICE = {"rs8"}  # suites whose datasets the paper does not publish, see docs/datasets.md


@dataclass(frozen=True)
class Published:
    """A table of a paper. rows: suite (in small letters and digits) -> method -> column -> number."""

    source: str
    rows: dict[str, dict[str, dict[str, Stat]]]

    def row(self, experiment: Experiment) -> dict[str, Stat]:
        """The row with the experiment's label, or else of its method; {} if there is none.

        It is looked for in the experiment's suite, or in the only suite of the table.
        """
        suite = suite_of(experiment)
        methods = self.rows.get(suite) or (next(iter(self.rows.values())) if len(self.rows) == 1 else {})
        labels = [experiment.label, *(str(run.settings.get("method")) for run in experiment.finished[:1])]
        return next((methods[name] for name in (NAMES.get(label, label) for label in labels) if name in methods), {})

    def overall(self, experiment: Experiment) -> Stat | None:
        """The number to compare with an overall value: for the images per class, for the only task, or the average."""
        row, shots = self.row(experiment), {run.settings.get("shots") for run in experiment.finished}
        if len(tasks := experiment.tasks()) == 1 and tasks[0].key in row:
            return row[tasks[0].key]
        if any(column.isdigit() for column in row):
            return row.get(str(shots.pop())) if len(shots) == 1 else None
        return row.get(AVERAGE)

    def same_data(self, experiment: Experiment) -> bool:
        """Whether the table contains the experiment's suite with the same datasets."""
        return suite_of(experiment) in self.rows.keys() - OWN_CHOICE


def suite_of(experiment: Experiment) -> str:
    """Suite of an experiment; "" if it covers only some tasks or classes."""
    for run in experiment.finished:
        whole = {"protocol": ("few-shot", "all"), "subsample_tasks": ("all", "each by itself")}
        if all(run.settings.get(name) in (None, *values) for name, values in whole.items()):
            return _plain(str(run.settings.get("suite")))
    return ""


def _plain(suite: str) -> str:
    return re.sub("[^a-z0-9]", "", suite.lower())


def load(name: str) -> Published:
    """The table called `name`, a key of SOURCES."""
    with open(TABLES / f"{name}.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    rows: dict[str, dict[str, dict[str, Stat]]] = {}
    for line in lines:
        suite, method = _plain(line.pop("suite")), line.pop("method")
        rows.setdefault(suite, {})[method] = {column: _number(text) for column, text in line.items() if text}
    return Published(SOURCES[name], rows)


def _number(text: str) -> Stat:
    mean, _, spread = text.partition("±")
    return Stat(float(mean), float(spread) if spread else None, 1)
