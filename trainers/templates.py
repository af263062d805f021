"""Texts of classes: templates such as "a photo of a {}.", and sentences of each class, from settings and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dassl.config import read_yaml
from dassl.data.tasks import Task, TaskSpace, is_template
from dassl.utils import UserError, read_json

# Texts of a task: templates for all of its classes, or {class: its texts}. A text with {} takes the name of the class.
Forms = Sequence[str] | Mapping[str, Sequence[str]]

EXPECTED = """a task's key or name with a template or a list of templates, such as
  faces: ['an emoji of a {} face.']
where each template has one {} for the class name; or with the sentences of each class, such as
  faces: {happy: ['a face that smiles.', 'a face with raised cheeks.'], sad: ['a face with tears.']}
or, for all tasks, the sentences of each class: {happy: ['a face that smiles.'], ...}"""


def class_texts(classnames: Sequence[str], forms: Forms, underscores: bool = False) -> list[list[str]]:
    """Texts of each class, [class][m]. Underscores of names become spaces, unless `underscores`.

    Raises UserError if `forms` has texts of each class, and none for one of the classes.
    """
    names = [name if underscores else _words(name) for name in classnames]
    if not isinstance(forms, Mapping):
        return [[form.format(name) for form in forms] for name in names]
    own = {_words(key).lower(): texts for key, texts in forms.items()}
    found = []
    for name in names:
        if not (texts := own.get(_words(name).lower())):
            raise UserError(f"no sentences for {name!r}; expected {{class: [sentences]}} for every class")
        found.append([text.format(name) if is_template(text) else text for text in texts])
    return found


def first_of(forms: Forms) -> Forms:
    """The first template; sentences of each class are all kept."""
    return forms if isinstance(forms, Mapping) else forms[:1]


def joined(forms: Forms, more: Sequence[str]) -> Forms:
    """The texts of a task together with templates, each one once."""
    if isinstance(forms, Mapping):
        return {name: tuple(dict.fromkeys((*texts, *more))) for name, texts in forms.items()}
    return tuple(dict.fromkeys((*forms, *more)))


def _words(name: str) -> str:
    return name.replace("_", " ")


def read_templates(path: str, setting: str = "TRAINER.ZSCLIP.TEMPLATES") -> dict[str, Forms]:
    """Read {task: texts} from the file of a setting, with task keys or names in lower case; "" stands for all tasks.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: the file is not a YAML or JSON mapping as in EXPECTED.
    """
    if not path:
        return {}
    try:
        content = read_json(path) if path.endswith(".json") else read_yaml(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{setting}: the file {path} does not exist") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{setting}: {path} cannot be read: {reason}; expected {EXPECTED}") from None
    entries = {str(name): _forms(value) for name, value in content.items()} if isinstance(content, dict) else {}
    lists = [texts for texts in entries.values() if isinstance(texts, tuple)]
    if len(lists) == len(entries) and all(lists) and not all(is_template(text) for texts in lists for text in texts):
        return {"": entries}  # the sentences of each class, for all tasks
    given = content.values() if entries else [content]
    for (name, texts), value in zip(entries.items() or [("", ())], given, strict=True):
        if not name or not texts or (isinstance(texts, tuple) and not all(map(is_template, texts))):
            raise UserError(f"{setting}: {path} has {name!r}: {value!r}; expected {EXPECTED}")
    return {name.lower(): texts for name, texts in entries.items()}


def _forms(value: object) -> Forms:
    """The texts of a task as a file has them; (): not in a form that is expected."""
    if isinstance(value, dict):
        found = {str(name): _forms(texts) for name, texts in value.items()}
        return found if all(isinstance(texts, tuple) and texts for texts in found.values()) else ()
    texts = [value] if isinstance(value, str) else value
    right = isinstance(texts, list) and all(isinstance(text, str) and text.strip() for text in texts)
    return tuple(texts) if right else ()


def task_templates(value: str, setting: str, space: TaskSpace, quiet: bool = False) -> list[Forms]:
    """Texts of each task that `value` of a shared setting TEMPLATES selects; see `settings.SHARED`.

    Raises UserError if a file lacks a class of a task. `quiet`: print nothing.
    """
    if is_template(value):
        return [(value,)] * space.num_tasks
    if value == "all":
        return [task.templates for task in space.tasks]
    return from_file(value, setting, space, [task.templates[:1] for task in space.tasks], quiet)


def template_problems(path: str, setting: str) -> list[str]:
    """The error of `read_templates`, if it raises one."""
    try:
        read_templates(path, setting)
    except (UserError, FileNotFoundError) as error:
        return [str(error)]
    return []


def shared_template_problems(value: str, setting: str) -> list[str]:
    """`template_problems` of a shared setting TEMPLATES, which may be a template or "all" instead of a file."""
    if value == "all" or is_template(value):
        return []
    expected = 'a file, "all", or a text with one {} for the class name and no other braces'
    missing = f"{setting}: the file {value} does not exist"
    return [f"{text}; expected {expected}" if text == missing else text for text in template_problems(value, setting)]


def of_task(given: dict[str, Forms], task: Task) -> Forms:
    """Texts of a task among those of `read_templates`; (): none."""
    return given.get(task.key.lower()) or given.get(task.name.lower()) or given.get("", ())


def own_templates(cfg, space: TaskSpace) -> list[Forms]:
    """Texts of each task: from the file TRAINER.ZSCLIP.TEMPLATES if it contains the task, else the dataset's."""
    path = cfg.TRAINER.ZSCLIP.TEMPLATES
    return from_file(path, "TRAINER.ZSCLIP.TEMPLATES", space, [task.templates for task in space.tasks])


def from_file(path: str, setting: str, space: TaskSpace, default: list[Forms], quiet: bool = False) -> list[Forms]:
    """Texts of each task: from the file `path` of a setting if it contains the task, else the `default`."""
    given = read_templates(path, setting)
    found = [of_task(given, task) or own for task, own in zip(space.tasks, default, strict=True)]
    for task, forms in zip(space.tasks, found, strict=True):
        try:
            class_texts(task.classnames, forms)
        except UserError as error:
            reason = str(error).partition(";")[0]
            raise UserError(f"{setting}: {path} has {reason} of {task.key}; expected {EXPECTED}") from None
    if given and not quiet:
        known = {name for task in space.tasks for name in ("", task.key.lower(), task.name.lower())}
        changed = [task.key for task in space.tasks if of_task(given, task)]
        unused = ", ".join(name for name in given if name not in known)
        print(
            f"Templates of {', '.join(changed) or 'no task'} from {path}"
            + (f"; not among the tasks of this run: {unused}" if unused else "")
        )
    return found


def even_texts(classnames: Sequence[str], forms: Forms, where: str) -> list[list[str]]:
    """`class_texts`, for a method that needs the same number of texts for all classes of a task.

    Raises UserError if the numbers differ. `where`: setting and task, for the message.
    """
    rows = class_texts(classnames, forms)
    if len(set(map(len, rows))) > 1:
        name, least = min(zip(classnames, rows, strict=True), key=lambda pair: len(pair[1]))
        raise UserError(
            f"{where}: {name!r} has {len(least)} sentences, another class {max(map(len, rows))}; this method needs the "
            "same number for all classes of a task"
        )
    return rows
