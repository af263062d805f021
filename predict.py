"""Classify images with a finished run: `python predict.py RUN IMAGE...`; see docs/use.md.

Prints one line per image and task: image, task, the most probable classes. Exit code: 0; 2 after a user error, with one
message. Images that cannot be read are reported, and the other images are classified.

`python predict.py RUN SHARD... -o FOLDER` writes a Parquet file per shard instead, also on a Ray cluster; see
docs/scale.md.
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
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, folders, tar or zip archives")
    parser.add_argument(
        "--topk", metavar="N", type=int, default=5, help="number of classes, the most probable first (default 5)"
    )
    parser.add_argument("--task", metavar="NAME", help="key, name or number of a task (default: all tasks of the run)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument("--csv", action="store_true", help="print CSV: image, task, rank, class, probability (0 to 1)")
    output.add_argument(
        "-o", "--output", metavar="FOLDER", help="write a Parquet file per shard: archives, folders, lists"
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="with -o: this machine, or a cluster"
    )
    parser.add_argument("--address", default="", help="with --engine ray: HOST:PORT of the cluster")
    parser.add_argument("--jobs", metavar="N", type=int, help="with --engine ray: workers at a time")
    parser.add_argument("--cpus-per-run", metavar="C", type=float, default=1, help="with --engine ray: per worker")
    parser.add_argument("--gpus-per-run", metavar="G", type=float, default=0, help="with --engine ray: per worker")
    args = parser.parse_args(argv)
    if args.engine != "local" and not args.output:
        parser.error(f"--engine {args.engine} needs -o FOLDER for the Parquet files")
    return args


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
    if args.output:
        return run_shards(args)
    model = Classifier(args.run)
    found = model.stream(args.images, args.task, args.topk)  # names of images and tasks are checked before loading
    return show(found, {task.key: task.name for task in model.space.tasks}, args.json, args.csv)


def run_shards(args):
    """Write the parts of shards, and report what cannot be read. Returns the exit code."""
    from dassl.utils import UserError, counted
    from softcpt.shards import UNREADABLE, make_parts, on_this_machine

    engine = on_this_machine
    if args.engine == "ray":
        try:
            from softcpt.on_ray import ray_engine
        except ImportError as error:
            raise UserError(f"--engine ray: {error}; pip install -r requirements-ray.txt") from None
        engine = ray_engine(args.address, args.cpus_per_run, args.gpus_per_run, args.jobs)
    images, unreadable, failed = make_parts(args.run, args.images, args.output, args.task, args.topk, engine)
    print(
        f"{counted(images, 'image')} in {args.output}"
        + (f", {unreadable} unreadable: {UNREADABLE}" if unreadable else "")
    )
    for one in failed:
        print(f"error: {one.name}: {one.error}", file=sys.stderr)
    return 2 if failed or unreadable else 0


@program.entry
def main(argv=None):
    return run(parse(argv))


if __name__ == "__main__":
    sys.exit(main())
