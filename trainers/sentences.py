"""Published pairs of templates of TCP."""

from __future__ import annotations

from collections.abc import Mapping

from dassl.data.tasks import TaskSpace
from dassl.utils import UserError

from .templates import of_task, read_templates

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
        if isinstance(own, Mapping):
            raise UserError(f"{setting}: {path} has sentences of each class of {task.key}; expected two templates")
        found.append((own[0], own[-1]))
    return found
