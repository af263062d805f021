"""Compare zero-shot logits with prompts encoded one by one; test the choice of templates."""

import json

import pytest
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES

import train
from clip import clip
from dassl.config import ConfigError
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.tasks import TaskSpace
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.models import relative
from tests.suite import TestSuite, config

IMAGENET = [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
OWN = {
    "shades": ["a photo of a {}."],
    "one": ["this is {}.", "a photo of a {}.", "{}"],
    "marks": ["a {} on paper.", "the mark {}."],
}


@DATASET_REGISTRY.register()
class SuiteWithTemplates(TestSuite):
    """Tasks with OWN templates."""

    @property
    def space(self):
        tasks = super().space.tasks
        return TaskSpace(tuple(type(task)(**{**vars(task), "templates": OWN[task.key]}) for task in tasks))


@pytest.fixture()
def logits(tmp_path, weights):
    """A function: logits(trainer, *settings) -> (trainer, images, logits)."""

    def logits(name, *settings):
        dataset = () if "DATASET.NAME" in settings else ("DATASET.NAME", "SuiteWithTemplates")
        trainer = build_trainer(config(tmp_path, name, weights, 32, *dataset, *settings))
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return trainer, images, trainer.model_inference(images)

    return logits


def expected(trainer, images, templates):
    """Logits as in CLIP's notebook: normalised mean of normalised features."""
    columns = []
    with torch.no_grad():
        for task in trainer.space.tasks:
            for name in task.classnames:
                prompts = [template.format(name.replace("_", " ")) for template in templates[task.key]]
                features = trainer.clip.encode_text(clip.tokenize(prompts))
                mean = (features / features.norm(dim=-1, keepdim=True)).mean(0)
                columns.append(mean / mean.norm())
        image = trainer.clip.encode_image(images)
        image = image / image.norm(dim=-1, keepdim=True)
        return trainer.clip.logit_scale.exp() * image @ torch.stack(columns).t()


def of_each(choose):
    return {key: choose(own) for key, own in OWN.items()}


CASES = [
    ("ZeroshotCLIP", (), of_each(lambda own: own[:1])),
    ("ZeroshotCLIP2", ("DATASET.SUBSAMPLE_TASKS", "task2"), of_each(lambda own: IMAGENET)),
    ("ZeroshotCLIP2", ("TRAINER.ZSCLIP.ENSEMBLE", "task"), of_each(lambda own: own)),
    # a task template that is among the 80 is used once
    (
        "ZeroshotCLIP2",
        ("TRAINER.ZSCLIP.ENSEMBLE", "both", "DATASET.SUBSAMPLE_TASKS", "task0"),
        of_each(lambda own: list({*own, *IMAGENET})),
    ),
]


@pytest.mark.parametrize(("name", "settings", "templates"), CASES, ids=["one", "imagenet", "task", "both"])
def test_logits_of_hand_made_prompts(name, settings, templates, logits):
    assert len(IMAGENET) == 80
    trainer, images, found = logits(name, *settings)
    assert relative(found, expected(trainer, images, templates)) < 1e-5


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_templates_from_a_file(form, logits, tmp_path, capsys):
    given = {"shades": ["the shade {}.", "{} colour"], "Marks on Paper": "a drawn {}.", "birds": ["a {}, a bird."]}
    path = tmp_path / f"templates.{form}"
    path.write_text(json.dumps(given))  # JSON is YAML
    templates = {"shades": given["shades"], "one": OWN["one"], "marks": [given["Marks on Paper"]]}
    file = ("TRAINER.ZSCLIP.TEMPLATES", str(path))
    trainer, images, found = logits("ZeroshotCLIP2", *file, "TRAINER.ZSCLIP.ENSEMBLE", "task")
    assert relative(found, expected(trainer, images, templates)) < 1e-5
    assert f"Templates of shades, marks from {path}; not among the tasks of this run: birds" in capsys.readouterr().out
    trainer, images, found = logits("ZeroshotCLIP", *file)
    assert relative(found, expected(trainer, images, {key: own[:1] for key, own in templates.items()})) < 1e-5


WRONG = {
    "no place for the name": "shades: a photo",
    "two places": "shades: ['{} and {}']",
    "no task": "- a {}",
    "an empty list": "shades: []",
    "numbers": "shades: [1]",
    "not YAML": "shades: [",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_one_message(text, logits, tmp_path):
    (tmp_path / "templates.yaml").write_text(text)
    with pytest.raises(UserError, match="TRAINER.ZSCLIP.TEMPLATES: .*templates.yaml (.|\n)*such as\n  faces: "):
        logits("ZeroshotCLIP", "TRAINER.ZSCLIP.TEMPLATES", str(tmp_path / "templates.yaml"))


def test_what_cannot_be(logits, tmp_path, capsys):
    with pytest.raises(ConfigError, match="expected one of imagenet, task, both"):
        logits("ZeroshotCLIP2", "TRAINER.ZSCLIP.ENSEMBLE", "all")
    arguments = ["--trainer", "ZeroshotCLIP", "--output-dir", str(tmp_path / "none"), "DATASET.NAME", "Icon5"]
    tiny = ["MODEL.BACKBONE.NAME", "tiny", "INPUT.SIZE", "(64, 64)"]
    assert train.main([*arguments, *tiny, "TRAINER.ZSCLIP.TEMPLATES", "nowhere.yaml"]) == 2
    assert "the file nowhere.yaml does not exist" in capsys.readouterr().err
