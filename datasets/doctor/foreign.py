"""A dataset class written for Dassl, in the form in which the doctor looks at datasets."""

from __future__ import annotations

import os

from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.tasks import Task
from datasets.source import SPLITS, Item, Source


class ClassSource:
    """Reads a dataset by building its class, which may write files of its own, such as a split.

    Args:
        name: the registered name.
        cfg: the configuration that the class is built with.
    """

    def __init__(self, name: str, cfg):
        self.name, self.cfg, self.task_keys = name, cfg, (name,)

    def missing(self, root: str) -> str:
        """Always "": only the class knows which files it needs."""
        return ""

    def load(self, root: str) -> Source:
        """Build the class. Raises what its constructor raises."""
        built = DATASET_REGISTRY.get(self.name)(self.cfg)
        task = Task(self.name, self.name, tuple(map(str, built.classnames)))
        root = root or os.getcwd()
        parts = {
            split: [Item(os.path.relpath(item.impath, root), int(item.label)) for item in getattr(built, name) or ()]
            for split, name in zip(SPLITS, ("train_x", "val", "test"), strict=True)
        }
        return Source(self.name, root, [task], **parts, split_from="the dataset's class")
