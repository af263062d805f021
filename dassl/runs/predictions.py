"""Write predictions.csv: for each tested image and task the label and the most probable classes."""

import csv
import os
from collections import Counter
from itertools import chain

from dassl.data.views import path_key
from dassl.runs.record import PREDICTIONS
from dassl.utils import atomic_write
from dassl.utils.tools import without_home

DIGITS = 6  # after the decimal point of a probability


def record_predictions(trainer):
    """Write predictions.csv of a trainer's test, unless TEST.PREDICTIONS is off or the paths of images are unknown."""
    tasks = getattr(trainer.evaluator, "predictions", list)()
    tagging = [task.key for task in getattr(getattr(trainer.dm, "space", None), "tasks", ()) if task.tagging]
    if trainer.cfg.TEST.PREDICTIONS and tagging:
        print(f"{PREDICTIONS} leaves out tagging tasks, whose images have no single label: {', '.join(tagging)}")
    if not trainer.cfg.TEST.PREDICTIONS or not tasks:
        return
    if len(trainer.test_paths) <= max(task["positions"].max(initial=-1) for task in tasks):
        print(f"{PREDICTIONS} is not written: the batches of the test have no 'impath', the paths of their images")
        return
    loader = trainer.split_loader(trainer.cfg.TEST.SPLIT)
    root = getattr(getattr(loader, "dataset", None), "image_root", "")
    write_predictions(trainer.cfg.OUTPUT_DIR, tasks, [path_key(path, root) for path in trainer.test_paths])


def write_predictions(folder, tasks, paths):
    """Write the predictions of a test to predictions.csv, by task and path.

    Columns: path, task (its key), label, class1, probability1, class2, ... of the most probable classes. Of two classes
    of a task with the same name, both have their number added, so that names are enough to compare.

    Args:
        folder: folder of the run.
        tasks: `predictions()` of an evaluator.
        paths: paths of the images in the order of the test, relative ones below the folder of the data.
    """
    width = max((sum(task["classes"].max(0, initial=-1) >= 0) for task in tasks), default=0)
    with atomic_write(os.path.join(folder, PREDICTIONS)) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        head = ((f"class{rank}", f"probability{rank}") for rank in range(1, width + 1))
        writer.writerow(("path", "task", "label", *chain.from_iterable(head)))
        for task in tasks:
            names = [*distinct(task["classnames"]), ""]  # "" is number -1: the task has fewer classes
            images = [paths[position] for position in task["positions"].tolist()]
            images = [without_home(path) if os.path.isabs(path) else path for path in images]
            columns = [images, [task["key"]] * len(images), map(names.__getitem__, task["labels"].tolist())]
            for rank in range(width):
                classes = task["classes"][:, rank].tolist()
                values = task["probabilities"][:, rank].astype("float64").round(DIGITS).tolist()
                if len(names) - 1 <= rank:
                    values = [""] * len(values)
                columns += [map(names.__getitem__, classes), values]
            writer.writerows(sorted(zip(*columns, strict=True), key=lambda row: row[0]))


def distinct(names):
    """The names of a task's classes; a name that repeats becomes "name (number of the class)"."""
    count = Counter(names)
    return [name if count[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)]
