"""The tables of README.md and docs/ that follow from the code, or from recorded runs.

`python -m tests.docs.tables` writes them anew into the pages.

A page holds each between the lines `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

import datasets  # noqa: F401
import trainers
from dassl.config import get_cfg_default
from dassl.config import load as load_config
from dassl.optim import build_lr_scheduler, build_optimizer
from datasets.doctor.report import TREES
from datasets.icon13.source import ICON13, read_index
from datasets.icon13.styles import LINE_AND_SOLID, STYLED
from datasets.splits import RULES
from datasets.suites import ICON5
from datasets.table import ELEVATER20, FASHION20, GENERAL10, IMAGENET, PLANT6, ROWS, RS8, Row
from reporting.published_checks import checks, disagreements
from reporting.published_tables import COSTS, SOURCES, load
from reporting.published_text import averages, contradictions_table, disagreements_table, table_of
from tests.datasets.icon13.vendors import COLOUR_VENDORS
from tests.docs.measured import (
    demo_by_shots,
    demo_by_task,
    demo_differences,
    sharing,
    sharing_of_icon13,
    softcpt_rows,
    style_rows,
    upt_rows,
)
from tests.docs.method_tables import methods, prompted, table, variants

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
WIDTH = 120


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


# ---- datasets ----------------------------------------------------------------------------------------------------


def suite_table(rows: tuple[Row, ...]) -> list[str]:
    """What is asked and how it is scored."""
    head = ["task", "dataset", "classes", "metric", "split rule", "folder below the root"]
    return table(
        head,
        [
            [_tasks(number, row), row.name, row.classes, f"`{row.metric}`", row.rule, f"`{row.folder}/`"]
            for number, row in enumerate(rows)
        ],
    )


def _tasks(number: int, row: Row) -> str:
    """The number of a task, or the numbers of a dataset that is a suite on its own."""
    return f"0 to {len(row.task_keys) - 1}" if row.task_keys else str(number)


def prompt_table(rows: tuple[Row, ...]) -> list[str]:
    """What the model is told."""
    return table(
        ["dataset", "task name", "zero-shot template"], [[r.name, r.task_name, f"`{r.template}`"] for r in rows]
    )


def folder_tree(rows: tuple[Row, ...]) -> list[str]:
    """The folders and files of each dataset below the data root, with notes in a column of their own."""
    entries: list[tuple[int, str, str]] = []  # depth, name, note
    for row in rows:
        inside = TREES.get(row.read, "<class>/*")
        entries.append((1, f"{row.folder}/", row.name))
        for folder in row.image_folders or (row.images,):
            entries.append((2, f"{folder}/{inside}", "images"))
        for name in row.needs:
            entries.append((2, name, "needed without a split file" if row.split_files else "needed"))
        for name in row.split_files:
            entries.append((2, name, f"optional, {'SoftCPT' if 'split_dk' in name else 'CoOp'}'s split"))
    width = max(4 * depth + len(name) for depth, name, _ in entries) + 3
    lines = [("    " * depth + name).ljust(width) + note for depth, name, note in entries]
    return ["```", "DATA/", *(line.rstrip() for line in lines), "```"]


def source_list(rows: tuple[Row, ...]) -> list[str]:
    """Where each dataset comes from, and what is changed in it."""
    lines = []
    for row in rows:
        parts = ["left out: " + ", ".join(f"`{name}`" for name in row.skip)] if row.skip else []
        parts += [f"{len(row.rename)} class names are changed"] if row.rename else []
        lines += wrapped(f"- **{row.name}**: " + "; ".join([*parts, f"source: {row.source}"]))
    return lines


def fashion_tasks() -> list[str]:
    row = FASHION20[0]
    return table(
        ["task", "key", "zero-shot template"],
        [[i, key, f"`{text}`"] for i, (key, text) in enumerate(zip(row.task_keys, row.templates, strict=True))],
    )


def rules() -> list[str]:
    return table(["rule", "division"], [[name, text] for name, text in RULES.items()])


def icon13_counts() -> list[tuple]:
    """(number, key, name, classes, train, val, test) of each task."""
    source = ICON13.load("")
    counts = [Counter(item.task for item in getattr(source, part)) for part in ("train", "val", "test")]
    return [
        (t, task.key, task.name, len(task.classnames), *(count[t] for count in counts))
        for t, task in enumerate(source.tasks)
    ]


def icon13_tasks() -> list[str]:
    rows = icon13_counts()
    total = ["", "", "all", *(f"{sum(column):,}" for column in list(zip(*rows, strict=True))[3:])]
    return table(["task", "key", "task name", "classes", "train", "val", "test"], [*map(list, rows), total])


def icon13_pools() -> list[str]:
    """Training images at each number of shots."""
    pools = Counter((item.task, item.label) for item in ICON13.load("").train)
    return table(
        ["shots", "classes with that many", "training images"],
        [
            [k, sum(n >= k for n in pools.values()), f"{sum(min(n, k) for n in pools.values()):,}"]
            for k in (1, 2, 4, 8, 16)
        ],
    )


def icon13_vendors() -> list[str]:
    index = read_index()
    counts = Counter(image["domain"] for image in index["images"])
    rows = []
    for name in sorted(counts):
        domain = index["domains"][name]
        kind = "colour" if name in COLOUR_VENDORS else "lines"
        rows.append([name, kind, counts[name], domain["author"]["name"], domain["license"]])
    return table(["vendor", "kind", "images", "author", "licence"], rows)


# ---- learning rate -----------------------------------------------------------------------------------------------

EPOCHS = (1, 2, 10, 17, 18, 25, 34, 35, 42, 50)


def learning_rates(steps: int) -> list[float]:
    """Rate of each of the 50 epochs of configs/trainers/MTCoOp/rn50_ep50.yaml, the schedule stepping `steps` times."""
    cfg = get_cfg_default()
    load_config(cfg, [REPO / "configs/trainers/MTCoOp/rn50_ep50.yaml"])
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], cfg.OPTIM)
    scheduler = build_lr_scheduler(optimizer, cfg.OPTIM)
    found = []
    for _ in range(cfg.OPTIM.MAX_EPOCH):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for _ in range(steps):
            scheduler.step()
    return found


def rate_table() -> list[str]:
    rates = {1: learning_rates(1), 3: learning_rates(3), 4: learning_rates(4)}
    head = ["steps per epoch", *(str(epoch) for epoch in EPOCHS)]
    return table(head, [[n, *(f"{1000 * rate[e - 1]:.2f}" for e in EPOCHS)] for n, rate in rates.items()])


# ---- styles -------------------------------------------------------------------------------------------------------


def style_table() -> list[str]:
    """The source and the targets of drawing styles, in both editions."""
    rows = []
    for source in STYLED.values():
        loaded, style = source.load(""), source.style
        vendors = ", ".join(style.vendors)
        if style.name in ("Line", "Solid"):
            vendors += ", part of " + ", ".join(LINE_AND_SOLID)
        sizes = []
        for keys in (ICON5, source.task_keys):
            chosen = {number for number, task in enumerate(loaded.tasks) if task.key in keys}
            sizes.append(sum(len(loaded.tasks[number].classnames) for number in chosen))
            sizes.append(sum(item.task in chosen for item in loaded.test))
        rows.append([style.name, style.looks, vendors, *(f"{size:,}" for size in sizes)])
    return table(
        ["style", "drawings", "vendors", "Icon-5 classes", "tests", "Icon-13 classes", "tests"],
        rows,
    )


# ---- what is downloaded ------------------------------------------------------------------------------------------


def download_table() -> list[str]:
    rows = []
    for row in ROWS.values():
        ways: list[list[str]] = [[], [], [], []]
        if row.hub:
            ways[0].append(f"`{row.hub.repos[0]}`")
        for file in row.files:
            if file.name not in row.split_files:
                ways[1 if file.urls else 2 if file.drive else 3].append(f"`{file.name}`")
        if all(file.optional for file in row.files) and not row.hub:
            ways[3].append("everything")
        rows.append([row.name, *(", ".join(way) for way in ways)])
    return table(["dataset", "hub", "published links", "Google Drive", "by hand"], rows)


# ---- published numbers ------------------------------------------------------------------------------------------


def published_suite(suite: str) -> list[str]:
    """SoftCPT's rows of one suite, with the best number of each column in bold."""
    figures = load("softcpt")
    figures = figures[(figures["dataset"] == suite) & ~figures["metric"].isin(COSTS)]
    head, rows, names = table_of(figures, "softcpt")
    columns = [number for number in range(names, len(head)) if head[number] != "0"]
    cells = [[row[0], *(row[number].removesuffix(" ×") for number in columns)] for row in rows]
    cells[0][-1] = rows[0][head.index("0")].removesuffix(" ×")  # zero-shot CLIP: the same for any number of images
    best = [
        max(column, key=lambda text: float(text.split()[0] if text else 0))
        for column in zip(*(row[1:] for row in cells), strict=True)
    ]
    lines = []
    for method, *numbers in cells:
        marked = [f"**{text}**" if text == top else text for text, top in zip(numbers, best, strict=True)]
        lines.append([method.replace("*", r"\*"), *marked])
    return table(["method", *(head[number].replace("mean", "average") for number in columns)], lines)


