"""Task and TaskSpace: the tasks of a run, their classes, and the columns of the logits that belong to each task.

A suite of T tasks with C_0, C_1, ... classes has N = sum of C_t classes. Logits are (B, N): the columns of task 0 come
first, then the columns of task 1, and so on. A batch contains `task` (B,), the position of each image's task in the
current `TaskSpace`, and `label` (B,), the class of each image within its task. Where an image may have several labels,
`label` is (B, N), see `TaskSpace.encode`: a label in each of several tasks, or several classes of one tagging task.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from string import Formatter

import torch
from torch import Tensor

from dassl.config.files import parse_yaml
from dassl.metrics import METRICS
from dassl.utils.errors import UserError, did_you_mean, nearest

DEFAULT_TEMPLATES = ("a photo of a {}.",)


@dataclass(frozen=True)
class Task:
    """One classification task.

    Args:
        key: registered name of the dataset, or key of the task within its suite ("OxfordPets", "faces").
        name: the task name in words, which task-aware prompts read ("facial expressions").
        classnames: C names. The position of a name is its label. Names may repeat.
        metric: name of the task's metric in dassl.metrics: "overall_acc", "mean_acc", "macro_f1", ... A metric of tags,
            such as "mAP", makes it a tagging task: each of its images has one or several classes.
        templates: zero-shot prompts, each with one "{}" for the class name.
        description: a longer text about the task.
        id: number of the task in its full suite. Subsets keep it, logs show it.
        task_of: if this task is a shifted test set: key of the task it shifts ("ImageNet" for ImageNetV2), else "".

    Raises:
        ValueError: no class, an unknown metric, more than two classes for "roc_auc", or a template without "{}".
    """

    key: str
    name: str
    classnames: tuple[str, ...]
    metric: str = "overall_acc"
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    description: str = ""
    id: int = 0
    task_of: str = ""

    @property
    def owner(self) -> str:
        """Key of the task for which parameters of this task are learned; checkpoints store them under this key."""
        return self.task_of or self.key

    @property
    def tagging(self) -> bool:
        """Whether an image may have several classes of this task; all others are absent."""
        return METRICS.get(self.metric).tags

    def __post_init__(self):
        for field in ("classnames", "templates"):
            if isinstance(getattr(self, field), str):
                raise ValueError(f"task {self.key!r}: {field} must be a list of strings, found one string")
            object.__setattr__(self, field, tuple(getattr(self, field)))  # lists are accepted too
        if not self.classnames:
            raise ValueError(f"task {self.key!r} has no class; a task needs at least one class name")
        odd = [c for c in self.classnames if not isinstance(c, str)]
        if odd:
            raise ValueError(f"task {self.key!r}: class names must be strings, found {odd[0]!r}; quote it in YAML")
        if self.metric not in (known := METRICS.declarable()):
            hint = did_you_mean(self.metric, known)
            raise ValueError(f"task {self.key!r}: metric {self.metric!r} is not one of {', '.join(known)}{hint}")
        if self.metric == "roc_auc" and len(self.classnames) > 2:
            raise ValueError(f"task {self.key!r}: metric roc_auc is for two classes, found {len(self.classnames)}")
        bad = [t for t in self.templates if not is_template(t)]
        if bad or not self.templates:
            found = repr(bad[0]) if bad else "none"
            raise ValueError(f"task {self.key!r}: a template needs one '{{}}' for the class name, found {found}")


@dataclass(frozen=True)
class TaskSpace:
    """The tasks of a run, in order, with their sizes, columns and names.

    Args:
        tasks: T tasks. The position of a task is its number in `batch["task"]`.

    Raises:
        ValueError: no task.
    """

    tasks: tuple[Task, ...]

    def __post_init__(self):
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if not self.tasks:
            raise ValueError("a TaskSpace needs at least one task, found none")

    @staticmethod
    def single(classnames: Sequence[str], key: str = "", name: str = "", **fields) -> TaskSpace:
        """A space with one task; `fields` are further arguments of `Task`."""
        return TaskSpace((Task(key=key, name=name or key, classnames=tuple(classnames), **fields),))

    # ---- as plain values ----

    def plain(self) -> list[dict]:
        """The tasks as values for JSON."""
        return [asdict(task) for task in self.tasks]

    @staticmethod
    def from_plain(tasks: Sequence[Mapping]) -> TaskSpace:
        """Inverse of `plain()`.

        Raises:
            ValueError: `tasks` is malformed.
        """
        try:
            space = TaskSpace(tuple(Task(**task) for task in tasks))
        except TypeError as error:
            raise ValueError(f"not the plain values of tasks: {error}") from None
        for task in space.tasks:
            texts = (task.key, task.name, task.description, task.task_of)
            if type(task.id) is not int or not all(isinstance(text, str) for text in texts):
                raise ValueError("not the plain values of tasks: expected texts, and a whole number as id")
        return space

    def positions(self, task: str | int | None) -> list[int]:
        """Positions of the task with this key, name or number; of all tasks for None.

        Raises:
            UserError: there is no such task.
        """
        if task is None:
            return list(range(self.num_tasks))
        calls, wanted = {}, str(task).lower()
        for position, one in enumerate(self.tasks):
            for call in (f"task{one.id}", str(one.id), one.name.lower(), one.key.lower()):
                calls[call] = position
        if wanted not in calls:
            near = nearest(wanted, calls)
            hint = f"did you mean {self.tasks[calls[near]].key}? " if near else ""
            there = ", ".join(f"{one.key} ({one.name})" for one in self.tasks)
            raise UserError(f"task {task}: the run has no such task; {hint}it has: {there}")
        return [calls[wanted]]

    # ---- sizes and columns ----------------------------------------------------------------------------------------

    @property
    def num_tasks(self) -> int:
        """T."""
        return len(self.tasks)

    @property
    def num_classes(self) -> int:
        """N, number of classes of all tasks."""
        return self.offsets[-1]

    @cached_property
    def sizes(self) -> list[int]:
        """Number of classes of each task: T numbers."""
        return [len(task.classnames) for task in self.tasks]

    @cached_property
    def offsets(self) -> list[int]:
        """T + 1 numbers: task t owns columns offsets[t] to offsets[t + 1] - 1."""
        return list(accumulate(self.sizes, initial=0))

    @cached_property
    def classnames(self) -> tuple[str, ...]:
        """N class names in column order."""
        return tuple(name for task in self.tasks for name in task.classnames)

    @cached_property
    def lab2cname(self) -> dict[int, str]:
        """{column: class name}; with one task {label: class name}."""
        return dict(enumerate(self.classnames))

    @cached_property
    def task_of_column(self) -> Tensor:
        """LongTensor (N,): the task of each column."""
        return torch.repeat_interleave(torch.arange(self.num_tasks), torch.tensor(self.sizes))

    @cached_property
    def tagging(self) -> Tensor | None:
        """BoolTensor (T,): which tasks are tagging tasks; None if no task is."""
        found = [task.tagging for task in self.tasks]
        return torch.tensor(found) if any(found) else None

    @cached_property
    def _starts(self) -> Tensor:
        return torch.tensor(self.offsets[:-1])

    def columns(self, t: int) -> slice:
        """Columns of task t in (B, N) logits. Raises IndexError unless 0 <= t < T."""
        if not 0 <= t < self.num_tasks:
            raise IndexError(f"task {t} is not in 0..{self.num_tasks - 1}")
        return slice(self.offsets[t], self.offsets[t + 1])

    def column(self, task: Tensor, label: Tensor) -> Tensor:
        """Column of each sample's class. task (B,), label (B,) within the task -> LongTensor (B,)."""
        return self._starts.to(task.device)[task] + label

    def of_column(self, column: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `column`: LongTensor (R,) -> task (R,), label (R,) within the task."""
        task = self.task_of_column.to(column.device)[column]
        return task, column - self._starts.to(column.device)[task]

    def mask(self, task: Tensor) -> Tensor:
        """Mask of the columns of each sample's task. task (B,) -> BoolTensor (B, N)."""
        return self.task_of_column.to(task.device)[None, :] == task[:, None]

    # ---- several labels an image, in the form of the published SoftCPT code ----

    def encode(self, labels: Sequence[tuple[int, int]]) -> Tensor:
        """The (task, label) pairs of one image as LongTensor (N,): 1 its classes, 0 others of its tasks, else -1."""
        coded = torch.full((self.num_classes,), -1)
        for task, _ in labels:
            coded[self.columns(task)] = 0
        for task, label in labels:
            coded[self.offsets[task] + label] = 1
        return coded

    def decode(self, coded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The R labels of B images from labels (B, N) as `encode` gives them.

        Returns: image (R,), the position of each label's image in the batch, ascending; task (R,); label (R,) within
            the task. A task that an image has no label of gives no row. A tagging task gives one row per image, with
            the first of its classes; `tags` has them all.

        Raises:
            UserError: no image has a label.
        """
        image, column = coded.eq(1).nonzero(as_tuple=True)
        if not len(image):
            raise UserError(
                f"none of the {len(coded)} images of a batch has a label; leave such images out of the data"
            )
        task, label = self.of_column(column)
        if self.tagging is not None:
            first = torch.ones_like(image, dtype=torch.bool)
            first[1:] = (image[1:] != image[:-1]) | (task[1:] != task[:-1])
            image, task, label = image[first], task[first], label[first]
        return image, task, label

    def tags(self, coded: Tensor, image: Tensor, task: Tensor) -> Tensor:
        """Classes of the rows of `decode` as BoolTensor (R, N): coded (B, N), image (R,), task (R,)."""
        return coded[image].eq(1) & self.mask(task)

    # ---- parts ----------------------------------------------------------------------------------------------------

    def subset(self, tasks: Sequence[int]) -> TaskSpace:
        """The space of the tasks at the given positions, in the given order. Tasks keep their `id`.

        Raises:
            ValueError: a position does not exist or repeats, or `tasks` is empty.
        """
        tasks = list(tasks)
        bad = [t for t in tasks if not 0 <= t < self.num_tasks]
        if bad:
            raise ValueError(f"unknown task {bad[0]}: this suite has tasks 0 to {self.num_tasks - 1}")
        if len(set(tasks)) != len(tasks):
            raise ValueError(f"a task may be chosen only once, found {tasks}")
        return TaskSpace(tuple(self.tasks[t] for t in tasks))


def is_template(text):
    """Whether a text is a template: one {} for the class name, and no other braces unless they are doubled."""
    try:
        fields = [parts[1:] for parts in Formatter().parse(text) if parts[1] is not None]
    except (ValueError, TypeError):  # a single brace; not a text
        return False
    return fields == [("", "", None)]


def read_tasks(value):
    """Convert a value of DATASET.TASKS from YAML or the command line to a list of names and mappings.

    The value is one name, names separated by commas, one mapping, or a list. A text that begins with [ or { is YAML:
    "[{ROOT: photos, TASK_NAME: animals}, OxfordPets]".

    Raises:
        TypeError: a text that is not valid YAML.
    """
    if isinstance(value, str):
        start = value.lstrip()[:1]
        try:
            if start == "(":
                value = ast.literal_eval(value)
            elif start in ("[", "{"):
                value = parse_yaml(value)
            else:
                value = [name.strip() for name in value.split(",") if name.strip()]
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise TypeError(f"expected a list such as [{{ROOT: photos}}, OxfordPets], not readable: {reason}") from None
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)):
        return value  # a wrong type is reported where the types of all settings are checked
    return [_with_text_labels(entry) if isinstance(entry, Mapping) else entry for entry in value]


def read_task_names(value):
    """Convert a value of DATASET.TASK_NAMES, a mapping or its text, to a list of mappings with one entry each.

    Raises:
        TypeError: a text that is not valid YAML.
    """
    if isinstance(value, str):
        try:
            value = parse_yaml(value) or []
        except UserError as error:
            reason = " ".join(str(error).split())
            raise TypeError(f"expected a mapping such as {{OxfordPets: breeds}}, not readable: {reason}") from None
    return [{key: name} for key, name in value.items()] if isinstance(value, Mapping) else value


def _with_text_labels(entry: Mapping) -> dict:
    """An entry of DATASET.TASKS with the integer labels of its CLASSNAMES as text, as JSON needs them."""
    entry = dict(entry)
    if isinstance(inner := entry.get("TASKS"), Mapping):  # one mapping per task
        entry["TASKS"] = {str(key): _with_text_labels(t) if isinstance(t, Mapping) else t for key, t in inner.items()}
    names = entry.get("CLASSNAMES")
    if isinstance(names, Mapping):
        entry["CLASSNAMES"] = {str(k) if type(k) is int else k: v for k, v in names.items()}
    return entry
