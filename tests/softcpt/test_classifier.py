"""`softcpt.load`: what it accepts, what it returns, and that it agrees with the run's own test."""

import json
import shutil

import pytest
import torch
from PIL import Image

from dassl.data.images import read_image
from dassl.utils import UserError
from softcpt import Classifier, Prediction, load
from tests.suite import TASKS


@pytest.fixture(scope="module")
def folder(trained):
    return trained("MTCoOp")


@pytest.fixture(scope="module")
def model(folder):
    return load(folder / "run")


@pytest.fixture
def images(folder):
    return [folder / "data" / path for path in ("shades/red/test0.png", "marks/dot/test0.png", "marks/ring/test1.png")]


def test_it_knows_tasks_and_classes(model):
    assert model.tasks == ("shades", "one", "marks")
    assert model.classnames == {task.key: task.classnames for task in TASKS}
    assert "MTCoOp, classes of each task: shades: 5, one: 1, marks: 4" in repr(model)


def test_records(model, images, capsys):
    found = model.classify(images, topk=3)
    assert [(one.path, one.task) for one in found] == [(str(path), key) for path in images for key in model.tasks]
    assert [len(one.classes) for one in found] == [3, 1, 3] * 3
    assert not any(one.error for one in found) and capsys.readouterr() == ("", "")
    whole = model.classify(images[0], task="shades", topk=99)
    assert isinstance(whole[0], Prediction) and len(whole[0].classes) == 5
    for one, other in zip(found[0].classes, whole[0].classes, strict=False):
        assert one == (other[0], pytest.approx(other[1], abs=1e-5))
    assert sum(p for _, p in whole[0].classes) == pytest.approx(1)


def test_all_kinds_of_images_agree(model, images, folder):
    expected = model.logits(images)  # (3, 10)
    opened = [read_image(path) for path in images]
    tensors = torch.stack([model.preprocess(image) for image in opened])
    for given in (map(str, images), opened, tensors, list(tensors), [images[0], opened[1], tensors[2]]):
        given = list(given) if isinstance(given, map) else given
        assert torch.equal(model.logits(given), expected)
    assert model.logits(images[1]).shape == (1, 10) and model.logits(tensors[0]).shape == (1, 10)
    assert torch.allclose(model.logits(images, task="marks"), expected[:, 6:], atol=1e-5)
    assert torch.allclose(model.logits(images, batch_size=2), expected, atol=1e-5)
    below = model.classify(folder / "data" / "marks" / "dot", task=2)
    assert [one.path.rpartition("/")[2] for one in below] == sorted(
        path.name for path in (folder / "data/marks/dot").iterdir()
    )


@pytest.mark.parametrize("method", ["MTCoOp", "VPT", "TipAdapter", "CLIPAdapter"])
def test_the_runs_own_accuracy(method, trained, capsys):
    options = ("TRAINER.CLIPADAPTER.TSC", True) if method == "CLIPAdapter" else ()
    folder = trained(method, *options)
    model, record = load(folder / "run"), json.loads((folder / "run/results.json").read_text())
    for task in record["tasks"]:
        paths = sorted((folder / "data" / task["key"]).glob("*/test*.png"))
        found = model.classify(paths, task["key"], 1, batch_size=3)
        right = sum(one.classes[0][0] == path.parent.name for one, path in zip(found, paths, strict=True))
        assert task["images"] == len(paths) and 100 * right / len(paths) == pytest.approx(task["overall_acc"])


def test_bad_images_are_named_and_the_others_are_classified(model, images, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_text("<html>")
    (tmp_path / "empty").mkdir()
    wrong = [tmp_path / "bad.jpg", tmp_path / "empty", tmp_path / "gone.png", torch.zeros(3, 9, 9)]
    given = [wrong[0], images[0], *wrong[1:], images[1]]
    found = model.classify(given, "one")
    assert [bool(one.error) for one in found] == [True, False, True, True, True, False]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("warning: ") for line in lines)
    for line, part in zip(
        lines, ("it holds a web page", "a folder without", "gone.png", "(3, 9, 9) of float"), strict=True
    ):
        assert part in line
    with pytest.raises(UserError, match="holds a web page"):
        model.logits(given)
    narrow = model.classify(Image.new("RGB", (5000, 1)))
    assert "image cannot be read: 5000 x 1 pixels" in narrow[0].error


@pytest.mark.parametrize("given, kind, text", [
    ("{tmp}", FileNotFoundError, "a folder without an image"),
    ("{tmp}/gone.png", FileNotFoundError, "no such image: .*gone.png"),
    ([], FileNotFoundError, "no such image: nothing was given"),
    (7, UserError, "found int: expected paths, folders"),
])  # fmt: skip
def test_nothing_to_classify(model, given, kind, text, tmp_path):
    with pytest.raises(kind, match=text):
        model.classify(given.format(tmp=tmp_path) if isinstance(given, str) else given)


def test_user_errors(model, images, folder, tmp_path):
    with pytest.raises(UserError, match="task mark: the run has no such task; did you mean marks"):
        model.classify(images, "mark")
    with pytest.raises(UserError, match="topk 0: expected at least 1"):
        model.classify(images, topk=0)
    with pytest.raises(UserError, match="device gpu: not available"):
        load(folder / "run", device="gpu")
    with pytest.raises(UserError, match="no such folder"):
        load(tmp_path / "nowhere")
    copy = shutil.copytree(folder / "run", tmp_path / "run")
    shutil.rmtree(copy / "prompt_learner")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load(copy)


def test_the_device_is_chosen(folder, images):
    assert Classifier(folder / "run", device="cpu").device == torch.device("cpu")
    with pytest.raises(UserError, match="device cuda:99: not available"):
        load(folder / "run", device="cuda:99")


def test_reading_does_not_run_ahead_of_the_model(model, images, monkeypatch):
    """Of 10,000 images, only a few batches are in memory at a time."""
    import softcpt.model

    read = []
    original = softcpt.model.prepare
    monkeypatch.setattr(softcpt.model, "prepare", lambda *args, **how: read.append(1) or original(*args, **how))
    records = model.stream([images[0]] * 10_000, "one", batch_size=10)
    for count in range(1, 26):
        next(records)
        assert len(read) <= 10 * (count // 10 + 4)
    records.close()
    assert len(read) < 100
