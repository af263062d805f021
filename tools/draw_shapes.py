"""Draw a toy data set whose images have labels of several tasks: shape, colour and count, some of them missing.

    python -m tools.draw_shapes FOLDER

writes images, `labels.csv` with a column per task, and `shapes.yaml` for `--dataset-config-file`. With `--tags`, every
figure has its own shape and colour, and these two are tagging tasks: an image has one or several of their classes.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from dassl.utils import atomic_write

SHAPES = ("circle", "square", "triangle")
COLOURS = {"red": (210, 50, 50), "green": (50, 160, 70), "blue": (50, 80, 210), "yellow": (230, 200, 50)}
COUNTS = ("one", "two", "three")
TASKS = {"shape": SHAPES, "colour": tuple(COLOURS), "count": COUNTS}
SIZE = 64
SUITE = """\
DATASET:
  NAME: "Suite"
  TASKS:
    - ROOT: "{root}"
      NAME: "shapes"
      TASKS:
        shape:
          TASK_NAME: "shapes of drawn figures"
          TEMPLATE: "a drawing of a {{}}."
          METRIC: "{metric}"
        colour:
          TASK_NAME: "colours of drawn figures"
          TEMPLATE: "a drawing in {{}}."
          METRIC: "{metric}"
        count:
          TASK_NAME: "number of drawn figures"
          TEMPLATE: "a drawing of {{}} figures."
          METRIC: "mean_acc"
"""


def draw(figures: Sequence[tuple[str, str]], rng: random.Random) -> Image.Image:
    """A picture with a figure of each (shape, colour) on a light background."""
    image = Image.new("RGB", (SIZE, SIZE), tuple(rng.randint(225, 255) for _ in range(3)))
    pencil, radius = ImageDraw.Draw(image), rng.randint(7, 9)
    for number, (shape, colour) in enumerate(figures):
        x, y = 11 + number * 21 + rng.randint(-1, 1), rng.randint(12, SIZE - 12)
        box, fill = (x - radius, y - radius, x + radius, y + radius), COLOURS[colour]
        if shape == "circle":
            pencil.ellipse(box, fill)
        elif shape == "square":
            pencil.rectangle(box, fill)
        else:
            pencil.polygon(((x, y - radius), (x - radius, y + radius), (x + radius, y + radius)), fill)
    return image


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=180, help="number of images (default 180)")
    parser.add_argument("--missing", type=float, default=1 / 3, help="share of the labels left out (default 1/3)")
    parser.add_argument("--tags", action="store_true", help="figures of several shapes and colours in an image")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    rng, rows = random.Random(args.seed), []  # noqa: S311
    (args.folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(args.images):
        row = {task: rng.choice(classes) for task, classes in TASKS.items()}
        path = f"images/{number:04d}.png"
        figures = [(row["shape"], row["colour"])] * (1 + COUNTS.index(row["count"]))
        if args.tags:
            figures = [(rng.choice(SHAPES), rng.choice(list(COLOURS))) for _ in figures]
            row["shape"], row["colour"] = (";".join(dict.fromkeys(names)) for names in zip(*figures, strict=True))
        draw(figures, rng).save(args.folder / path)
        kept = rng.choice(list(TASKS))  # every image keeps one label
        share = args.missing * len(TASKS) / (len(TASKS) - 1)
        rows.append({"path": path} | {t: c if t == kept or rng.random() >= share else "" for t, c in row.items()})
    with atomic_write(args.folder / "labels.csv") as stream:
        writer = csv.DictWriter(stream, ("path", *TASKS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with atomic_write(args.folder / "shapes.yaml") as stream:
        root, metric = (args.folder / "labels.csv").resolve().as_posix(), "mAP" if args.tags else "overall_acc"
        stream.write(SUITE.format(root=root, metric=metric))
    print(f"{args.images} images in {args.folder}; train on them with --dataset-config-file {args.folder}/shapes.yaml")


if __name__ == "__main__":
    main()
