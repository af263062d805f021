"""Pretraining drawings: icon sets with permissive licences and Open Clip Art, drawn once and stored.

Monochrome sets are stored as ink (alpha) ``(n, S, S)``, coloured sets as RGBA ``(n, S, S, 4)``, both uint8 and
memory-mapped. Each row has a :class:`Source` with its origin.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from dassl.utils import atomic_write
from tools.icons import SIZE, Iconify, normalise, on_canvas, render
from tools.suite import RELATIVES, VENDORS

OPENCLIPART = "openclipart"
SKIPPED_CATEGORIES = frozenset({"Logos", "Programming"})
SKIPPED_SETS = ("*flag*", "svg-spinners", "cif", "ginetex", "geo", "bpmn")  # flags, animations, norm symbols
SHARE_ALIKE_OR_WORSE = ("NC", "GPL", "SA")
SKIPPED_CLIP_ART = ("/shapes/stars", "/flags", "/gradients", "-theme/", "/cards/")
PER_NAME = 3  # most drawings of one set with the same name


class Source(NamedTuple):
    """The origin of a drawing."""

    origin: str  # icon set, or "openclipart"
    name: str  # icon name, or path within the clip art
    title: str  # words of the icon name, or title of the clip art
    keywords: list[str]


@dataclass(frozen=True)
class Drawings:
    ink: np.ndarray  # (n, S, S) monochrome
    colour: np.ndarray  # (m, S, S, 4)
    ink_sources: list[Source]
    colour_sources: list[Source]


def permitted_sets(iconify: Iconify, exclude: Sequence[str] = ()) -> list[str]:
    """Icon sets with a permissive licence, without logos, the vendors of the suite and their relatives."""
    held_out = (*VENDORS, *RELATIVES, *SKIPPED_SETS, *exclude)
    sets = []
    for prefix, about in iconify.collections.items():
        licence = about["license"].get("spdx") or about["license"]["title"]
        if any(fnmatch(prefix, pattern) for pattern in held_out) or about.get("category") in SKIPPED_CATEGORIES:
            continue
        if not any(part in licence for part in SHARE_ALIKE_OR_WORSE):
            sets.append(prefix)
    return sorted(sets, key=lambda prefix: -iconify.collections[prefix]["total"])


def draw_set(packages: Path, prefix: str, limit: int | None) -> tuple[bool, list[np.ndarray], list[Source]]:
    """(coloured, drawings, sources) of one icon set; at most ``limit`` drawings."""
    icons = Iconify(packages)[prefix]
    rng = random.Random(prefix)
    by_name: dict[str, list[str]] = defaultdict(list)
    for icon, about in icons.icons.items():
        if not about.get("hidden"):
            by_name[normalise(icon)].append(icon)
    pictures, sources = [], []
    for title, names in by_name.items():
        skin_tone = icons.category == "Emoji" and re.search(r"(light|dark|medium)( skin)?$", title)
        if "skin tone" in title or title.startswith("flag") or skin_tone:
            continue
        for name in rng.sample(names, PER_NAME) if len(names) > PER_NAME else names:
            rgba = icons.draw(name)
            if rgba is None:
                continue
            pictures.append(rgba if icons.palette else rgba[..., 3])
            sources.append(Source(prefix, name, title, []))
            if limit and len(sources) >= limit:
                return icons.palette, pictures, sources
    return icons.palette, pictures, sources


def draw_clip_art(root: Path, files: Sequence[Path]) -> tuple[bool, list[np.ndarray], list[Source]]:
    """(True, drawings, sources) of some files of Open Clip Art, cropped to the visible part."""
    pictures, sources = [], []
    for path in files:
        text = path.read_text(encoding="utf-8", errors="ignore")
        if len(text) > 600_000:  # drawing it would take minutes
            continue
        page = render(svg_path=str(path), width=128)
        box = page.getchannel("A").getbbox() if page else None
        if box is None:
            continue
        page = page.crop(box)
        if max(page.size) > 2000 or min(page.size) < 6:
            continue
        rgba = on_canvas(page, SIZE, inside=SIZE - 4)
        if rgba is None:
            continue
        title = re.search(r"<dc:title>([^<]{2,60})</dc:title>", text)
        keywords = re.findall(r"<rdf:li>([^<]{2,30})</rdf:li>", text)
        pictures.append(rgba)
        sources.append(Source(OPENCLIPART, str(path.relative_to(root)), title.group(1) if title else "", keywords))
    return True, pictures, sources


def clip_art_files(root: Path) -> list[Path]:
    """The SVG files of the Debian package; raises FileNotFoundError if there are none."""
    files = [p for p in sorted(root.rglob("*.svg")) if not any(part in p.as_posix() for part in SKIPPED_CLIP_ART)]
    if not files:
        raise FileNotFoundError(
            f"no SVG files in {root}: install the Debian package openclipart-svg and pass its folder"
        )
    return files


def draw_all(
    work: Path, packages: Path, openclipart: Path, exclude: Sequence[str], limit: int | None, workers: int
) -> Drawings:
    """Draw everything into ``work``, or read it if the same drawings are already there.

    ``limit``: for trials, at most this many drawings per set, and twice as many files of clip art.
    """
    iconify = Iconify(packages)
    sets = permitted_sets(iconify, exclude)
    files = clip_art_files(openclipart)[: 2 * limit if limit else None]
    wanted = {"iconify": iconify.version, "sets": sets, "clip_art": len(files), "limit": limit, "size": SIZE}
    listing = work / "drawings.json"
    known = json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else {}
    if known.get("made_from") != wanted:
        work.mkdir(parents=True, exist_ok=True)
        listing.unlink(missing_ok=True)  # so that an interrupted run does not count as complete
        known = {"made_from": wanted, **_draw(work, packages, sets, openclipart, files, limit, workers)}
        with atomic_write(listing) as file:
            json.dump(known, file)
    return Drawings(
        np.load(work / "ink.npy", mmap_mode="r"),
        np.load(work / "colour.npy", mmap_mode="r"),
        [Source(*row) for row in known["ink"]],
        [Source(*row) for row in known["colour"]],
    )


def _draw(work, packages, sets, openclipart, files, limit, workers) -> dict[str, list[Source]]:
    pictures: dict[str, list[np.ndarray]] = {}
    sources: dict[str, list[Source]] = {}
    with ProcessPoolExecutor(workers) as pool:
        jobs = {pool.submit(draw_set, packages, prefix, limit): prefix for prefix in sets}
        chunks = [files[start : start + 200] for start in range(0, len(files), 200)]
        jobs |= {pool.submit(draw_clip_art, openclipart, chunk): f"clip art {n:03}" for n, chunk in enumerate(chunks)}
        done = {}
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="drawing", unit="set"):
            done[jobs[job]] = job.result()
    for name in [*sets, *sorted(done.keys() - set(sets))]:  # in a fixed order, not in the order of completion
        coloured, some, where = done[name]
        kind = "colour" if coloured else "ink"
        pictures.setdefault(kind, []).extend(some)
        sources.setdefault(kind, []).extend(where)
    for kind, shape in (("ink", (SIZE, SIZE)), ("colour", (SIZE, SIZE, 4))):
        with atomic_write(work / f"{kind}.npy", "wb") as file:
            save_rows(file, pictures.get(kind, []), shape)
    return {kind: sources.get(kind, []) for kind in ("ink", "colour")}


def save_rows(file, rows: Iterable[np.ndarray], shape: tuple[int, ...]) -> None:
    """Write uint8 rows of one shape as an .npy file without a second copy in memory."""
    rows = list(rows)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for row in rows:
        file.write(np.ascontiguousarray(row, dtype=np.uint8).tobytes())