def published_costs() -> list[str]:
    """Parameters and minutes of training in SoftCPT's paper."""
    figures = load("softcpt")
    costs = figures[figures["metric"].isin(COSTS)]
    values = {(row.method, row.metric, row.dataset): row.value for row in costs.itertuples()}
    lines = []
    for method in costs["method"].unique():
        minutes = [f"{values[method, 'train_minutes', suite]:.2f}" for suite in PUBLISHED.values()]
        lines.append([method.replace("*", r"\*"), f"{values[method, 'parameters', 'General10']:,.0f}", *minutes])
    return table(["method", "parameters on General-10", *PUBLISHED], lines)


def published_overview(name: str) -> list[str]:
    """The averages of one of the tables of published figures."""
    head, rows, _ = table_of(averages(load()), name)
    return _markdown(head, rows)


def published_checks() -> list[str]:
    """How many printed averages follow from the figures below them."""
    found = checks().groupby("kind", sort=False)
    rows = [
        [kind, len(group), group["equal"].sum(), (group["follows"] & ~group["equal"]).sum(), (~group["follows"]).sum()]
        for kind, group in found
    ]
    return table(["average", "printed", "equal to the last digit", "within rounding", "contradictions"], rows)


def published_contradictions() -> list[str]:
    found = checks()
    head, rows, _ = contradictions_table(found[~found["follows"]])
    return _markdown(head, rows)


