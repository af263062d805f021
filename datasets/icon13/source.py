"""Icon-13, the suite that ships with the project: 13 tasks, 443 classes, 5,467 icons and emoji of 14 vendors.

`icon13/images.zip` is read in place. `icon13/index.json` contains tasks, classes, the split, and the licence and author
of every vendor ("domain"), from which `icon13/NOTICE` is made (`datasets.icon13.notice`).

The index defines the test split, and a training pool of 3 to 9 images per class. The validation split takes one image
from every pool of at least `MIN_POOL` images: the last drawing whose glyph has no other drawing in any training pool.
(A vendor family draws one glyph several times: Noto in two versions, Fluent in several styles.) Thus no validation
image has a near-copy in training. Pools without a candidate give no validation image.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from dassl.data.tasks import Task
from datasets.source import Item, Source

FOLDER = Path(__file__).resolve().parent
MIN_POOL = 5
TASK_KEYS = (
    "mammals", "wildlife", "produce", "dishes", "vehicles", "nature", "clothing", "leisure", "tools", "office",
    "places", "faces", "hands",
)  # fmt: skip


def read_index(folder: Path = FOLDER) -> dict[str, Any]:
    """Read the index of the suite: `tasks`, `domains` (licences) and `images`."""
    with open(folder / "index.json", encoding="utf-8") as file:
        return json.load(file)


def glyph(image: dict[str, Any]) -> tuple[str, str]:
    """(vendor family, icon): the same for all drawings of one glyph by one vendor."""
    vendor = image["domain"]
    family = next((f for f in ("noto", "fluent") if vendor.startswith(f)), vendor)
    return family, image["icon"]


def validation_files(images: list[dict[str, Any]]) -> set[str]:
    """Files of the training pools that form the validation split, by the rule in the module's docstring."""
    pools = defaultdict(list)
    for image in images:
        if image["split"] == "train":
            pools[image["task"], image["cls"]].append(image)
    drawings = Counter(glyph(image) for pool in pools.values() for image in pool)
    chosen = set()
    for pool in pools.values():
        alone = [image for image in pool if drawings[glyph(image)] == 1]
        if len(pool) >= MIN_POOL and alone:
            chosen.add(max(alone, key=lambda image: image["shot"])["file"])
    return chosen


class _Icon13:
    """The embedded suite as something that can be read. It needs no data root."""

    task_keys = TASK_KEYS

    def missing(self, _root: str) -> str:
        """What is missing, in a line; "" unless the clone of the project is damaged."""
        gone = [name for name in ("images.zip", "index.json") if not (FOLDER / name).is_file()]
        return f"{FOLDER} has no {' and no '.join(gone)}; they belong to the project: clone it again" if gone else ""

    def load(self, _root: str) -> Source:
        """Read Icon-13 as a source of 13 tasks. The domain of an image is its vendor."""
        index = read_index()
        tasks = [Task(t["key"], t["name"], tuple(t["classes"])) for t in index["tasks"]]
        label = {(task.key, name): (i, t) for t, task in enumerate(tasks) for i, name in enumerate(task.classnames)}
        validation = validation_files(index["images"])
        domains = tuple(sorted(index["domains"]))
        source = Source("Icon13", str(FOLDER / "images.zip"), tasks, split_from="icon13/index.json", domains=domains)
        for image in index["images"]:
            split = "val" if image["file"] in validation else image["split"]
            item = Item(image["file"], *label[image["task"], image["cls"]], domains.index(image["domain"]))
            getattr(source, split).append(item)
        return source


ICON13 = _Icon13()
