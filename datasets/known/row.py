"""A row describes a dataset: its place, how it is read and divided, and the texts that the model receives.

A row is the whole definition of a dataset. Its registered class is generated from the row (`datasets/dataset.py`).
`readers.py` reads the data and `splits.py` divides them. Paths are relative: `folder` to DATASET.ROOT, all others to
`folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from dassl.metrics import METRICS
from dassl.utils.errors import UserError, did_you_mean
from datasets.known.remote import Hub, RemoteFile
from datasets.source import Raw
from datasets.splits import RULES

NO_CHANGE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Row:
    """A dataset.

    Attributes:
        name: the registered name.
        folder: the dataset's folder.
        images: folder to which the paths in split files are relative; "" is `folder` itself.
        classes: number of classes of all tasks.
        read: reader of the raw data, called if there is no split file.
        rule: key of `splits.RULES`: the rule that divides the raw data.
        task_name: name of the task, an input of the model; `task_name.txt` in `folder` overrides it.
        subject: subject of the images, for the description; `task_desc.txt` in `folder` overrides the description.
        template: zero-shot prompt. With several tasks use `templates`, one per task.
        metric: "overall_acc", "mean_acc", "roc_auc" (two classes), or of a tagging task "mAP" or "mAP_11_points".
        needs: files that the reader reads; not required if there is a split file.
        image_folders: folders that must exist; by default `images`.
        train_folders: folders of `image_folders` that only training needs.
        skip: folders among the class folders that are not classes.
        rename: {class name in the data: class name in prompts}; in other names underscores become spaces.
        split_files: published split files, in the order in which they are searched for.
        task_keys: keys of the tasks if there are several.
        task_of: the dataset of which this is a shifted test set; contexts learned for its task are used here.
        source: where to get the data, for people.
        files: files that `python -m datasets.download` downloads, or tells how to download.
        hub: its repository on the Hugging Face hub.
        by_hand: steps after a download by hand, if unpacking is not enough; {folder} is the dataset's folder.
        published_images: number of images of the published dataset, in all splits.
        download_size: size of the download in words, if `files` does not tell.
        other_folders: names that the archive or other software gives to `folder`.
    """

    name: str
    folder: str
    images: str
    classes: int
    read: Callable[[Row, Path], Raw]
    rule: str
    task_name: str
    subject: str
    template: str = "a photo of a {}."
    metric: str = "overall_acc"
    needs: tuple[str, ...] = ()
    image_folders: tuple[str, ...] = ()
    train_folders: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=lambda: NO_CHANGE)
    split_files: tuple[str, ...] = ()
    task_keys: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    task_of: str = ""
    source: str = ""
    files: tuple[RemoteFile, ...] = ()
    hub: Hub | None = None
    by_hand: str = ""
    published_images: int = 0
    download_size: str = ""
    other_folders: tuple[str, ...] = ()

    def __post_init__(self):
        if self.rule not in RULES:
            hint = did_you_mean(self.rule, list(RULES))
            raise UserError(
                f"datasets/known: {self.name}: unknown split rule {self.rule!r}{hint}; known: {', '.join(RULES)}"
            )

    @property
    def tagging(self) -> bool:
        """Whether an image may have several classes."""
        return METRICS.get(self.metric).tags

    @property
    def description(self) -> str:
        """The task in a sentence, in the style of the published example."""
        return f"classify {self.subject} images into {self.classes} categories"


def published_splits(name: str, dk: str = "", zhou: bool = True) -> tuple[str, ...]:
    """Names of the split files that SoftCPT (`split_dk_*`) and, if `zhou`, CoOp (`split_zhou_*`) use for `name`."""
    return (f"split_dk_{dk or name}.json", *([f"split_zhou_{name}.json"] if zhou else []))
