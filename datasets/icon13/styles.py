"""Icon-13 by drawing style: one style to train on (the source) and four shifted test sets (the targets).

The protocol is that of ImageNet and ImageNet-V2, -Sketch, -A, -R: a model learns from `Colour` drawings only and is
tested without further training on the targets, which have test drawings only. No drawing is added. The test drawings
are those of the index, in which all styles of a glyph are on one side of the split. The Fluent emoji of `Shaded` and
`Contrast` therefore have no flat counterpart in training.

The source has the classes with at least one training and one test drawing of its style. It has no validation split, so
that the training pools are as large as possible. A target has the classes of the source for which it has test drawings;
its drawings are classified among these classes only, as in ImageNet-A and -R with their 200 classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from dassl.data.tasks import Task
from datasets.icon13.source import FOLDER, ICON13, TASK_KEYS, read_index
from datasets.source import Item, Source


@dataclass(frozen=True)
class Style:
    """A drawing style: the end of its datasets' names, its looks, and the vendors who draw in this style only."""

    name: str
    looks: str
    vendors: tuple[str, ...] = ()


SOURCE = Style("Colour", "flat colour emoji", ("noto", "noto-v1", "twemoji", "fluent-emoji-flat", "streamline-emojis"))
TARGETS = (
    Style("Shaded", "shaded colour emoji", ("fluent-emoji",)),
    Style("Contrast", "black and white emoji", ("fluent-emoji-high-contrast",)),
    Style("Line", "icons of black lines", ("hugeicons",)),
    Style("Solid", "icons of black areas", ("game-icons", "fa7-solid")),
)
STYLES = (SOURCE, *TARGETS)
# These vendors draw most icons in both styles; the end of an icon's name tells the style.
LINE_AND_SOLID = ("mdi", "mingcute", "ph")


def style_of(vendor: str, icon: str) -> str:
    """Name of a drawing's style; "" for icon-park, whose lines are filled with one blue."""
    if vendor in LINE_AND_SOLID:
        line = "-outline" in icon if vendor == "mdi" else not icon.endswith("-fill")
        return "Line" if line else "Solid"
    return next((style.name for style in STYLES if vendor in style.vendors), "")


class StyledIcon13:
    """The drawings of one style as something that can be read, with 13 tasks. It needs no data root."""

    task_keys = TASK_KEYS
    missing = ICON13.missing

    def __init__(self, style: Style):
        self.style = style
        self.name = f"Icon13{style.name}"
        self.test_only = style is not SOURCE

    def load(self, _root: str) -> Source:
        index = read_index()
        images = [(image["task"], image["cls"], image) for image in index["images"]]
        drawn = {(style_of(image["domain"], image["icon"]), image["split"], task, name) for task, name, image in images}
        tasks = [
            Task(
                task["key"],
                task["name"],
                tuple(
                    name
                    for name in task["classes"]
                    if {(SOURCE.name, "train", task["key"], name), (SOURCE.name, "test", task["key"], name)} <= drawn
                    and (self.style.name, "test", task["key"], name) in drawn
                ),
            )
            for task in index["tasks"]
        ]
        label = {(task.key, name): (i, t) for t, task in enumerate(tasks) for i, name in enumerate(task.classnames)}
        domains = tuple(sorted(index["domains"]))
        source = Source(self.name, str(FOLDER / "images.zip"), tasks, split_from="icon13/index.json", domains=domains)
        for task, name, image in images:
            own = style_of(image["domain"], image["icon"]) == self.style.name and (task, name) in label
            if own and not (self.test_only and image["split"] == "train"):
                item = Item(image["file"], *label[task, name], domains.index(image["domain"]))
                getattr(source, image["split"]).append(item)
        return source


STYLED = {source.name: source for source in map(StyledIcon13, STYLES)}
