"""Test without knowing the task of an image: predict one of the classes of all tasks."""

import torch

from dassl.config import declare
from dassl.utils.errors import UserError

declare(
    "TEST.TASK_KNOWN",
    True,
    help="False: report also how often a prediction among the classes of all tasks has the right task and class",
)
NAMES = ("task_acc", "joint_acc")


class TaskUnknown:
    """Counts how often the largest of all N logits is a class of the image's task, and its class.

    Args:
        space: TaskSpace, whose columns are those of the logits.
    """

    def __init__(self, space):
        self.space = space
        self.counts = torch.zeros(3, space.num_tasks, dtype=torch.long)  # images, right tasks, right classes

    def process(self, logits, label, task):
        """Take a batch: logits (B, N), label (B,) within the task, task (B,).

        Raises:
            UserError: an infinite or NaN logit.
        """
        logits, label, task = logits.detach().float().cpu(), label.cpu(), task.cpu()
        if not logits.isfinite().all():
            raise UserError(
                "TEST.TASK_KNOWN False: this method has no finite logits over the classes of all tasks; leave it True"
            )
        found = logits.argmax(1)
        right = self.space.task_of_column[found] == task, found == self.space.column(task, label)
        for row, hits in zip(self.counts, (torch.ones_like(task), *right), strict=True):
            row.index_add_(0, task, hits.long())

    def report(self):
        """{"tasks": [{id, key, images, task_acc, joint_acc}], "mean": {task_acc, joint_acc}}, in per cent.

        A task without images has None; the mean is the unweighted mean over the other tasks.
        """
        tasks = []
        for task, (images, of_task, of_class) in zip(self.space.tasks, self.counts.T.tolist(), strict=True):
            right = zip(NAMES, (of_task, of_class), strict=True)
            values = {name: 100.0 * hits / images if images else None for name, hits in right}
            tasks.append({"id": task.id, "key": task.key, "images": images, **values})
        known = [row for row in tasks if row["images"]]
        means = {name: sum(row[name] for row in known) / len(known) if known else None for name in NAMES}
        return {"tasks": tasks, "mean": means}

    def show(self, by_task=True):
        """Print the report and return it."""
        report = self.report()
        for row in report["tasks"] if by_task else ():
            if row["images"]:
                print(f"Task unknown, {row['key']}: {_text(row)}")
        if report["mean"]["task_acc"] is not None:
            print(f"Task unknown, mean over tasks: {_text(report['mean'])}")
        return report


def _text(values):
    return f"right task {values['task_acc']:.2f}%, right task and class {values['joint_acc']:.2f}%"
