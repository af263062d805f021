"""Classify images with a finished run: `python predict.py RUN IMAGE...`; see docs/own-data.md.

Prints one line per image and task: image, task, the most probable classes. Exit code: 0; 2 after a user error, with one
message. Images that cannot be read are reported, and the other images are classified.
"""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before all other imports

import contextlib
import csv
import io
import json
import os
import sys
from difflib import get_close_matches

from dassl.utils.arguments import Parser


def parse(argv=None):
    parser = Parser(description="Classify images with a finished run.")
    parser.add_argument("run", metavar="RUN", help="output folder of the run")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, or folders of images")
    parser.add_argument(
        "--topk", metavar="N", type=int, default=5, help="number of classes, the most probable first (default 5)"
    )
    parser.add_argument("--task", metavar="NAME", help="key, name or number of a task (default: all tasks of the run)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument("--csv", action="store_true", help="print CSV: image, task, rank, class, probability (0 to 1)")
    return parser.parse_args(argv)


# ---- tasks and images ----


def chosen_tasks(space, wanted):
    """Positions of the task `wanted` (key, name, number or task<number>); of all tasks if it is None.

    Raises:
        UserError: the run has no such task.
    """
    from dassl.utils import UserError

    if wanted is None:
        return list(range(space.num_tasks))
    calls = {}
    for position, task in enumerate(space.tasks):
        for call in (f"task{task.id}", str(task.id), task.name.lower(), task.key.lower()):
            calls[call] = position
    if wanted.lower() not in calls:
        near = get_close_matches(wanted.lower(), calls, n=1, cutoff=0.6)
        hint = f"did you mean {space.tasks[calls[near[0]]].key}? " if near else ""
        there = ", ".join(f"{task.key} ({task.name})" for task in space.tasks)
        raise UserError(f"--task {wanted}: the run has no such task; {hint}it has: {there}")
    return [calls[wanted.lower()]]


def find_images(given):
    """The image files among `given`, and those in the folders among `given`.

    Raises:
        FileNotFoundError: a path that does not exist, or a folder without images.
    """
    from datasets.readers import IMAGE_ENDINGS

    found, gone = [], []
    for path in given:
        if os.path.isfile(path):
            found.append(path)
        elif os.path.isdir(path):
            inside = [
                os.path.join(where, name)
                for where, _, names in os.walk(path)
                for name in names
                if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")
            ]
            if not inside:
                gone.append(f"{path} (a folder without an image)")
            found += sorted(inside)
        else:
            gone.append(path)
    if gone:
        raise FileNotFoundError(f"no such image: {', '.join(gone[:5])}" + (", ..." if len(gone) > 5 else ""))
    return found


def predictions(trainer, paths, tasks, topk):
    """Classify the images of `paths` in batches.

    Args:
        trainer: from `dassl.runs.open.load_trainer`.
        tasks: positions of the tasks.
        topk: number of classes per task.

    Yields:
        {"image", "tasks": [{"key", "name", "classes": [{"class", "probability"}, ...]}]} per path, or {"image",
        "error"} for an image that cannot be read or classified. Probabilities sum to one over the classes of a task.
    """
    import torch

    from dassl.data.images import read_image
    from dassl.data.transforms import build_transform

    transform, space = build_transform(trainer.cfg, is_train=False), trainer.dm.space
    size = trainer.cfg.DATALOADER.TEST.BATCH_SIZE
    for start in range(0, len(paths), size):
        images, errors = [], {}
        for path in paths[start : start + size]:
            try:
                images.append(transform(read_image(path, trainer.cfg.INPUT.EXIF_ROTATE)))
            except (ValueError, OSError) as error:
                errors[path] = str(error)
        with torch.no_grad():
            logits = trainer.model_inference(torch.stack(images).to(trainer.device)) if images else ()
        rows = iter(logits)
        for path in paths[start : start + size]:
            if path in errors:
                yield {"image": path, "error": errors[path]}
                continue
            row, found = next(rows), []
            if not torch.isfinite(row).all():
                yield {"image": path, "error": f"{path}: the model gives infinite or NaN values, not probabilities"}
                continue
            for position in tasks:
                task = space.tasks[position]
                best = row[space.columns(position)].float().softmax(-1).topk(min(topk, len(task.classnames)))
                pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
                classes = [{"class": task.classnames[label], "probability": value} for value, label in pairs]
                found.append({"key": task.key, "name": task.name, "classes": classes})
            yield {"image": path, "tasks": found}


def show(found, as_json, as_csv=False):
    """Print predictions as they arrive, as text or CSV, or as JSON at the end. Returns the exit code."""
    status, rows, writer = 0, [], csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        writer.writerow(("image", "task", "rank", "class", "probability"))
    for row in found:
        if "error" in row:
            status = 2
            print(f"error: {row['error']}", file=sys.stderr)
        if as_json:
            rows.append(row)
            continue
        for task in row.get("tasks", ()):
            if as_csv:
                for rank, best in enumerate(task["classes"], 1):
                    writer.writerow((row["image"], task["key"], rank, best["class"], best["probability"]))
                continue
            classes = ", ".join(f"{c['class']} {100 * c['probability']:.1f} %" for c in task["classes"])
            print(f"{row['image']}\t{task['key']}\t{classes}")
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False))
    return status


def run(args):
    with program.starting():
        import datasets  # noqa: F401  registers the datasets
        import trainers  # noqa: F401  registers the methods and declares their settings
        from dassl.runs.open import load_trainer, read_setup
        from dassl.utils import UserError

    if args.topk < 1:
        raise UserError(f"--topk {args.topk}: expected at least 1")
    with contextlib.redirect_stdout(io.StringIO()):  # messages of loading are not predictions
        cfg, space = read_setup(args.run)
        paths, tasks = find_images(args.images), chosen_tasks(space, args.task)
        trainer = load_trainer(args.run, cfg, space)
    return show(predictions(trainer, paths, tasks, args.topk), args.json, args.csv)


@program.entry
def main(argv=None):
    return run(parse(argv))


if __name__ == "__main__":
    sys.exit(main())
