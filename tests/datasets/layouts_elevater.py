"""Tiny versions of ELEVATER's sets in the layout that the download command makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from datasets.known.elevater import ELEVATER20
from datasets.table import ROWS
from tests.datasets.small_files import folders, put, words, write_lines


def webdataset(name: str, root: Path, images: int) -> None:
    row = ROWS[name]
    folder, lines, number = root / row.folder, [], 0
    for part in ("train", "test"):
        for label in range(row.classes):
            for _ in range(max(images // 2, 1)):
                number += 1
                put(folder / f"images/{part}/s{number:07d}.png", label)
                more = f" {(label + 1) % row.classes}" if row.tagging and label % 2 else ""
                lines.append(f"{part}/s{number:07d}.png\t{label}{more}")
    write_lines(folder / "images/labels.tsv", lines)
    write_lines(folder / "classnames.txt", [name.replace("_", " ") for name in words(row.classes)])
    write_lines(folder / "zeroshot_classification_templates.txt", ["a photo of a {c}.", "a bad photo of a {c}."])


def official_food101(root: Path, images: int) -> None:
    base, names = root / "food-101", words(101)
    if not (base / "images").exists():
        folders(base / "images", names, images, "{:04d}.jpg")
    for part, rest in (("train", 0), ("test", 1)):
        found = sorted(path for path in (base / "images").rglob("*.jpg"))
        lines = [f"{path.parent.name}/{path.stem}" for i, path in enumerate(found) if i % 2 == rest]
        write_lines(base / f"meta/{part}.txt", lines)


def hateful_memes(root: Path, images: int) -> None:
    number = 0
    for file in ("train", "dev_seen"):
        lines = []
        for i in range(2 * images):
            number += 1
            put(root / f"hateful_memes/img/{number:05d}.png", i % 2)
            lines.append(json.dumps({"id": number, "img": f"img/{number:05d}.png", "label": i % 2, "text": "a"}))
        write_lines(root / f"hateful_memes/{file}.jsonl", lines)


ELEVATER_MAKERS: dict[str, Callable[[Path, int], None]] = {
    **{name: partial(webdataset, name) for name in ELEVATER20},
    "OfficialFood101": official_food101,
    "HatefulMemes": hateful_memes,
}
