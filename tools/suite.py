"""Finding, thinning out and splitting the drawings of the suite, and reading a built suite.

The order of all lists is deterministic, so the same packages give the same suite.
"""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from tools.icons import IconSet, fingerprint, normalise, on_white, slug, words
from tools.tasks import DROP, ClassSpec, TaskSpec

EMOJI_VENDORS = (
    "noto", "noto-v1", "twemoji", "openmoji", "fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast",
    "streamline-emojis",
)  # fmt: skip
VENDORS = (*EMOJI_VENDORS, "game-icons", "mdi", "icon-park", "ph", "hugeicons", "fa7-solid", "mingcute")
# OpenMoji is share-alike (CC-BY-SA), so its drawings are removed at the end. They take part in the selection, because
# the first edition was selected with them; without them, other drawings would be selected.
NOT_SHIPPED = frozenset({"openmoji"})
# Sets with drawings of the vendors under another name. The pretraining excludes them together with the vendors.
RELATIVES = words(
    """icon-park-outline icon-park-solid icon-park-twotone mdi-light fa fa-solid fa-regular fa-brands fa6-solid
    fa6-regular fa6-brands fa7-regular fa7-brands la emojione-v1"""
)
MIN_DRAWINGS, MAX_DRAWINGS = 8, 20  # per class, including OpenMoji
MAX_SHOTS, MIN_TEST, MIN_POOL = 8, 4, 3
SAME_LOOK = 0.985  # cosine of fingerprints above which two drawings of a class count as equal
# Order in which vendors contribute a drawing if a class has more than MAX_DRAWINGS.
PRIORITY = (
    "noto", "twemoji", "openmoji", "fluent-emoji", "streamline-emojis", "game-icons", "mdi", "ph", "hugeicons",
    "fa7-solid", "mingcute", "icon-park", "noto-v1", "fluent-emoji-high-contrast", "fluent-emoji-flat",
)  # fmt: skip
# Names with another meaning among plain icons ("cap" of a bottle, "bolt" of a screw).
AMBIGUOUS = frozenset({"like", "cap", "snow", "sweet"})
PH_WEIGHTS = re.compile(r"-(thin|light|bold|duotone)$")  # Phosphor has six weights of each icon; two are used
STRUCK_THROUGH = re.compile(r"-off(-|$)|-slash")


@dataclass(frozen=True)
class Drawing:
    """One picture of the suite; ``image`` (S, S, 3) uint8 on white."""

    task: str
    cls: str
    domain: str
    icon: str
    licence: str
    image: np.ndarray
    split: str = ""  # "train" (the pool from which shots are taken) or "test"
    shot: int | None = None  # position in the training pool of the class

    file: str = ""  # name in the archive; a label fix does not change it

    def __post_init__(self) -> None:
        if not self.file:
            name = f"{self.task}/{slug(self.cls, '_')}/{self.domain}__{self.icon}.webp"
            object.__setattr__(self, "file", name)


