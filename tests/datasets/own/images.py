"""Small pictures in every form of own data. All are copies of one picture, because only their names matter."""

import json
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image


@cache
def picture() -> bytes:
    stream = BytesIO()
    Image.new("RGB", (8, 8), (90, 120, 150)).save(stream, "PNG")
    return stream.getvalue()


def draw(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture())


def class_folders(folder: Path, classes=("ant", "bee", "cow"), count: int = 10) -> Path:
    draw(folder, *(f"{name}/{i}.png" for name in classes for i in range(count)))
    return folder


def table(file: Path, rows, columns="path,label", draws: bool = True, mark: str = ",") -> Path:
    """A table of rows, and the images in their first column."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [columns.replace(",", mark), *(mark.join(row) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if draws:
        draw(file.parent, *(row[0] for row in rows if row[0]))
    return file


def jsonl(file: Path, rows) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"file_name": name, "label": label}) + "\n" for name, label in rows))
    draw(file.parent, *(name for name, _ in rows))
    return file