def published_disagreements() -> list[str]:
    head, rows, _ = disagreements_table(disagreements())
    return _markdown(head, rows)


def published_sources() -> list[str]:
    figures = load()
    figures = figures[~figures["computed"]]
    rows = [[f"`{key}`", title, f"{(figures['source'] == key).sum():,}"] for key, title in SOURCES.items()]
    return table(["key", "source", "figures"], rows)


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    return table(head, [[str(cell).replace("*", r"\*").replace("~", r"\~") for cell in row] for row in rows])


# ---- pages -------------------------------------------------------------------------------------------------------

PUBLISHED = {"General-10": "General10", "Plant-6": "Plant6", "RS-8": "RS8", "Fashion-20": "Fashion20"}
SUITES = {
    "General-10": GENERAL10,
    "Plant-6": PLANT6,
    "Fashion-20": FASHION20,
    "RS-8": tuple(ROWS[name] for name in RS8),
    "ImageNet": IMAGENET,
    "ELEVATER": tuple(ROWS[name] for name in ELEVATER20),
}
OTHERS = tuple(row for row in ROWS.values() if not any(row in rows for rows in SUITES.values()))
SUITES["other datasets"] = OTHERS

TABLES: dict[str, Callable[[], list[str]]] = {
    "rules": rules,
    **{
        f"{name} {what.__name__}": lambda what=what, rows=rows: what(rows)
        for name, rows in SUITES.items()
        for what in (suite_table, prompt_table, folder_tree, source_list)
    },
    "Fashion-20 tasks": fashion_tasks,
    "Icon-13 tasks": icon13_tasks,
    "Icon-13 pools": icon13_pools,
    "Icon-13 vendors": icon13_vendors,
    "Icon-13 styles": style_table,
    "learning rates": rate_table,
    "methods": methods,
    "method variants": variants,
    "methods with visual prompts": prompted,
    "downloads": download_table,
    **{f"published {name}": lambda suite=suite: published_suite(suite) for name, suite in PUBLISHED.items()},
    **{
        f"published {name.replace('_', ' ')}": lambda name=name: published_overview(name)
        for name in ("few_shot", "base_to_new", "domain_shift", "cross_dataset")
    },
    "published costs": published_costs,
    "published checks": published_checks,
    "published contradictions": published_contradictions,
    "published disagreements": published_disagreements,
    "published sources": published_sources,
    "demo by shots": demo_by_shots,
    "demo differences": demo_differences,
    "demo by task": demo_by_task,
    "embedded softcpt": softcpt_rows,
    "embedded upt": upt_rows,
    "embedded styles": style_rows,
    "sharing on Icon-5": sharing,
    "sharing on Icon-13": sharing_of_icon13,
}


def renewed(text: str) -> str:
    """The text of a page with all tables updated."""

    def make(match: re.Match) -> str:
        lines = "\n".join(TABLES[match[1]]())
        return f"<!-- table: {match[1]} -->\n\n{lines}\n\n<!-- end -->"

    return re.sub(r"<!-- table: (.+?) -->\n.*?<!-- end -->", make, text, flags=re.DOTALL)


def main() -> int:
    assert trainers
    for page in (REPO / "README.md", *sorted(DOCS.glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        page.write_text(renewed(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
