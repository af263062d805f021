"""What is to be learned: tasks, their classes, and the columns of the logits they own.

A suite of T tasks with C_0, C_1, ... classes has N = sum of C_t classes. Logits are (B, N): the columns of task 0 come
first, then those of task 1, and so on. A batch carries `task` (B,), the position of each image's task in the current
`TaskSpace`, and `label` (B,), its class within that task.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import accumulate
from types import MappingProxyType

import torch
import yaml
from torch import Tensor

from dassl.metrics import METRICS

DEFAULT_TEMPLATES = ("a photo of a {}.",)


@dataclass(frozen=True)
class Task:
    """One classification task.

    Args:
        key: registered name of the dataset, or the task's own key within its suite ("OxfordPets", "faces").
        name: the task name in words; task-aware prompts read it ("facial expressions").
        classnames: C names; the position of a name is its label. Names may repeat.
        metric: name of the metric in dassl.metrics that counts for the task: "overall_acc", "mean_acc", "macro_f1", ...
        templates: zero-shot prompts, each with one "{}" for the class name.
        description: a longer text about the task.
        id: number of the task in its full suite. Subsets keep it, logs show it.
        task_of: key of the task that this one is a shifted test set of ("ImageNet" for ImageNetV2), "" for itself.

    Raises:
        ValueError: no class, an unknown metric, or a template without "{}".
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
        """What a learner remembers the task's own parameters by: the key of the task they were learned for."""
        return self.task_of or self.key

    def __post_init__(self):
        for field in ("classnames", "templates"):
            if isinstance(getattr(self, field), str):
                raise ValueError(f"task {self.key!r}: {field} must be a list of strings, found one string")
            object.__setattr__(self, field, tuple(getattr(self, field)))  # lists are welcome too
        if not self.classnames:
            raise ValueError(f"task {self.key!r} has no class; a task needs at least one class name")
        odd = [c for c in self.classnames if not isinstance(c, str)]
        if odd:
            raise ValueError(f"task {self.key!r}: class names must be strings, found {odd[0]!r}; quote it in YAML")
        if self.metric not in (known := METRICS.declarable()):
            raise ValueError(f"task {self.key!r}: metric {self.metric!r} is not one of {', '.join(known)}")
        bad = [t for t in self.templates if t.count("{}") != 1]
        if bad or not self.templates:
            found = repr(bad[0]) if bad else "none"
            raise ValueError(f"task {self.key!r}: a template needs one '{{}}' for the class name, found {found}")


