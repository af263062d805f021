"""The page to try classifiers: the nearest training images, the doubt about an image, and the page itself."""

import csv
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import app
from dassl.data.images import read_image
from softcpt import Prediction, load
from softcpt.neighbours import Neighbours, thresholds


@pytest.fixture(scope="module")
def folder(trained):
    return trained("MTCoOp")


@pytest.fixture(scope="module")
def neighbours(folder):
    return Neighbours(load(folder / "run"))


def test_a_training_image_is_its_own_nearest(folder, neighbours):
    path = folder / "data" / "marks" / "dot" / "train1.png"
    found = neighbours.nearest(read_image(path), count=3)
    assert found[0] == (str(path), "dot", pytest.approx(1, abs=1e-5))
    assert [value for _, _, value in found] == sorted((value for _, _, value in found), reverse=True)
    features = neighbours.features
    others = features @ features.t() - 2 * torch.eye(len(features))
    assert neighbours.usual == pytest.approx(np.percentile(others.max(1).values.numpy(), 5), abs=1e-5)


def test_without_data_there_are_no_neighbours(folder, tmp_path):
    model = load(folder / "run")
    model.cfg.DATASET.NAME = "Gone"
    found = Neighbours(model)
    assert "Gone" in found.why_none and "\n" not in found.why_none and found.nearest(Image.new("RGB", (9, 9))) == []


def test_thresholds_are_those_of_the_test_images(folder, tmp_path):
    with open(folder / "run" / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = [(row["task"], float(row["probability1"])) for row in csv.DictReader(file)]
    found = thresholds(folder / "run")
    assert found.keys() == {"shades", "one", "marks"}
    assert found["marks"] == pytest.approx(np.percentile([value for task, value in rows if task == "marks"], 5))
    assert thresholds(tmp_path) == {}


def test_the_page(folder):
    pytest.importorskip("gradio", reason="Gradio is not installed (requirements-app.txt)")
    from softcpt.app import Tried, build

    assert build([str(folder / "run")]).title == "Trained classifiers"
    one = Tried(str(folder / "run"), "run")
    path = folder / "data" / "shades" / "red" / "test0.png"
    doubt, *labels, figures = one.answer(Image.open(path))
    assert [max(label, key=label.get) for label in labels] == [
        found.classes[0][0] for found in load(folder / "run").classify(path)
    ]
    assert figures.count("<figure") == 6 and one.answer(None) == ["", None, None, None, ""]
    sure, unsure = (Prediction("", "marks", (("dot", p),)) for p in (0.999, 0.001))
    assert one.doubt([sure], []) == "" and "marks on paper: 0%" in one.doubt([unsure], [])
    assert "unlike the training images" in one.doubt([sure], [("", "", -1.0)])


def test_mistakes_are_one_message(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "softcpt.app", raising=False)
    assert app.main([str(folder / "run")]) == 2
    assert "pip install -r requirements-app.txt" in capsys.readouterr().err
