"""Contact sheets of a suite: all drawings with their labels, to search for wrong labels.

python -m tools.contact_sheet --suite DIR --out SHEETS [--tasks faces hands] [--rows 18]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm import tqdm

from dassl.utils import atomic_write
from tools.suite import read_suite

LABEL_WIDTH, HEAD, GAP = 150, 16, 4


def draw_sheet(rows: list[tuple[str, list[Image.Image]]], side: int, columns: int) -> Image.Image:
    """Draw one RGB page from rows of (label, pictures of ``side`` pixels); columns are numbered."""
    cell = side + GAP
    page = Image.new("RGB", (LABEL_WIDTH + columns * cell, HEAD + len(rows) * cell), (225, 225, 225))
    pen = ImageDraw.Draw(page)
    for column in range(columns):
        pen.text((LABEL_WIDTH + column * cell + side // 2 - 6, 2), str(column), fill=(0, 0, 0))
    for row, (label, pictures) in enumerate(rows):
        top = HEAD + row * cell
        pen.text((4, top + side // 2 - 6), label, fill=(0, 0, 0))
        for column, picture in enumerate(pictures):
            page.paste(picture, (LABEL_WIDTH + column * cell, top))
    return page


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.contact_sheet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", type=Path, required=True, help="folder with index.json and images.zip")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for TASK-PAGE.png and TASK.txt (row, column, file)"
    )
    parser.add_argument("--tasks", nargs="*", help="keys of the tasks (default: all)")
    parser.add_argument("--rows", type=int, default=18, help="classes per page (default %(default)s)")
    args = parser.parse_args(argv)
    try:
        index, pictures = read_suite(args.suite)
    except FileNotFoundError as error:
        parser.error(str(error))
    keys = [task["key"] for task in index["tasks"]]
    if unknown := sorted(set(args.tasks or ()) - set(keys)):
        parser.error(f"unknown tasks {unknown}; the suite has {keys}")
    args.out.mkdir(parents=True, exist_ok=True)
    for task in tqdm([t for t in index["tasks"] if not args.tasks or t["key"] in args.tasks], unit="task"):
        members = [entry for entry in index["images"] if entry["task"] == task["key"]]
        rows, listing = [], []
        for number, cls in enumerate(task["classes"]):
            files = [entry["file"] for entry in members if entry["cls"] == cls]
            rows.append((f"{number} {cls}", [Image.fromarray(pictures[file]) for file in files]))
            listing += [f"{number}\t{column}\t{file}" for column, file in enumerate(files)]
        columns = max(len(drawn) for _, drawn in rows)
        for page, start in enumerate(range(0, len(rows), args.rows), 1):
            with atomic_write(args.out / f"{task['key']}-{page}.png", "wb") as file:
                draw_sheet(rows[start : start + args.rows], index["image_size"], columns).save(file, "PNG")
        with atomic_write(args.out / f"{task['key']}.txt", "w") as file:
            file.write("\n".join(listing) + "\n")


if __name__ == "__main__":
    main()
