"""The small files that the layouts are made of."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from PIL import Image

KINDS = {".png": "PNG", ".tif": "TIFF"}  # everything else is JPEG


@lru_cache(maxsize=4096)
def picture(number: int, kind: str = "JPEG") -> bytes:
    """An image of 8 x 8 pixels in colour `number`."""
    red, green, blue = (int(255 * v) for v in colorsys.hsv_to_rgb(number * 0.381966 % 1, 0.9, 0.5 + number % 3 / 4))
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (red, green, blue)).save(file, kind)
    return file.getvalue()


def put(path: Path, number: int) -> None:
    """Save an image in colour `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(number, KINDS.get(path.suffix, "JPEG")))


def write_lines(path: Path, lines: list[str]) -> None:
    """Save a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def folders(base: Path, names: Iterable[str], images: int, pattern: str = "image_{:04d}.jpg") -> None:
    """`images` files in each class folder of `base`; the pattern may have {name} and the number of the image."""
    for label, name in enumerate(sorted(names)):
        (base / name).mkdir(parents=True)
        for i in range(1, images + 1):
            file = pattern.format(i, name=name)
            (base / name / file).write_bytes(picture(label, KINDS.get(file[file.rfind(".") :], "JPEG")))


def words(count: int, style: Callable[[str], str] = str) -> list[str]:
    """`count` different made-up class names of two words."""
    first, second = ("amber", "birch", "coral", "delta"), ("fern", "gate", "hill", "iris")
    return [style(f"{first[i % 4]}_{second[i // 4 % 4]}_{chr(97 + i // 26)}{chr(97 + i % 26)}") for i in range(count)]
