"""Tasks as the published SoftCPT code declares them: mappings from the number of a task to its names and classes."""

from collections.abc import Mapping

from dassl.data.tasks import Task, TaskSpace
from dassl.utils.errors import UserError


def published_space(given: Mapping[str, Mapping], owner: str) -> TaskSpace:
    """The space that mappings {name: {task: value}} describe.

    Args:
        given: "taskid2tname" (names), "taskid2cname" (class names, or {label: class name}), and if there are any
            "taskid2desc", "taskid2metric" and "taskid2type". Tasks are 0, 1, …, as integers or as text from JSON.
        owner: name of the dataset class, for messages.

    Raises:
        UserError: tasks without a name or classes, or of another type than "sl" (a single label per image).
    """
    by_task = {key: {int(t): value for t, value in (values or {}).items()} for key, values in given.items()}
    names, classes = by_task.get("taskid2tname", {}), by_task.get("taskid2cname", {})
    if not names or sorted(names) != list(range(len(names))) or classes.keys() != names.keys():
        raise UserError(
            f"{owner}: expected a TaskSpace, or taskid2tname and taskid2cname with the same tasks 0, 1, …; found names "
            f"of the tasks {sorted(names)} and classes of the tasks {sorted(classes)}"
        )
    if other := {kind for kind in by_task.get("taskid2type", {}).values() if kind != "sl"}:
        raise UserError(f"{owner}: a task has the type {min(other)!r}, expected 'sl', a single label per image")
    tasks = []
    for t, name in sorted(names.items()):
        listed = classes[t]
        if isinstance(listed, Mapping):
            listed = [text for _, text in sorted((int(label), text) for label, text in listed.items())]
        fields = {"metric": "taskid2metric", "description": "taskid2desc"}
        fields = {field: by_task.get(key, {}).get(t) for field, key in fields.items()}
        fields = {field: value for field, value in fields.items() if value}
        tasks.append(Task(key=name, name=name, classnames=tuple(listed), id=t, **fields))
    return TaskSpace(tuple(tasks))
