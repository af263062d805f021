"""Per-class accuracy and confused classes of one row, from what its runs keep of their tests."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from dassl.runs.record import entries, read_config
from reporting.page.blocks import Cell, Row, Table

PREDICTIONS, COLUMNS = "predictions.csv", ["path", "task", "label", "class1"]
MOST_SEEDS, MOST_PAIRS, MOST_CLASSES, MOST_TASKS = 3, 12, 16, 12
THUMBNAIL, PER_PAIR, MOST_IMAGES = 56, 2, 24  # pixels; images per pair and section
MOST_FOLDERS = 500  # where images are looked for


def read_predictions(folders: Iterable[str], names: Mapping[str, str]) -> pd.DataFrame:
    """The predictions that runs kept of their tests: columns folder, path, task, label, predicted. Empty without any.

    Args:
        names: {key of a task: name to show}.
    """
    parts = []
    for folder in folders:
        try:
            table = pd.read_csv(Path(folder) / PREDICTIONS, usecols=COLUMNS, dtype=str, keep_default_na=False)
        except (OSError, ValueError):  # not kept, or a damaged file
            continue
        parts.append(table.assign(folder=folder, task=table["task"].map(lambda key: names.get(key, key))))
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["folder", *COLUMNS])
    return found.rename(columns={"class1": "predicted"})


def confusion(predictions: pd.DataFrame) -> pd.DataFrame:
    """Counts over all runs: columns task, label, predicted, images."""
    return predictions.groupby(["task", "label", "predicted"], sort=False).size().reset_index(name="images")


def accuracies(counts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{task: frame indexed by class with the column mean}, the classes with the lowest accuracy (%), lowest first."""
    found = {}
    for task, matrix in matrices(counts).items():
        right = pd.DataFrame({"mean": np.diag(matrix)}, index=matrix.index).dropna()
        found[task] = right.sort_values("mean", kind="stable").head(MOST_CLASSES)
    return found


def matrices(counts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{task: confusion matrix (C, C)}, per cent of the images of the true class (index); NaN for classes without."""
    found = {}
    for task, part in counts.groupby("task", sort=False):
        if len(found) == MOST_TASKS:
            break
        names = list(dict.fromkeys([*part["label"], *part["predicted"]]))
        matrix = part.pivot_table("images", "label", "predicted", "sum", 0).reindex(names, columns=names, fill_value=0)
        found[task] = 100 * matrix.div(matrix.sum(axis=1).replace(0, np.nan), axis=0)
    return found


def confused(counts: pd.DataFrame) -> pd.DataFrame:
    """The most frequent mistakes: columns task, label, predicted, images, share (% of the images of the class)."""
    totals = counts.groupby(["task", "label"])["images"].transform("sum")
    wrong = counts.assign(share=100 * counts["images"] / totals)[counts["label"] != counts["predicted"]]
    return (
        wrong.sort_values(["images", "share"], ascending=False, kind="stable").head(MOST_PAIRS).reset_index(drop=True)
    )


def confused_table(name: str, caption: str, pairs: pd.DataFrame) -> Table:
    rows = [
        Row(
            pair["label"],
            [
                Cell(pair["predicted"]),
                Cell(pair["task"]),
                Cell(f"{pair['images']:,}", value=pair["images"]),
                Cell(f"{pair['share']:.1f}", value=pair["share"]),
            ],
        )
        for pair in pairs.to_dict("records")
    ]
    columns = ["predicted as", "task", "images", "% of the class"]
    return Table(name, caption, "class", columns, rows, pairs, texts=2)


def thumbnails(predictions: pd.DataFrame, pairs: pd.DataFrame) -> list[dict]:
    """Small images of confused pairs that are still on this disk: "source" (a data URL), "path", "label", "predicted".

    At most PER_PAIR images of a pair and MOST_IMAGES in all.
    """
    keys = ["task", "label", "predicted"]
    wrong = pairs[keys].merge(predictions, on=keys).drop_duplicates([*keys, "path"])
    wrong = wrong.groupby(keys, sort=False).head(PER_PAIR).head(MOST_IMAGES)
    roots = {folder: _roots(folder) for folder in wrong["folder"].unique()}
    found = []
    for line in wrong.to_dict("records"):
        tried = roots[line["folder"]]
        for number, root in enumerate(tried):
            if source := _thumbnail(os.path.join(root, os.path.expanduser(line["path"]))):
                found.append({**line, "source": source})
                tried.insert(0, tried.pop(number))  # most likely that of the next image, too
                break
    return found


def _roots(folder: str) -> list[str]:
    """Where the images of a run may be: its data folder, the folders of datasets in it, and the embedded suite.

    Paths in predictions.csv begin below the folder of the images of a dataset, which is not recorded.
    """
    from datasets.icon13.source import FOLDER

    try:
        given = entries(read_config(folder), "DATASET").get("ROOT")
    except ValueError:
        given = ""
    places = []
    if given and isinstance(given, str):
        root = Path(os.path.expanduser(given))
        places = [root, *(path for below in ("*/", "*/*/") for path in islice(sorted(root.glob(below)), MOST_FOLDERS))]
    return [*map(str, places), str(FOLDER / "images.zip")]


def _thumbnail(path: str) -> str:
    """A data URL of a small JPEG; "" where the file is not there or is not an image."""
    from dassl.data.images import read_image

    try:
        image = read_image(path)
    except (OSError, ValueError):
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
