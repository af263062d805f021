"""Small replacements of the npm packages: all vendors of the suite with three icons each."""

import json
import random

from tools.suite import EMOJI_VENDORS, VENDORS

NAMES = {"cat": "1f431", "dog": "1f436", "fish": "1f41f"}


def icon_body(name: str, vendor: str, palette: bool) -> str:
    """A different polygon for each name and vendor, so that no two drawings count as equal."""
    rng = random.Random(f"{name} {vendor}")
    points = " ".join(f"{rng.uniform(1, 23):.1f},{rng.uniform(1, 23):.1f}" for _ in range(6))
    return f'<polygon points="{points}" fill="{"#c03020" if palette else "currentColor"}"/>'


def write_node_modules(root):
    """Write @iconify/json and emojibase-data below ``root`` and return it."""
    package = root / "@iconify" / "json"
    (package / "json").mkdir(parents=True)
    collections = {}
    for vendor in VENDORS:
        palette = vendor in EMOJI_VENDORS
        collections[vendor] = {
            "total": 3,
            "palette": palette,
            "category": "Emoji" if palette else "General",
            "license": {"title": "MIT", "spdx": "MIT", "url": None},
            "author": {"name": vendor.title(), "url": "nowhere"},
        }
        data = {"width": 24, "height": 24, "icons": {n: {"body": icon_body(n, vendor, palette)} for n in NAMES}}
        if palette:
            data["chars"] = {code: name for name, code in NAMES.items()}
        (package / "json" / f"{vendor}.json").write_text(json.dumps(data))
    (package / "collections.json").write_text(json.dumps(collections))
    (package / "package.json").write_text(json.dumps({"version": "0.0.1"}))
    emojis = root / "emojibase-data" / "en"
    emojis.mkdir(parents=True)
    entries = [{"hexcode": code.upper(), "label": name, "tags": ["pet"]} for name, code in NAMES.items()]
    (emojis / "data.json").write_text(json.dumps(entries))
    return root