@dataclass(frozen=True)
class TaskSpace:
    """The tasks of a run, in order, and everything that follows from them.

    Args:
        tasks: T tasks; their position is the number that batches carry as `task`.

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
        """A space of one task; `fields` are further arguments of `Task`."""
        return TaskSpace((Task(key=key, name=name or key, classnames=tuple(classnames), **fields),))

    # ---- as plain values ----

    def plain(self) -> list[dict]:
        """The tasks as values that JSON can write."""
        return [asdict(task) for task in self.tasks]

    @staticmethod
    def from_plain(tasks: Sequence[Mapping]) -> TaskSpace:
        """The space whose `plain()` this is.

        Raises:
            TypeError, ValueError: it is none.
        """
        return TaskSpace(tuple(Task(**task) for task in tasks))

    # ---- sizes and columns ----------------------------------------------------------------------------------------

    @property
    def num_tasks(self) -> int:
        """T."""
        return len(self.tasks)

    @property
    def num_classes(self) -> int:
        """N, classes of all tasks together."""
        return self.offsets[-1]

    @cached_property
    def sizes(self) -> list[int]:
        """Classes of each task: T numbers."""
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
    def task_of_column(self) -> Tensor:
        """LongTensor (N,): the task each column belongs to."""
        return torch.repeat_interleave(torch.arange(self.num_tasks), torch.tensor(self.sizes))

    @cached_property
    def _starts(self) -> Tensor:
        return torch.tensor(self.offsets[:-1])

    def columns(self, t: int) -> slice:
        """Columns of task t in (B, N) logits. A task that is not there is an IndexError, also a negative one."""
        if not 0 <= t < self.num_tasks:
            raise IndexError(f"task {t} is not in 0..{self.num_tasks - 1}")
        return slice(self.offsets[t], self.offsets[t + 1])

    def column(self, task: Tensor, label: Tensor) -> Tensor:
        """Column of each sample's own class. task (B,), label (B,) within the task -> LongTensor (B,)."""
        return self._starts.to(task.device)[task] + label

    def mask(self, task: Tensor) -> Tensor:
        """Columns of each sample's own task. task (B,) -> BoolTensor (B, N)."""
        return self.task_of_column.to(task.device)[None, :] == task[:, None]

    # ---- parts ----------------------------------------------------------------------------------------------------

    def subset(self, tasks: Sequence[int]) -> TaskSpace:
        """The tasks at the given positions, in the given order. They keep their `id`.

        Raises:
            ValueError: a position that is not there, twice the same one, or none.
        """
        tasks = list(tasks)
        bad = [t for t in tasks if not 0 <= t < self.num_tasks]
        if bad:
            raise ValueError(f"task {bad[0]} is not there: this suite has tasks 0 to {self.num_tasks - 1}")
        if len(set(tasks)) != len(tasks):
            raise ValueError(f"a task may be chosen once only, found {tasks}")
        return TaskSpace(tuple(self.tasks[t] for t in tasks))

    def with_classes(self, keep: Sequence[Sequence[int]]) -> TaskSpace:
        """Every task with only some of its classes. keep: T lists of labels; position in the list = new label.

        Raises:
            ValueError: not T lists, an empty one, or a label that is not there or there twice.
        """
        if len(keep) != self.num_tasks:
            raise ValueError(f"one list of labels a task is needed: found {len(keep)}, there are {self.num_tasks}")
        tasks = []
        for task, labels in zip(self.tasks, map(list, keep), strict=True):
            bad = [c for c in labels if not 0 <= c < len(task.classnames)]
            if bad:
                raise ValueError(f"task {task.key!r}: label {bad[0]} is not in 0..{len(task.classnames) - 1}")
            if len(set(labels)) != len(labels):
                raise ValueError(f"task {task.key!r}: a class may be kept once only, found {labels}")
            if not labels:
                raise ValueError(f"task {task.key!r}: no class is left; leave the task out instead")
            tasks.append(replace(task, classnames=tuple(task.classnames[c] for c in labels)))
        return TaskSpace(tuple(tasks))

    # ---- read-only views under the published names, by position ---------------------------------------------------

    @cached_property
    def lab2cname(self) -> Mapping[int, str]:
        """{column: class name}; for a single task {label: class name}."""
        return MappingProxyType(dict(enumerate(self.classnames)))

    def _view(self, values) -> Mapping:
        return MappingProxyType(dict(enumerate(values)))

    @property
    def taskid2tname(self) -> Mapping[int, str]:
        """{task: task name}."""
        return self._view(task.name for task in self.tasks)

    @property
    def taskid2cname(self) -> Mapping[int, tuple[str, ...]]:
        """{task: class names}."""
        return self._view(task.classnames for task in self.tasks)

    @property
    def taskid2desc(self) -> Mapping[int, str]:
        """{task: description}."""
        return self._view(task.description for task in self.tasks)

    @property
    def taskid2metric(self) -> Mapping[int, str]:
        """{task: name of its declared metric}."""
        return self._view(task.metric for task in self.tasks)

    @property
    def taskid2type(self) -> Mapping[int, str]:
        """{task: "sl"}: every task has a single label per image."""
        return self._view("sl" for _ in self.tasks)

    def __getstate__(self):
        return {"tasks": self.tasks}  # cached views are rebuilt: mapping proxies cannot be pickled


def read_tasks(value):
    """DATASET.TASKS as it is given in YAML or on the command line -> list of names and mappings.

    One name, names with commas between them, one mapping, or a list. A text that begins with [ or { is YAML:
    "[{ROOT: photos, TASK_NAME: animals}, OxfordPets]".

    Raises:
        TypeError: a text that is no YAML.
    """
    if isinstance(value, str):
        start = value.lstrip()[:1]
        try:
            if start == "(":
                value = ast.literal_eval(value)
            elif start in ("[", "{"):
                value = yaml.safe_load(value)
            else:
                value = [name.strip() for name in value.split(",") if name.strip()]
        except (yaml.YAMLError, ValueError, SyntaxError) as error:
            reason = " ".join(str(error).split())
            raise TypeError(f"expected a list such as [{{ROOT: photos}}, OxfordPets], not readable: {reason}") from None
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)):
        return value  # the wrong type is told of where all settings' types are checked
    return [_with_text_labels(entry) if isinstance(entry, Mapping) else entry for entry in value]


def read_task_names(value):
    """DATASET.TASK_NAMES as it is given, a mapping or its text -> a list of mappings with one entry each.

    Raises:
        TypeError: a text that is no YAML.
    """
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value) or []
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise TypeError(f"expected a mapping such as {{OxfordPets: breeds}}, not readable: {reason}") from None
    return [{key: name} for key, name in value.items()] if isinstance(value, Mapping) else value


def _with_text_labels(entry: Mapping) -> dict:
    """An entry whose CLASSNAMES have numbers for labels: as text, which JSON writes alike."""
    names = entry.get("CLASSNAMES")
    if not isinstance(names, Mapping):
        return dict(entry)
    return {**entry, "CLASSNAMES": {str(k) if type(k) is int else k: v for k, v in names.items()}}
