"""Files with sentences of each class, for every method that reads hand-made texts."""

import json

import pytest
import torch
import torch.nn.functional as F

from clip.text_tower import TextTower
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.models import relative, tiny_vit
from tests.suite import TASKS, config
from trainers.templates import class_texts, read_templates

NAMES = [name.replace("_", " ") for task in TASKS for name in task.classnames]
UNEVEN = {
    name: [f"something {name}.", "a {} thing!", f"it is {name} indeed"][: 1 + i % 3] for i, name in enumerate(NAMES)
}
METHODS = ("ZeroshotCLIP", "KgCoOp", "CLIPAdapter", "CLIPLoRA", "TipAdapter")


def means(given):
    """Expected features (N, d): the unit mean of unit features of each class's sentences, one text at a time."""
    tower, found = TextTower(tiny_vit()), []
    for name in NAMES:
        unit = [F.normalize(tower.encode([text.replace("{}", name)]), dim=-1)[0] for text in given[name]]
        found.append(F.normalize(sum(unit) / len(unit), dim=-1))
    return torch.stack(found)


@pytest.fixture
def build(weights, tmp_path):
    def build(method, given, *settings):
        file = tmp_path / "texts.json"
        file.write_text(json.dumps(given))
        section = "ZSCLIP" if method.startswith("Zero") else method.upper()
        key = f"TRAINER.{section}."
        key += "SENTENCES" if method == "CoPrompt" else "TEMPLATES"
        return build_trainer(config(tmp_path, method, weights, 32, key, str(file), *settings))

    return build


def by_task(given):
    return {task.key: {name: given[name.replace("_", " ")] for name in task.classnames} for task in TASKS}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["classes", "tasks"])
def test_features_are_the_mean_over_the_sentences_of_a_class(method, form, build):
    trainer = build(method, UNEVEN if form == "classes" else by_task(UNEVEN))
    with torch.no_grad():
        found = trainer.model.hand_features() if method == "KgCoOp" else trainer.model.text(trainer.all_columns)
    assert relative(F.normalize(found, dim=-1), means(UNEVEN)) < 1e-5


def test_templates_and_sentences_in_one_file(build, capsys):
    given = {"shades": {"RED": "a red wall", **dict.fromkeys(TASKS[0].classnames[1:], "a {} wall")}, "marks": "my {}"}
    with torch.no_grad():
        found = build("ZeroshotCLIP", given).model.text(torch.arange(10))
    texts = [f"a {name} wall" for name in NAMES[:5]] + ["a photo of a only."] + [f"my {name}" for name in NAMES[6:]]
    assert relative(found, means(dict(zip(NAMES, [[text] for text in texts], strict=True)))) < 1e-5
    assert "Templates of shades, marks from" in capsys.readouterr().out


def test_ensembles_add_templates_to_the_sentences(build):
    from trainers.zsclip import ENSEMBLE

    both = {name: [*texts, *ENSEMBLE] for name, texts in UNEVEN.items()}
    model = build("ZeroshotCLIP2", UNEVEN, "TRAINER.ZSCLIP.ENSEMBLE", "both").model
    assert relative(model.text(torch.tensor([3])), means({**UNEVEN, NAMES[3]: both[NAMES[3]]})[3:4]) < 1e-5


@pytest.mark.parametrize("method", ["KgCoOp", "CLIPAdapter", "CoPrompt"])
def test_a_class_without_a_sentence_is_named_before_weights_are_read(method, build, monkeypatch):
    monkeypatch.setattr("trainers.building.load_backbone", lambda *_, **__: pytest.fail("weights are read"))
    with pytest.raises(UserError, match=r"texts.json has no sentences for 'ring' of marks; expected a task's key"):
        build(method, {name: texts for name, texts in UNEVEN.items() if name != "ring"})


@pytest.mark.parametrize("method", ["CoPrompt", "CrossModal"])
def test_a_method_that_needs_even_numbers_says_so(method, build):
    with pytest.raises(UserError, match=r"(SENTENCES|TEMPLATES).*shades: 'red' has 1 sentences, another class 3"):
        trainer = build(method, UNEVEN)
        trainer.train()


@pytest.mark.parametrize(
    "content",
    ["faces: {happy: []}", "faces: {happy: [1]}", "faces: {}", "{happy: ['a smile'], sad: {x: y}}", "faces: ''", "{}"],
)
def test_odd_files_are_one_message(content, tmp_path):
    (tmp_path / "texts.yaml").write_text(content)
    with pytest.raises(UserError, match="KEY: .*texts.yaml has .*expected a task's key or name with"):
        read_templates(str(tmp_path / "texts.yaml"), "KEY")


def test_braces_in_a_sentence_are_kept():
    assert class_texts(["a_b"], {"A b": ("{} and {}", "x {}.", "f(x) = {x}")}) == [
        ["{} and {}", "x a b.", "f(x) = {x}"]
    ]
