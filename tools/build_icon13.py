"""Build the embedded suite Icon-13: images.zip, index.json and NOTICE.

python -m tools.build_icon13 --packages node_modules --out DIR [--compare datasets/icon13]

Needs the npm packages @iconify/json and emojibase-data and the Python package resvg-py; see tools/README.md.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dassl.utils import atomic_write
from datasets.icon13.notice import notice
from tools.icons import ICONIFY, SIZE, Iconify, read_emojis
from tools.suite import VENDORS, Drawing, Finder, apply_fixes, by_class, collect, read_suite, shippable, split, thin_out
from tools.tasks import TaskSpec, read_label_fixes, read_tasks


def build(packages: Path, tasks: Sequence[TaskSpec], fixes: dict[str, str], first_edition: bool) -> list[Drawing]:
    """All drawings of the suite, with labels and splits."""
    iconify = Iconify(packages)
    labels = {e["hexcode"].lower().replace("-fe0f", ""): e["label"] for e in read_emojis(packages)}
    finders = [Finder(iconify[vendor], labels) for vendor in tqdm(VENDORS, desc="reading icon sets", unit="set")]
    with tqdm(total=sum(len(task.classes) for task in tasks), desc="drawing", unit="class") as bar:
        drawings = collect(tasks, finders, "none" if first_edition else None, bar.update)
    drawings = shippable(split(thin_out(drawings)))
    return drawings if first_edition else apply_fixes(drawings, fixes)


def make_index(drawings: Sequence[Drawing], tasks: Sequence[TaskSpec], iconify: Iconify) -> dict:
    """The content of index.json: tasks with their classes, vendors ("domains") with their licences, images."""
    classes: dict[str, dict[str, None]] = {}
    for task, cls in by_class(drawings):
        classes.setdefault(task, {})[cls] = None
    # Classes keep the order of tasks.txt, even if a moved drawing comes first.
    order = {(task.key, spec.name): position for task in tasks for position, spec in enumerate(task.classes)}
    domains = {}
    for vendor in sorted({drawing.domain for drawing in drawings}):
        icon_set = iconify[vendor]
        domains[vendor] = {
            "license": icon_set.licence,
            "license_url": icon_set.licence_url,
            "author": {key: icon_set.author.get(key) for key in ("name", "url")},
            "source": f"{ICONIFY}@{iconify.version} json/{vendor}.json",
        }
    return {
        "image_size": SIZE,
        "tasks": [
            {"key": t.key, "name": t.name, "classes": sorted(classes[t.key], key=lambda cls: order[t.key, cls])}  # noqa: B023
            for t in tasks
            if t.key in classes
        ],
        "domains": domains,
        "images": [
            {
                "file": drawing.file,
                "task": drawing.task,
                "cls": drawing.cls,
                "domain": drawing.domain,
                "icon": drawing.icon,
                "license": drawing.licence,
                "split": drawing.split,
                "shot": drawing.shot,
            }
            for drawing in drawings
        ],
    }


def webp(image: np.ndarray) -> bytes:
    """RGB ``(S, S, 3)`` as a lossless WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=5)
    return buffer.getvalue()


def write(out: Path, drawings: Sequence[Drawing], index: dict) -> None:
    """Write images.zip (no compression; fixed dates, so equal suites give equal files), index.json, NOTICE."""
    with atomic_write(out / "images.zip", "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for drawing in tqdm(drawings, desc="writing", unit="image"):
            archive.writestr(zipfile.ZipInfo(drawing.file), webp(drawing.image))
    with atomic_write(out / "index.json") as file:
        # one image per line, so that diffs between editions are readable
        file.write(json.dumps(index, separators=(",", ":")).replace('},{"file"', '},\n{"file"') + "\n")
    with atomic_write(out / "NOTICE") as file:
        file.write(notice(index))


def compare(drawings: Sequence[Drawing], index: dict, other: Path) -> list[str]:
    """Lines with the differences from the suite in folder ``other``."""
    theirs, pictures = read_suite(other)
    mine = {d.file: d for d in drawings}
    old = {entry["file"]: entry for entry in theirs["images"]}
    common = sorted(mine.keys() & old.keys())
    facts = {
        "only in this suite": sorted(mine.keys() - old.keys()),
        f"only in {other}": sorted(old.keys() - mine.keys()),
        "other pixels": [f for f in common if not np.array_equal(pictures[f], mine[f].image)],
        "other label": [f for f in common if mine[f].cls != old[f]["cls"]],
        "other split": [f for f in common if mine[f].split != old[f]["split"]],
        "other shot": [f for f in common if mine[f].shot != old[f]["shot"]],
    }
    lines = [f"{name}: {len(files)}" + "".join(f"\n  {file}" for file in files[:8]) for name, files in facts.items()]
    return [*lines, f"index.json {'equal' if theirs == index else 'different'}"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.build_icon13", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", type=Path, required=True, help="the node_modules folder with the npm packages")
    parser.add_argument("--out", type=Path, required=True, help="folder for images.zip, index.json, NOTICE")
    parser.add_argument("--compare", type=Path, help="folder of another build; print the differences")
    parser.add_argument(
        "--first-edition",
        action="store_true",
        help="do not apply the label fixes, and leave out parts of drawings with SVG's default fill",
    )
    args = parser.parse_args(argv)
    if args.compare and not (args.compare / "index.json").is_file():
        parser.error(f"{args.compare / 'index.json'} not found: --compare takes a folder written by this program")
    try:
        import resvg_py  # noqa: F401

        tasks = read_tasks()
        drawings = build(args.packages, tasks, read_label_fixes(), args.first_edition)
        index = make_index(drawings, tasks, Iconify(args.packages))
    except ModuleNotFoundError as error:
        parser.error(f"the Python package of {error.name} is missing: pip install -r tools/requirements.txt")
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out, drawings, index)
    for task in index["tasks"]:
        of_task = [d for d in drawings if d.task == task["key"]]
        pool = sum(d.split == "train" for d in of_task)
        print(f"{task['key']}: {len(task['classes'])} classes, {len(of_task)} drawings, {pool} in the training pools")
    size = (args.out / "images.zip").stat().st_size / 1e6
    number = sum(len(task["classes"]) for task in index["tasks"])
    print(f"{len(drawings)} drawings, {number} classes, {size:.1f} MB in {args.out}")
    if args.compare:
        print(*compare(drawings, index, args.compare), sep="\n")


if __name__ == "__main__":
    main()
