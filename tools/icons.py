"""Iconify icon sets: reading, icon names as plain words, drawing icons as small pictures.

A *set* is the collection of one vendor, ``json/<prefix>.json`` in the npm package ``@iconify/json``;
``collections.json`` contains its licence, author and whether it is coloured ("palette"). Pictures are uint8 numpy
arrays, RGBA ``(S, S, 4)`` or RGB ``(S, S, 3)``, where S is the side in pixels (64).
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 64
MIN_MEAN_ALPHA = 3.0  # of 255; a drawing below it counts as empty
ICONIFY, EMOJIBASE = "@iconify/json", "emojibase-data"


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words for style or size, which are removed from the end of a name.
STYLE_WORDS = words(
    """outline outlined solid fill filled bold light thin duotone linear broken line lines lined twotone twotoned tone
    rounded round sharp regular alt color colour flat o s r a b mono glyph remix stroke plump flex ultimate cyber core
    freehand block pixel 24px 16px 32px 20px 24 20 16 28 32 48 12 10 15 18 1 2 3 4 5 6 01 02 03 04 05 06
    rtl ltr black white gray sm lg xs md xl new variant baseline two"""
)
LEADING_WORDS = words("outline baseline round sharp twotone ios md logo i icon")
ANYWHERE_WORDS = words("outline solid fill filled bold duotone linear twotone rounded")


def normalise(name: str) -> str:
    """Words of an icon name without style, size and numbers: ``"cat-face-outline-24"`` -> ``"cat face"``.

    At least one word is kept (``"solid"`` -> ``"solid"``).
    """
    words = [word for word in re.split(r"[-_:\s]+", name.lower()) if word]
    while len(words) > 1 and words[-1] in STYLE_WORDS:
        words.pop()
    while len(words) > 1 and words[0] in LEADING_WORDS:
        words.pop(0)
    if len(words) > 1:
        words = [word for word in words if word not in ANYWHERE_WORDS] or words
    return " ".join(words)


def slug(text: str, separator: str = "-") -> str:
    """Lower-case letters and digits joined by ``separator``: ``"Piñata"`` -> ``"pinata"``."""
    text = text.lower().replace("’", "").replace("ñ", "n")
    return re.sub(r"[^a-z0-9]+", separator, text).strip(separator)


def emoji_code(character: str) -> str:
    """Code of an emoji in Iconify's form, without variation selector: ``"🐿️"`` -> ``"1f43f"``."""
    return "-".join(f"{ord(part):x}" for part in character if part != "\ufe0f")


@dataclass(frozen=True)
class IconSet:
    """One vendor's icons."""

    prefix: str
    icons: dict  # icon name -> {"body": svg, "width": …}
    chars: dict  # emoji code without fe0f -> icon name (emoji sets only)
    defaults: dict  # left, top, width, height of icons without their own
    palette: bool  # coloured; otherwise drawn in one colour ("currentColor")
    category: str
    licence: str  # SPDX identifier, or the title of the licence
    licence_url: str | None
    author: dict  # {"name", "url"}

    def svg(self, name: str, size: int = SIZE, colour: str = "#000", root_fill: str | None = None) -> str:
        """The icon as a square SVG document, centred in its view box.

        ``root_fill`` "none" leaves out parts with SVG's default fill, black (see ``tools/README.md``).
        """
        icon = self.icons[name]
        left, top, width, height = (
            icon.get(key, self.defaults.get(key, fallback))
            for key, fallback in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        side = max(width, height)
        left, top = left - (side - width) / 2, top - (side - height) / 2
        body = icon["body"].replace("currentColor", colour)
        fill = f' fill="{root_fill}"' if root_fill else ""
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {side} {side}" width="{size}" height="{size}" color="{colour}"{fill}>{body}</svg>'
        )

    def draw(self, name: str, size: int = SIZE, root_fill: str | None = None) -> np.ndarray | None:
        """The icon as RGBA ``(S, S, 4)``, or None if it cannot be drawn or is empty."""
        return rasterise(self.svg(name, size, root_fill=root_fill), size)


