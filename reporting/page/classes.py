"""Per-class accuracy and confused classes of one row, from what its runs keep of their tests."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dassl.runs.record import CONFUSION, read_config
from reporting.page.blocks import Cell, Row, Table

PREDICTIONS = "predictions.csv"
MOST_SEEDS, MOST_PAIRS, MOST_CLASSES, MOST_TASKS = 3, 12, 16, 12
THUMBNAIL, MOST_IMAGES = 56, 24  # pixels, and images per section


def confusion(folders: Iterable[str]) -> pd.DataFrame:
    """Counts over all runs: columns task, label, predicted, images. Empty where nothing was kept."""
    parts = [part for part in map(_of_run, folders) if part is not None]
    if not parts:
        return pd.DataFrame(columns=["task", "label", "predicted", "images"])
    return pd.concat(parts).groupby(["task", "label", "predicted"], sort=False, as_index=False)["images"].sum()


def _of_run(folder: str) -> pd.DataFrame | None:
    predictions = read_predictions(folder)
    if predictions is not None:
        return predictions.groupby(["task", "label", "predicted"], sort=False).size().reset_index(name="images")
    counts = _read(Path(folder) / CONFUSION, ["task", "class", "predicted", "images"])
    return None if counts is None else counts.rename(columns={"class": "label"}).astype({"images": int})


def read_predictions(folder: str) -> pd.DataFrame | None:
    """Columns path, task, label, predicted of a run's predictions; None where it kept none."""
    found = _read(Path(folder) / PREDICTIONS, ["path", "task", "label"])
    if found is None or len(found.columns) < 4:
        return None
    first = next(column for column in found.columns if column not in ("path", "task", "label"))
    return found.rename(columns={first: "predicted"})[["path", "task", "label", "predicted"]]


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError):  # among them a damaged file
        return None
    return table if len(table) and set(columns) <= set(table.columns) else None


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


def thumbnails(folders: Iterable[str], pairs: pd.DataFrame) -> list[dict]:
    """Small images of confused pairs that are still on this disk: {"source", "label", "predicted", "path"}."""
    found, seen = [], set()
    wanted = {(pair["task"], pair["label"], pair["predicted"]) for pair in pairs.to_dict("records")}
    for folder in folders:
        predictions = read_predictions(folder)
        if predictions is None:
            continue
        root = _root(folder)
        for line in predictions.to_dict("records"):
            key = (line["task"], line["label"], line["predicted"])
            if len(found) >= MOST_IMAGES:
                return found
            if key not in wanted or line["path"] in seen or sum(each["key"] == key for each in found) >= 2:
                continue
            seen.add(line["path"])
            if source := _thumbnail(root / line["path"]):
                found.append({**line, "key": key, "source": source})
    return found


def _root(folder: str) -> Path:
    try:
        dataset = read_config(folder).get("DATASET")
    except ValueError:
        dataset = None
    root = dataset.get("ROOT") if isinstance(dataset, dict) else ""
    return Path(os.path.expanduser(str(root or "")))


def _thumbnail(path: Path) -> str:
    """A data URL of a small JPEG; "" where the file is not there or is not an image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=60)
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
