"""Classify images with a finished run: `python predict.py RUN IMAGE...`; see docs/use.md.

Prints one line per image and task: image, task, the most probable classes. Exit code: 0; 2 after a user error, with one
message. Images that cannot be read are reported, and the other images are classified.
"""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before all other imports

import csv
import json
import sys

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


def show(found, names, as_json, as_csv=False):
    """Print predictions as they arrive, as text or CSV, or as JSON at the end. Returns the exit code.

    Args:
        found: for each image its records, from `Classifier.stream`.
        names: {key of a task: its name}.
    """
    status, rows, writer = 0, [], csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        writer.writerow(("image", "task", "rank", "class", "probability"))
    for records in found:
        image, error = records[0].path, records[0].error
        if error:
            status = 2
            print(f"error: {error}", file=sys.stderr)
            rows.append({"image": image, "error": error})
            continue
        if as_json:
            rows.append({"image": image, "tasks": [as_plain(one, names) for one in records]})
            continue
        for one in records:
            if as_csv:
                for rank, (name, probability) in enumerate(one.classes, 1):
                    writer.writerow((image, one.task, rank, name, probability))
                continue
            classes = ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in one.classes)
            print(f"{image}\t{one.task}\t{classes}")
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False))
    return status


def as_plain(record, names):
    """The values of a record for JSON."""
    classes = [{"class": name, "probability": probability} for name, probability in record.classes]
    return {"key": record.task, "name": names[record.task], "classes": classes}


def run(args):
    with program.starting():
        from dassl.utils import UserError
        from softcpt import Classifier

    if args.topk < 1:
        raise UserError(f"--topk {args.topk}: expected at least 1")
    model = Classifier(args.run)
    found = model.stream(args.images, args.task, args.topk)  # names of images and tasks are checked before loading
    return show(found, {task.key: task.name for task in model.space.tasks}, args.json, args.csv)


@program.entry
def main(argv=None):
    return run(parse(argv))


if __name__ == "__main__":
    sys.exit(main())
