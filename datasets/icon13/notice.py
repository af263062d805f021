"""The text of `icon13/NOTICE`: who drew the images of Icon-13, and under which licence."""

from __future__ import annotations

from collections import Counter
from typing import Any


def notice(index: dict[str, Any]) -> str:
    """Text of the NOTICE: every vendor with author, licence, source and number of images."""
    counts = Counter(image["domain"] for image in index["images"])
    lines = [
        "Icon-13: drawings by other authors, redistributed under their licences",
        "",
        f"images.zip holds {sum(counts.values()):,} drawings of {len(counts)} collections. Each was changed:",
        f"rendered from SVG to {index['image_size']} x {index['image_size']} pixels on white, stored as lossless WebP.",
        "The vendor of an image is the part of its file name before the two underscores.",
        "This file is made from index.json.",
    ]
    for name in sorted(counts):
        domain = index["domains"][name]
        author = domain["author"]
        lines += [
            "",
            f"{name} ({counts[name]} images)",
            f"  author:  {author['name']}, {author['url']}",
            f"  licence: {domain['license']}" + (f", {domain['license_url']}" if domain["license_url"] else ""),
            f"  source:  {domain['source']}",
        ]
    return "\n".join(lines) + "\n"
