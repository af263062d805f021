"""Icon-13 by drawing style: one style to train on, and four shifted test sets for what was learned there.

The protocol is that of ImageNet and ImageNet-V2, -Sketch, -A, -R: a model learns from `Colour` drawings alone and is
tested, without further training, on the others, which have test drawings only. No picture is added. Which drawings are
for testing is the index's choice, in which all styles of a glyph stand on one side, so the Fluent emoji of `Shaded` and
`Contrast` have no flat counterpart in training.

The source has the classes with a drawing of its style to train on and one to test on; there is no validation split, so
that every pool is as large as it can be. A target has those of the source's classes that it has test drawings of, and
is classified among these only, as ImageNet-A and -R are among their own 200.
"""

from __future__ import annotations

from dataclasses import dataclass

from datasets.icon13.source import DOMAINS, FOLDER, ICON13, TASK_KEYS, read_index
from datasets.source import Item, Source, SourceTask


@dataclass(frozen=True)
class Style:
    """A drawing style: the name its datasets end with, what it looks like, and the vendors who draw in it alone."""

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
# These draw most icons in both ways; the end of the name says which.
LINE_AND_SOLID = ("mdi", "mingcute", "ph")


def style_of(vendor: str, icon: str) -> str:
    """Name of a drawing's style; "" for icon-park, whose lines are filled with one blue: neither Line nor Colour."""
    if vendor in LINE_AND_SOLID:
        line = "-outline" in icon if vendor == "mdi" else not icon.endswith("-fill")
        return "Line" if line else "Solid"
    return next((style.name for style in STYLES if vendor in style.vendors), "")


class StyledIcon13:
    """The drawings of one style as a readable source of 13 tasks; it needs no data root."""

    task_keys = TASK_KEYS
    missing = ICON13.missing

    def __init__(self, style: Style):
        self.style = style
        self.name = f"Icon13{style.name}"

    @property
    def test_only(self) -> bool:
        """Whether there is nothing to train on."""
        return self.style is not SOURCE

    def load(self, _root: str) -> Source:
        index = read_index()
        images = [(image["task"], image["cls"], image) for image in index["images"]]
        drawn = {(style_of(image["domain"], image["icon"]), image["split"], task, name) for task, name, image in images}
        tasks = [
            SourceTask(
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
        source = Source(self.name, str(FOLDER / "images.zip"), tasks, split_from="icon13/index.json", domains=DOMAINS)
        for task, name, image in images:
            own = style_of(image["domain"], image["icon"]) == self.style.name and (task, name) in label
            if own and not (self.test_only and image["split"] == "train"):
                item = Item(image["file"], *label[task, name], DOMAINS.index(image["domain"]))
                getattr(source, image["split"]).append(item)
        return source


STYLED = {source.name: source for source in map(StyledIcon13, STYLES)}
