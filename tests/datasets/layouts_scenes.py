"""Layouts of the remote-sensing scenes: what lies in the published archives, each unpacked in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from datasets.table import ROWS
from tests.datasets.small_files import folders

# RSI-CB sorts its classes into these; which class lies where does not matter to the reader.
LAND = ("agricultural land", "construction land", "other land", "transportation", "water area", "woodland")


def classes(name: str) -> list[str]:
    return sorted(ROWS[name].rename)


def aid(root: Path, images: int) -> None:
    for name in classes("AID"):
        folders(root / "aid/AID", [name], images, name.lower() + "_{}.jpg")


def resisc45(root: Path, images: int) -> None:
    folders(root / "resisc45/NWPU-RESISC45", classes("RESISC45"), images, "{name}_{:03d}.jpg")


def ucmerced(root: Path, images: int) -> None:
    folders(root / "ucmerced/UCMerced_LandUse/Images", classes("UCMerced"), images, "{name}{:02d}.tif")


def whu_rs19(root: Path, images: int) -> None:
    folders(root / "whu_rs19/WHU-RS19", classes("WHURS19"), images, "{name}_{:02d}.jpg")


def rsscn7(root: Path, images: int) -> None:
    for name in classes("RSSCN7"):
        folders(root / "rsscn7/RSSCN7", [name], images, name[0] + "{:03d}.jpg")


def _rsicb(base: Path, names: list[str], images: int) -> None:
    for i, name in enumerate(names):
        folders(base / LAND[i % len(LAND)], [name], images, "{name}({}).tif")


def rsicb128(root: Path, images: int) -> None:
    _rsicb(root / "rsicb128/RSI-CB128", classes("RSICB128"), images)


def rsicb256(root: Path, images: int) -> None:
    _rsicb(root / "rsicb256/RSI-CB256", classes("RSICB256"), images)


def optimal31(root: Path, images: int) -> None:
    folders(root / "optimal31/Optimal31/Images", classes("OPTIMAL31"), images, "{name} ({}).jpg")


def patternnet(root: Path, images: int) -> None:
    folders(root / "patternnet/PatternNet/images", classes("PatternNet"), images, "{name}{:03d}.jpg")


SCENE_MAKERS = {
    "AID": aid,
    "RESISC45": resisc45,
    "UCMerced": ucmerced,
    "WHURS19": whu_rs19,
    "RSSCN7": rsscn7,
    "RSICB128": rsicb128,
    "RSICB256": rsicb256,
    "OPTIMAL31": optimal31,
    "PatternNet": patternnet,
}
