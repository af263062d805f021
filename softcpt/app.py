"""A page to try trained classifiers: an image in, the classes of each task out; several runs side by side."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence

import gradio
from PIL import Image

from dassl.config import method_name
from dassl.data.images import read_image, to_rgb
from dassl.utils import UserError

from .model import Classifier, Prediction, load
from .neighbours import RARE, Neighbours, thresholds

TOP, NEAREST = 5, 6
FIGURE = "display: inline-block; width: 6.5rem; margin: 0 .5rem .5rem 0; vertical-align: top; font-size: .8rem"


class Tried:
    """A run on the page."""

    def __init__(self, run: str, title: str):
        self.run, self.title = run, title
        self.model: Classifier = load(run)
        self.neighbours, self.sure = Neighbours(self.model), thresholds(run)

    def components(self) -> list:
        """A line about doubt, the classes of each task, and the nearest training images."""
        gradio.Markdown(f"### {html.escape(method_name(self.model.cfg))}\n`{self.title}`")
        doubt = gradio.Markdown()
        labels = [gradio.Label(num_top_classes=TOP, label=task.name) for task in self.model.space.tasks]
        return [doubt, *labels, gradio.HTML()]

    def answer(self, image: Image.Image | None) -> list:
        """Values of the components for an image."""
        if image is None:
            return ["", *[None] * len(self.model.tasks), ""]
        found = self.model.classify(image := to_rgb(image), topk=TOP)
        if found[0].error:
            raise gradio.Error(found[0].error)
        near = self.neighbours.nearest(image, NEAREST)
        return [self.doubt(found, near), *(dict(one.classes) for one in found), self.figures(near)]

    def doubt(self, found: Sequence[Prediction], near: Sequence[tuple[str, str, float]]) -> str:
        """Reasons to think that the image shows none of the classes."""
        names, lines = {task.key: task.name for task in self.model.space.tasks}, []
        if near and near[0][2] < self.neighbours.usual:
            lines.append(
                f"- unlike the training images: the nearest has a similarity of {near[0][2]:.2f}, "
                f"{100 - RARE} % of them have one above {self.neighbours.usual:.2f}"
            )
        for one in found:
            (_, probability), usual = one.classes[0], self.sure.get(one.task, 0.0)
            if probability < usual:
                lines.append(
                    f"- {names[one.task]}: {probability:.0%}, {100 - RARE} % of the test images have above {usual:.0%}"
                )
        return "\n".join(["**Perhaps none of these classes**", "", *lines]) if lines else ""

    def figures(self, near: Sequence[tuple[str, str, float]]) -> str:
        """The nearest training images, within the page."""
        if self.neighbours.why_none:
            return f"<p>No training images to compare with: {html.escape(self.neighbours.why_none)}</p>"
        parts = []
        for path, name, value in near:
            small, stream = read_image(path), io.BytesIO()
            small.thumbnail((96, 96))
            small.save(stream, "PNG")
            code, text = base64.b64encode(stream.getvalue()).decode(), html.escape(f"{name} ({value:.2f})")
            inner = f'<img alt="" src="data:image/png;base64,{code}"><figcaption>{text}</figcaption>'
            parts.append(f'<figure style="{FIGURE}">{inner}</figure>')
        return f"<p>Nearest training images (cosine of CLIP's features):</p>{''.join(parts)}"


def build(runs: Sequence[str]) -> gradio.Blocks:
    """The page of these runs.

    Raises:
        UserError, FileNotFoundError: a folder is not one of a finished run; before anything slow starts.
    """
    for run in runs:
        Classifier(run)
    if twice := [run for run in runs if list(runs).count(run) > 1]:
        raise UserError(f"{twice[0]} is given twice; give each run once")
    shared = (
        os.path.commonpath([os.path.abspath(run) for run in runs])
        if len(runs) > 1
        else os.path.dirname(os.path.abspath(runs[0]))
    )
    tried = [Tried(run, os.path.relpath(os.path.abspath(run), shared)) for run in runs]
    with gradio.Blocks(title="Trained classifiers") as page:
        gradio.Markdown("# Trained classifiers\nDrop an image. It is classified here and not sent elsewhere.")
        image = gradio.Image(type="pil", label="image", height=320)
        outputs = []
        with gradio.Row():
            for one in tried:
                with gradio.Column():
                    outputs += one.components()

        def answer(given):
            return [value for one in tried for value in one.answer(given)]

        image.change(answer, image, outputs)
    return page
