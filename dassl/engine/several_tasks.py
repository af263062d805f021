"""Trainers written for one task, on data of several tasks."""

from dassl.utils.errors import UserError


def _of_all_keys(name):
    """A dict's method that goes through the whole batch, and so reads every entry."""

    def method(batch):
        batch.seen.update(dict.keys(batch))
        return getattr(dict, name)(batch)

    return method


class WatchedBatch(dict):
    """A batch that notes which of its entries are read: `seen` is a set of keys."""

    def __init__(self, batch):
        super().__init__(batch)
        self.seen = set()

    def __getitem__(self, key):
        self.seen.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.seen.add(key)
        return super().get(key, default)

    __iter__, keys, values, items = map(_of_all_keys, ("__iter__", "keys", "values", "items"))


def watched(trainer, batch):
    """`batch`, as a WatchedBatch if there are several tasks and the labels are numbers within a task."""
    space = getattr(trainer.dm, "space", None)
    if space is None or space.num_tasks == 1 or not isinstance(batch, dict) or "task" not in batch:
        return batch
    return WatchedBatch(batch) if getattr(batch.get("label"), "ndim", 0) == 1 else batch


def check_tasks_read(trainer, batch):
    """Raise UserError if a step on a WatchedBatch read labels without their tasks: it has mixed up the classes."""
    if isinstance(batch, WatchedBatch) and "label" in batch.seen and "task" not in batch.seen:
        name, tasks = type(trainer).__name__, trainer.dm.space.num_tasks
        raise UserError(
            f"{name} trains on one task, {trainer.cfg.DATASET.NAME} has {tasks}: it does not read batch['task'], and "
            "batch['label'] is the class within the task. Choose one task: DATASET.SUBSAMPLE_TASKS task<i> "
            "TEST.EVALUATOR Classification. Or change the trainer to take the column of the class among those of all "
            "tasks: self.dm.space.column(batch['task'], batch['label'])"
        )
