"""Sentences about classes beside the templates of the data sets: published pairs of templates, files of sentences."""

from __future__ import annotations

from dassl.data.tasks import TaskSpace
from dassl.utils import UserError, read_json

from .hand import of_task, read_templates

# Published templates of TCP by data set: the sentence whose first four words are replaced, and the sentence of the
# frozen feature.
TCP_TEMPLATES = {
    "Caltech101": ("X X X X {}.", "a photo of a {}."),
    "DescribableTextures": ("X X X X {} texture.", "a photo of a {}, a type of texture."),
    "EuroSAT": ("X X X X {}.", "a centered satellite photo of {}."),
    "FGVCAircraft": ("X X X X {}, a type of aircraft.", "a photo of an aircraft {}."),
    "Food101": ("X X X X {}, a type of food.", "a photo of a {}, a type of food."),
    "OxfordFlowers": ("X X X X {}, a type of flower.", "a photo of a {}, a type of flower."),
    "OxfordPets": ("X X X X {}, a type of pet.", "a photo of a {}, a type of pet."),
    "StanfordCars": ("X X X X {}, a type of car", "a photo of a {}."),
    "SUN397": ("X X X X {}.", "a photo of a {}."),
    "UCF101": ("a photo of a person doing {}.",) * 2,
    **dict.fromkeys(("ImageNet", "ImageNetA", "ImageNetR", "ImageNetSketch", "ImageNetV2"), ("a photo of a {}.",) * 2),
}


def template_pairs(path: str, space: TaskSpace, setting: str) -> list[tuple[str, str]]:
    """(prompt template, fixed template) of each task: of the file `path` of a `setting`, else TCP's, else its own."""
    given, found = read_templates(path, setting), []
    for task in space.tasks:
        own = of_task(given, task) or TCP_TEMPLATES.get(task.key, task.templates[:1])
        found.append((own[0], own[-1]))
    return found


def read_sentences(path: str, space: TaskSpace, setting: str) -> list[list[list[str]]]:
    """Sentences of each class, [task][class][m]; every class of a task has the same number of them.

    Read from the JSON file `path` of a `setting`: {class: [sentences]}, or {task: {class: [sentences]}}. Without a
    file, the hand-made templates of each task make the sentences.

    Raises:
        UserError: the file is not as expected, or a class has no sentences or another number of them.
    """
    if not path:
        return [
            [[form.format(name.replace("_", " ")) for form in task.templates] for name in task.classnames]
            for task in space.tasks
        ]
    setting, given, found = f"{setting} {path}", read_json(path), []
    for task in space.tasks:
        own = given.get(task.key, given.get(task.name, given)) if isinstance(given, dict) else {}
        own = own if isinstance(own, dict) else given  # the list of a class that is called like the task
        own = {str(name).replace("_", " ").lower(): rows for name, rows in own.items()}
        rows = [own.get(name.replace("_", " ").lower()) for name in task.classnames]
        for name, sentences in zip(task.classnames, rows, strict=True):
            if not sentences or not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
                raise UserError(f"{setting}: no sentences for {name!r} of {task.key}; expected {{class: [sentences]}}")
        if len(set(map(len, rows))) > 1:
            name, least = min(zip(task.classnames, rows, strict=True), key=lambda pair: len(pair[1]))
            raise UserError(
                f"{setting}: {name!r} of {task.key} has {len(least)} sentences, another class {max(map(len, rows))}; "
                "all classes of a task need the same number"
            )
        found.append(rows)
    return found
