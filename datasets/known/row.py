"""What is known of a dataset: where it lies, how it is read and divided, and what the model is told about it.

A row is all there is to a dataset; its registered class is generated from it (`suites.py`), the reading is done by
`readers.py`, the dividing by `splits.py`. Paths are relative: `folder` to DATASET.ROOT, everything else to `folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from datasets.known.remote import RemoteFile
from datasets.source import Raw

NO_CHANGE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Row:
    """A dataset.

    Attributes:
        name: the registered name.
        folder: the dataset's folder.
        images: folder that the paths in split files start from; "" is `folder` itself.
        classes: number of classes, of all tasks together.
        read: reader of the raw data, called where there is no split file.
        rule: key of `splits.RULES`, how the raw data are divided.
        task_name: the task in words, a model input; `task_name.txt` in `folder` wins.
        subject: what is classified, for the description; `task_desc.txt` in `folder` wins.
        template: zero-shot prompt. `templates`, one a task, takes its place where there are several tasks.
        metric: "overall_acc" or "mean_acc".
        needs: files that the reader reads.
        image_folders: folders that must be there; by default `images`.
        train_folders: those of them that only training needs.
        skip: class folders that are no classes.
        rename: class names that are changed; of all others only underscores are.
        split_files: published split files, in the order in which they are looked for.
        task_keys: keys of the tasks where there are several.
        task_of: dataset that this one is a shifted test set of; what was learned for its task serves here.
        source: where to get what, for people.
        files: what `python -m datasets.download` fetches, or tells how to fetch.
        mirrors: pages of others that have the dataset, for when the files are gone.
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
    mirrors: tuple[str, ...] = ()
    by_hand: str = ""
    published_images: int = 0
    download_size: str = ""
    other_folders: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """The task in a sentence, in the style of the one published example."""
        return f"classify {self.subject} images into {self.classes} categories"


def published_splits(name: str, dk: str = "", zhou: bool = True) -> tuple[str, ...]:
    """Names of the split files that SoftCPT (`split_dk_*`) and, if `zhou`, CoOp (`split_zhou_*`) use for `name`."""
    return (f"split_dk_{dk or name}.json", *([f"split_zhou_{name}.json"] if zhou else []))