class Iconify:
    """The installed npm packages: ``Iconify(folder)["noto"]`` reads a set, ``collections`` describes all.

    Raises FileNotFoundError if ``folder`` does not contain ``@iconify/json``.
    """

    def __init__(self, node_modules: str | Path) -> None:
        self.root = Path(node_modules) / ICONIFY
        listing = self.root / "collections.json"
        if not listing.is_file():
            raise FileNotFoundError(missing_package(ICONIFY, "npm", listing))
        self.collections: dict = json.loads(listing.read_text(encoding="utf-8"))
        package = self.root / "package.json"
        self.version = json.loads(package.read_text(encoding="utf-8"))["version"] if package.is_file() else "unknown"

    def __getitem__(self, prefix: str) -> IconSet:
        path = self.root / "json" / f"{prefix}.json"
        if prefix not in self.collections or not path.is_file():
            raise FileNotFoundError(f"icon set {prefix!r} is not in {self.root} (version {self.version})")
        about, data = self.collections[prefix], json.loads(path.read_text(encoding="utf-8"))
        licence = about.get("license", {})
        return IconSet(
            prefix=prefix,
            icons=data["icons"],
            chars={code.replace("-fe0f", ""): name for code, name in data.get("chars", {}).items()},
            defaults={key: data[key] for key in ("left", "top", "width", "height") if key in data},
            palette=bool(about.get("palette")),
            category=about.get("category", ""),
            licence=licence.get("spdx") or licence.get("title", "unknown"),
            licence_url=licence.get("url"),
            author=about.get("author", {}),
        )


def read_emojis(node_modules: str | Path) -> list[dict]:
    """The emoji list of ``emojibase-data``: one dict per emoji with ``hexcode``, ``label``, ``tags``."""
    path = Path(node_modules) / EMOJIBASE / "en" / "data.json"
    if not path.is_file():
        raise FileNotFoundError(missing_package(EMOJIBASE, "npm", path))
    return json.loads(path.read_text(encoding="utf-8"))


def missing_package(package: str, manager: str, looked_for: str | Path) -> str:
    """Error text for a package that is not installed."""
    return f"{looked_for} not found: install the {manager} package {package} (see tools/README.md) and pass its folder"


def render(**options) -> Image.Image | None:
    """A drawing rendered by resvg as PIL RGBA, or None if unreadable; ``options`` of ``resvg_py.svg_to_bytes``."""
    import resvg_py  # needed for rebuilding only

    try:
        png = bytes(resvg_py.svg_to_bytes(**options))
        return Image.open(io.BytesIO(png)).convert("RGBA")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # resvg's panics are not Exceptions; an unreadable drawing is left out
        return None


def rasterise(svg: str, size: int = SIZE) -> np.ndarray | None:
    """An SVG text as RGBA ``(S, S, 4)``, or None if it is unreadable or nothing is visible."""
    image = render(svg_string=svg, width=size, height=size)
    return None if image is None else on_canvas(image, size)


def on_canvas(image: Image.Image, size: int = SIZE, inside: int | None = None) -> np.ndarray | None:
    """Shrink a PIL RGBA picture to ``inside`` pixels, centre it on a square: ``(S, S, 4)``, or None if empty."""
    inside = inside or size
    if image.size != (size, size) or inside < size:
        canvas = Image.new("RGBA", (size, size))
        if max(image.size) > inside:
            image.thumbnail((inside, inside), Image.LANCZOS)
        canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        image = canvas
    array = np.asarray(image)
    return None if array[..., 3].mean() < MIN_MEAN_ALPHA else array


def on_white(rgba: np.ndarray, palette: bool) -> np.ndarray:
    """Place RGBA ``(S, S, 4)`` on white: RGB ``(S, S, 3)``. A drawing without palette becomes black."""
    if not palette:
        return np.repeat(255 - rgba[..., 3:], 3, axis=-1)
    rgba = rgba.astype(np.float32)
    alpha = rgba[..., 3:] / 255
    return (rgba[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


def fingerprint(grey: np.ndarray) -> np.ndarray:
    """Grey pictures ``(…, 64, 64)`` -> unit vectors ``(…, 256)``; their cosine measures how alike pictures look."""
    *lead, side, _ = grey.shape
    cells = grey.astype(np.float32).reshape(*lead, 16, side // 16, 16, side // 16).mean((-1, -3)).reshape(*lead, 256)
    cells = cells - cells.mean(-1, keepdims=True)
    return cells / (np.linalg.norm(cells, axis=-1, keepdims=True) + 1e-6)
