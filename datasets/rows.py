"""The dataset of one row as a source: whether it is there, its tasks and its split."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from dassl.data.tasks import Task
from dassl.utils.errors import UserError, is_user_error
from datasets import splits
from datasets.classnames import in_words
from datasets.folders import first_line
from datasets.known.row import Row
from datasets.readers import shipped_templates
from datasets.source import Item, Source
from datasets.splits import Split


class RowSource:
    """Finds and reads the dataset of one row.

    Args:
        row: the dataset.
    """

    def __init__(self, row: Row):
        self.row = row
        self.task_keys = row.task_keys or (row.name,)
        self.test_only = row.rule == "test-only"  # as a shifted test set
        self.train_folders = row.train_folders

    def split_file(self, root: str) -> Path | None:
        """The split file in use: a published one, else the one that was made earlier, else None."""
        folder = Path(root, self.row.folder)
        names = (*self.row.split_files, splits.fixed_name(self.row.name))
        return next((folder / name for name in names if (folder / name).is_file()), None)

    def absent(self, root: str, train: bool = True) -> list[str]:
        """Folders ("images/") and files that are not in the dataset's folder below the data root.

        Args:
            root: the data root.
            train: whether to include folders that only training needs.
        """
        row = self.row
        place = Path(root, row.folder)
        files = () if self.split_file(root) else row.needs
        spared = () if train else row.train_folders
        folders = [folder for folder in row.image_folders or (row.images,) if folder not in spared]
        gone = [f"{folder}/" for folder in folders if not (place / folder).is_dir()]
        return gone + [file for file in files if not (place / file).is_file()]

    def missing(self, root: str, train: bool = False) -> str:
        """What is missing, in a line; "" if nothing is.

        Args:
            root: the data root, "" for none.
            train: whether images that only training needs, in a folder of their own, have to be there too.
        """
        if not root:
            return "DATASET.ROOT is not set (--root)"
        place = Path(root, self.row.folder)
        if not place.is_dir():
            return f"no folder {place}"
        gone = self.absent(root, train)
        return f"not in {place}: {', '.join(gone)}" if gone else ""

    def load(self, root: str) -> Source:
        """Read tasks and split. Without a split file a rule makes the split, and the source's `save` saves it.

        Raises:
            FileNotFoundError: images of the split are missing.
            ValueError: classes or labels contradict the row or each other.
        """
        row, folder = self.row, Path(root, self.row.folder)
        path = self.split_file(root)
        where = str(path) if path else str(folder / row.images)
        if path:
            split, listed = splits.read_split(path, len(self.task_keys)), False
        else:
            try:
                raw = row.read(row, folder)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                if is_user_error(error):
                    raise
                text = f"{type(error).__name__}: {error}"  # readers of damaged annotations raise nearly anything
                raise UserError(f"its files in {folder} are damaged ({text}); download them again") from None
            split, listed = splits.by_rule(raw, row.rule), raw.listed
        self._check_classes(where, split)
        splits.check_labels(f"{row.name} ({where})", split)
        if path:
            splits.check_once(f"{row.name} ({where})", split, range(len(self.task_keys)) if row.tagging else ())
        if not split.test or not (split.train or self.test_only or self.absent(root)):
            raise ValueError(f"{row.name} ({where}): no image to {'train' if split.test else 'test'} on was found")
        if not listed:
            splits.check_files(f"{row.name} ({where})", folder / row.images, split)
        prefix = "/".join(part for part in (row.folder, row.images) if part)
        parts = {part: getattr(split, part) for part in splits.SPLITS}
        for items in parts.values():
            for i, item in enumerate(items):  # in place, since ImageNet has 1.3 million
                items[i] = Item(f"{prefix}/{item.path}", *item[1:])
        source = Source(row.name, root, self._tasks(folder, split), **parts)
        source.split_from = path.name if path else splits.RULES[row.rule]
        if path is None and row.rule not in splits.SAVED_NOWHERE:
            source.save = partial(self._save, folder, split, len(prefix) + 1)
        return source

    def _check_classes(self, where: str, split: Split) -> None:
        row, counts = self.row, [len(names) for names in split.classnames]
        if len(counts) != len(self.task_keys):
            raise ValueError(f"{row.name} ({where}): found {len(counts)} tasks, expected {len(self.task_keys)}")
        if sum(counts) != row.classes:
            names = [name for task in split.classnames for name in task]
            known = {*row.rename, *row.rename.values()} if len(row.rename) == row.classes else set(names)
            odd = [name for name in names if name not in known]
            hint = f"; first ones: {', '.join(names[:5])}" if names else ""
            hint = f"; not among the expected ones: {', '.join(odd[:5])}" if odd else hint
            raise ValueError(f"{row.name} ({where}): found {sum(counts)} classes, expected {row.classes}{hint}")

    def _save(self, folder: Path, split: Split, start: int) -> None:
        """Save a split that a rule made. The first `start` characters of each path are left out."""
        path = folder / splits.fixed_name(self.row.name)
        try:
            splits.write_fixed(path, self.row.name, self.row.rule, split, start)
            print(f"{self.row.name}: split made ({splits.RULES[self.row.rule]}) and saved as {path}")
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            print(
                f"{self.row.name}: split made but not saved in {folder} ({reason}); the run continues, since the rule "
                "always gives the same split"
            )

    def _tasks(self, folder: Path, split: Split) -> list[Task]:
        row, tasks = self.row, []
        for i, key in enumerate(self.task_keys):
            name, description = split.task_names.get(i) or row.task_name or key, split.descriptions.get(i)
            if not row.task_keys:
                name = first_line(folder / "task_name.txt") or name
                description = first_line(folder / "task_desc.txt") or description or row.description
            names = tuple(in_words(row.rename.get(name, name)) for name in split.classnames[i])
            templates = (row.templates[i] if row.templates else row.template,)
            if row.hub and row.hub.shards:
                templates = shipped_templates(folder) or templates
            task = Task(key, in_words(name), names, row.metric, templates, description or "", task_of=row.task_of)
            tasks.append(task)
        return tasks