def read_suite(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """A built suite: (index.json, {file: RGB (S, S, 3)}). Raises FileNotFoundError."""
    for name in ("index.json", "images.zip"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} not found: --suite takes the folder of tools.build_icon13")
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    with zipfile.ZipFile(folder / "images.zip") as archive:
        files = [entry["file"] for entry in index["images"]]
        return index, {file: np.asarray(Image.open(archive.open(file)).convert("RGB")) for file in files}


class Finder:
    """Finds the icons of a class in one set: by emoji code for sets of emojis, otherwise by name."""

    def __init__(self, icon_set: IconSet, labels: Mapping[str, str]) -> None:
        """``labels``: emoji code without variation selector -> English label."""
        self.set, self.labels = icon_set, labels
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for icon in icon_set.icons:
            if "skin-tone" not in icon:
                self.by_name[normalise(icon)].append(icon)

    def __call__(self, spec: ClassSpec) -> list[str]:
        names = dict.fromkeys([spec.name.replace("-", " "), *spec.aliases])
        return self._emojis(spec, names) if self.set.prefix in EMOJI_VENDORS else self._icons(spec, names)

    def _named(self, name: str) -> list[str]:
        return self.by_name.get(normalise(name.replace(" ", "-")), [])

    def _emojis(self, spec: ClassSpec, names: Iterable[str]) -> list[str]:
        found: dict[str, None] = {}
        for code in spec.emojis:
            icon = self.set.chars.get(code) or slug(self.labels.get(code, ""))
            if icon in self.set.icons:
                found[icon] = None
        # Streamline has several numbered drawings per emoji, so its names are searched as well.
        if not found or self.set.prefix == "streamline-emojis":
            for name in names:
                for icon in self._named(name)[:2]:
                    if len(found) < 2:
                        found[icon] = None
        return list(found)

    def _icons(self, spec: ClassSpec, names: Iterable[str]) -> list[str]:
        found: dict[str, None] = {}
        for name in names:
            if name in AMBIGUOUS or (name == "bolt" and spec.name == "lightning" and self.set.prefix != "game-icons"):
                continue
            for icon in self._named(name):
                if self.set.prefix == "ph" and PH_WEIGHTS.search(icon):
                    continue
                if len(found) < 3:
                    found[icon] = None
        return list(found)


def collect(
    tasks: Sequence[TaskSpec],
    finders: Sequence[Finder],
    root_fill: str | None = None,
    tick: Callable[[], object] = lambda: None,
) -> list[Drawing]:
    """Collect the drawings of all classes, without drawings that look like an earlier drawing of their class.

    ``root_fill``: see :meth:`IconSet.svg`. ``tick`` is called once per class (progress bar).
    """
    drawings: list[Drawing] = []
    for task in tasks:
        for spec in task.classes:
            looks: list[np.ndarray] = []
            for finder in finders:
                for icon in finder(spec):
                    rgba = finder.set.draw(icon, root_fill=root_fill)
                    if rgba is None:
                        continue
                    image = on_white(rgba, finder.set.palette)
                    look = fingerprint(image.astype(np.float32).mean(-1))
                    if any(float(look @ other) > SAME_LOOK for other in looks):
                        continue
                    looks.append(look)
                    drawings.append(Drawing(task.key, spec.name, finder.set.prefix, icon, finder.set.licence, image))
            tick()
    return drawings


def by_class(drawings: Iterable[Drawing]) -> dict[tuple[str, str], list[Drawing]]:
    """{(task, class): drawings}, in the order of first appearance."""
    groups: dict[tuple[str, str], list[Drawing]] = defaultdict(list)
    for drawing in drawings:
        groups[drawing.task, drawing.cls].append(drawing)
    return groups


def thin_out(drawings: Iterable[Drawing], seed: int = 0) -> list[Drawing]:
    """Drop struck-through drawings, classes below MIN_DRAWINGS, and drawings above MAX_DRAWINGS (vendors in turn)."""
    rng = random.Random(seed)
    kept: list[Drawing] = []
    for members in by_class(d for d in drawings if not STRUCK_THROUGH.search(d.icon)).values():
        if len(members) < MIN_DRAWINGS:
            continue
        if len(members) > MAX_DRAWINGS:
            stacks: dict[str, list[int]] = defaultdict(list)
            for position, drawing in enumerate(members):
                stacks[drawing.domain].append(position)
            for stack in stacks.values():
                rng.shuffle(stack)
            chosen: list[int] = []
            while len(chosen) < MAX_DRAWINGS:
                chosen += [stacks[vendor].pop() for vendor in PRIORITY if stacks[vendor]]
            members = [members[position] for position in sorted(chosen[:MAX_DRAWINGS])]
        kept += members
    return kept


def shippable(drawings: Sequence[Drawing]) -> list[Drawing]:
    """After the split: remove OpenMoji, renumber the shots, drop classes with a pool below MIN_POOL."""
    drawings = renumber([drawing for drawing in drawings if drawing.domain not in NOT_SHIPPED])
    return [
        drawing
        for members in by_class(drawings).values()
        if sum(member.split == "train" for member in members) >= MIN_POOL
        for drawing in members
    ]


def glyph(drawing: Drawing) -> tuple[str, str]:
    """Key of a glyph, (vendor family, icon): equal for all styles of one glyph, which stay on one side of the split."""
    for family in ("fluent", "noto"):
        if drawing.domain.startswith(family):
            return family, drawing.icon.replace("-1", "").replace("-2", "")
    return drawing.domain, drawing.icon


def split(drawings: Sequence[Drawing], seed: int = 0) -> list[Drawing]:
    """Assign split and shot to each drawing: per class up to MAX_SHOTS for the pool, and at least MIN_TEST for testing.

    Drawings with the same :func:`glyph` are never separated.
    """
    place: dict[str, tuple[str, int | None]] = {}
    for key, members in by_class(drawings).items():
        groups: dict[tuple[str, str], list[Drawing]] = defaultdict(list)
        for drawing in members:
            groups[glyph(drawing)].append(drawing)
        rng = random.Random(f"{seed}{key}")
        order = list(groups.values())
        rng.shuffle(order)
        wanted = min(MAX_SHOTS, len(members) - MIN_TEST)
        pool: list[Drawing] = []
        for group in order:
            if len(pool) + len(group) <= wanted:
                pool += group
            else:
                place.update({drawing.file: ("test", None) for drawing in group})
        rng.shuffle(pool)
        place.update({drawing.file: ("train", shot) for shot, drawing in enumerate(pool)})
    return [replace(d, split=place[d.file][0], shot=place[d.file][1]) for d in drawings]


def apply_fixes(drawings: Iterable[Drawing], fixes: Mapping[str, str]) -> list[Drawing]:
    """Drop or move drawings with wrong labels. All drawings keep their split.

    In a training pool, a moved drawing comes after the shots of its new class, and the shots of its old class are
    renumbered. ``fixes``: {file: "drop" or class}. Raises ValueError for unknown files and classes.
    """
    drawings = list(drawings)
    classes: dict[str, set[str]] = defaultdict(set)
    for drawing in drawings:
        classes[drawing.task].add(drawing.cls)
    unknown = sorted(set(fixes) - {d.file for d in drawings})
    unknown += [f"{f} -> {c}" for f, c in fixes.items() if c != DROP and c not in classes[f.partition("/")[0]]]
    if unknown:
        raise ValueError("label fixes name files or classes that are not in the suite: " + ", ".join(unknown))
    fixed = [replace(d, cls=fixes.get(d.file, d.cls)) for d in drawings if fixes.get(d.file) != DROP]
    return renumber(fixed)


def renumber(drawings: Sequence[Drawing]) -> list[Drawing]:
    """Number the shots of each pool 0, 1, 2, …; drawings moved from another class come last."""
    shots: dict[int, int] = {}
    for (_, cls), members in by_class(d for d in drawings if d.split == "train").items():
        members.sort(key=lambda d: (f"/{slug(cls, '_')}/" not in d.file, d.shot))  # noqa: B023 (used at once)
        shots.update({id(drawing): shot for shot, drawing in enumerate(members)})
    return [replace(d, shot=shots.get(id(d))) for d in drawings]
