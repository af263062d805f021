"""How the drawings of the suite are found, thinned out and split: pure functions over icon sets.

A drawing is a :class:`Drawing`; the order of all lists is deterministic, so the same packages give the same suite.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tools.icons import IconSet, fingerprint, normalise, on_white, slug, words
from tools.tasks import DROP, ClassSpec, TaskSpec

EMOJI_VENDORS = (
    "noto", "noto-v1", "twemoji", "openmoji", "fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast",
    "streamline-emojis",
)  # fmt: skip
VENDORS = (*EMOJI_VENDORS, "game-icons", "mdi", "icon-park", "ph", "hugeicons", "fa7-solid", "mingcute")
# OpenMoji is share-alike (CC-BY-SA): it is not shipped. It still takes part in the choice of drawings, because the
# suite was chosen with it and without it other near-duplicates and other drawings above the cap would stay.
NOT_SHIPPED = frozenset({"openmoji"})
# Relatives of the vendors: the same drawings under another name. Kept out of pretraining together with the vendors.
RELATIVES = words(
    """icon-park-outline icon-park-solid icon-park-twotone mdi-light fa fa-solid fa-regular fa-brands fa6-solid
    fa6-regular fa6-brands fa7-regular fa7-brands la emojione-v1"""
)
MIN_DRAWINGS, MAX_DRAWINGS = 8, 20  # of a class, OpenMoji counted
MAX_SHOTS, MIN_TEST, MIN_POOL = 8, 4, 3
SAME_LOOK = 0.985  # cosine of fingerprints above which two drawings of a class count as one
# In which order vendors give a drawing when a class has more than MAX_DRAWINGS.
PRIORITY = (
    "noto", "twemoji", "openmoji", "fluent-emoji", "streamline-emojis", "game-icons", "mdi", "ph", "hugeicons",
    "fa7-solid", "mingcute", "icon-park", "noto-v1", "fluent-emoji-high-contrast", "fluent-emoji-flat",
)  # fmt: skip
# Other names that mean something else among plain icons ("cap" of a bottle, "bolt" of a screw).
AMBIGUOUS = frozenset({"like", "cap", "snow", "sweet"})
PH_WEIGHTS = re.compile(r"-(thin|light|bold|duotone)$")  # Phosphor draws every icon in six weights; two are enough
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
    split: str = ""  # "train" (the pool shots are taken from) or "test"
    shot: int | None = None  # order within the class's training pool

    file: str = ""  # name within the archive; stays the same when the label is put right

    def __post_init__(self) -> None:
        if not self.file:
            name = f"{self.task}/{slug(self.cls, '_')}/{self.domain}__{self.icon}.webp"
            object.__setattr__(self, "file", name)


class Finder:
    """Finds the icons of a class in one set, by emoji code first and by name otherwise."""

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
        # Streamline has several drawings an emoji under running numbers, so its names are looked at as well.
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
    """All drawings of all classes, without those that look like an earlier one of their class.

    ``root_fill``: see :meth:`IconSet.svg`; ``tick`` is called once a class (progress bar).
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
    """{(task, class): its drawings}, in the order of first appearance."""
    groups: dict[tuple[str, str], list[Drawing]] = defaultdict(list)
    for drawing in drawings:
        groups[drawing.task, drawing.cls].append(drawing)
    return groups


def thin_out(drawings: Iterable[Drawing], seed: int = 0) -> list[Drawing]:
    """Drop struck-through drawings, small classes, what is above MAX_DRAWINGS (vendors in turn), and OpenMoji."""
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
    """Take OpenMoji out after the split, close the gaps in the shots, drop classes with a pool below MIN_POOL."""
    drawings = renumber([drawing for drawing in drawings if drawing.domain not in NOT_SHIPPED])
    return [
        drawing
        for members in by_class(drawings).values()
        if sum(member.split == "train" for member in members) >= MIN_POOL
        for drawing in members
    ]


def glyph(drawing: Drawing) -> tuple[str, str]:
    """What must stay on one side of the split: (vendor family, icon), the same for all styles of one glyph."""
    for family in ("fluent", "noto"):
        if drawing.domain.startswith(family):
            return family, drawing.icon.replace("-1", "").replace("-2", "")
    return drawing.domain, drawing.icon


def split(drawings: Sequence[Drawing], seed: int = 0) -> list[Drawing]:
    """Give every drawing its split and shot: up to MAX_SHOTS of a class to the pool, at least MIN_TEST to test.

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
    """Drop or move wrongly labelled drawings, keeping everybody's split.

    A drawing that is moved keeps its side; in a pool it goes behind the shots its new class already has, and the shots
    of its old class close up. ``fixes``: {file: "drop" or class}. Raises ValueError for unknown files and classes.
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
    """Shots 0, 1, 2 … in each pool; those moved in from another class come last."""
    shots: dict[int, int] = {}
    for (_, cls), members in by_class(d for d in drawings if d.split == "train").items():
        members.sort(key=lambda d: (f"/{slug(cls, '_')}/" not in d.file, d.shot))  # noqa: B023 (used at once)
        shots.update({id(drawing): shot for shot, drawing in enumerate(members)})
    return [replace(d, shot=shots.get(id(d))) for d in drawings]
