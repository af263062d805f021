"""Hand-made prompts: fixed text features of all classes from templates such as "a photo of a {}."."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.layers import at_least_fp32
from clip.text_tower import TextTower
from dassl.config import declare, read_yaml
from dassl.data.tasks import Task, TaskSpace, is_template
from dassl.utils import UserError, read_json

declare(
    "TRAINER.ZSCLIP.TEMPLATES",
    "",
    help="YAML or JSON file {key or name of a task: templates}; '': the templates of the datasets",
)


class HandPrompts(nn.Module):
    """Fixed text features of all classes: the normalised mean over templates of normalised features. No parameters.

    Args:
        tower: encodes the prompts.
        space: the tasks and their classes.
        templates: one tuple of templates per task; "{}" stands for the class name, in which underscores become spaces.
            Default: the first template of each task.
        raw: the mean over templates of the features as the tower gives them, without normalisation.
        underscores: keep the underscores of class names.

    Attributes:
        features: (N, d), normalised unless `raw`.
    """

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        templates: list[tuple[str, ...]] | None = None,
        raw: bool = False,
        underscores: bool = False,
    ):
        super().__init__()
        parts = []
        templates = [task.templates[:1] for task in space.tasks] if templates is None else templates
        for task, own in zip(space.tasks, templates, strict=True):
            features = encode_templates(tower, task.classnames, own, underscores)
            parts.append(features.mean(0) if raw else F.normalize(F.normalize(features, dim=-1).mean(0), dim=-1))
        self.features = torch.cat(parts)  # (N, d)

    def forward(self, select: Tensor) -> Tensor:
        """Features (N', d) of the classes in the columns `select` (N',)."""
        return self.features[select]


def encode_templates(
    tower: TextTower, classnames: Sequence[str], templates: Sequence[str], underscores: bool = False
) -> Tensor:
    """Features (M, C, d) of C classes under M templates, not normalised. `underscores`: keep those of class names."""
    names = [name if underscores else name.replace("_", " ") for name in classnames]
    return torch.stack([at_least_fp32(tower.encode([t.format(name) for name in names])) for t in templates])


def read_templates(path: str, setting: str = "TRAINER.ZSCLIP.TEMPLATES") -> dict[str, tuple[str, ...]]:
    """Read {task: templates} from the file of a setting, with task keys or names in lower case.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: the file is not a YAML or JSON mapping of tasks to templates, each with one "{}".
    """
    if not path:
        return {}
    form = "a task's key or name with a template or a list of templates, such as\n  faces: ['an emoji of a {} face.']"
    try:
        content = read_json(path) if path.endswith(".json") else read_yaml(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{setting}: the file {path} does not exist") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{setting}: {path} cannot be read: {reason}; expected {form}") from None
    found = {}
    for name, templates in content.items() if isinstance(content, dict) else [("", content)]:
        templates = [templates] if isinstance(templates, str) else templates
        right = isinstance(templates, list) and templates and all(isinstance(t, str) for t in templates)
        if not name or not right or not all(map(is_template, templates)):
            raise UserError(
                f"{setting}: {path} has {name!r}: {templates!r}; expected {form}\n"
                "where each template has one {} for the class name"
            )
        found[str(name).lower()] = tuple(templates)
    return found


def task_templates(value: str, setting: str, space: TaskSpace) -> list[tuple[str, ...]]:
    """Templates of each task that `value` of a shared setting TEMPLATES selects; see `settings.SHARED`."""
    if is_template(value):
        return [(value,)] * space.num_tasks
    if value == "all":
        return [task.templates for task in space.tasks]
    return _from_file(value, setting, space, [task.templates[:1] for task in space.tasks])


def check_templates(value: str, setting: str) -> None:
    """Raise the errors of `read_templates` for a value of a shared setting TEMPLATES that is not a template."""
    if value != "all" and not is_template(value):
        try:
            read_templates(value, setting)
        except FileNotFoundError as error:
            expected = 'a file, "all", or a text with one {} for the class name and no other braces'
            raise FileNotFoundError(f"{error}; expected {expected}") from None


def template_problems(path: str, setting: str) -> list[str]:
    """The error of `read_templates`, if it raises one."""
    try:
        read_templates(path, setting)
    except (UserError, FileNotFoundError) as error:
        return [str(error)]
    return []


def of_task(given: dict[str, tuple[str, ...]], task: Task) -> tuple[str, ...]:
    """Templates of a task among those of `read_templates`; (): none."""
    return given.get(task.key.lower()) or given.get(task.name.lower(), ())


def own_templates(cfg, space: TaskSpace) -> list[tuple[str, ...]]:
    """Templates of each task: from the file TRAINER.ZSCLIP.TEMPLATES if it contains the task, else the dataset's."""
    path = cfg.TRAINER.ZSCLIP.TEMPLATES
    return _from_file(path, "TRAINER.ZSCLIP.TEMPLATES", space, [task.templates for task in space.tasks])


def _from_file(path: str, setting: str, space: TaskSpace, default: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Templates of each task: from the file `path` of a setting if it contains the task, else the `default`."""
    given = read_templates(path, setting)
    found = [of_task(given, task) or own for task, own in zip(space.tasks, default, strict=True)]
    if given:
        known = {name for task in space.tasks for name in (task.key.lower(), task.name.lower())}
        changed = [task.key for task in space.tasks if {task.key.lower(), task.name.lower()} & given.keys()]
        unused = ", ".join(name for name in given if name not in known)
        print(
            f"Templates of {', '.join(changed) or 'no task'} from {path}"
            + (f"; not among the tasks of this run: {unused}" if unused else "")
        )
    return found
