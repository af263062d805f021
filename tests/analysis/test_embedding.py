"""Test projections: points and lines imply the same predictions as the run."""

import numpy as np
import pytest
import torch

from analysis import embedding
from dassl.config import method_name
from tests.analysis.figures import refused, rows_of

SHADES = ("red", "dark_green", "light blue", "white", "black")


def logits(trainer, task, classes):
    """Labels (B,) and cosines (B, C) of a task's test images, from the trainer's evaluation. Labels index `classes`."""
    found, labels = [], []
    with torch.no_grad():
        for batch in trainer.test_loader:
            output, [label, *_] = trainer.test_batch(batch)
            found.append(output[batch["task"] == task])
            labels.append(label[batch["task"] == task])
    columns = trainer.space.columns(task)
    rows = torch.cat(found)[:, columns][:, classes] / trainer.scale
    labels = torch.cat(labels)
    keep = torch.isin(labels, torch.tensor(classes))
    return [classes.index(label) for label in labels[keep].tolist()], rows[keep].double().detach().numpy()


def numbers(rows, axes="xyz"):
    return np.array([[float(row[axis]) for axis in axes] for row in rows])


@pytest.mark.parametrize("method", ["MTCoOp", "UPT"])
def test_points_and_lines_reproduce_differences_of_logits(run, tmp_path, method, capsys):
    trainer, folder = run(method)
    method = method_name(trainer.cfg)
    names = [SHADES[i] for i in (3, 0, 1, 4)]
    out = tmp_path / "e"
    assert embedding.main([folder, "--classes", "white", "RED", "dark green", "black", "--out", str(out)]) == 0
    rows = rows_of(out)
    assert {row["panel"] for row in rows} == {"zero-shot CLIP", method}
    own = [row for row in rows if row["panel"] == method]
    lines, images = ([row for row in own if row["kind"] == kind] for kind in ("classifier", "image"))
    assert [row["class"] for row in lines] == names and len(images) == 8
    labels, expected = logits(trainer, 0, [3, 0, 1, 4])
    assert [row["class"] for row in images] == [names[label] for label in labels]
    assert [row["predicted"] for row in images] == [names[guess] for guess in expected.argmax(1)]
    # four classes: three directions contain every difference of logits, up to the common scale of the lines
    shown = numbers(images) @ numbers(lines).T
    shown, wanted = shown - shown.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True)
    factor = (shown * wanted).sum() / (wanted * wanted).sum()
    assert factor > 0 and np.allclose(shown, factor * wanted, atol=1e-4 * np.abs(shown).max())
    right = 100 * np.mean([guess == label for guess, label in zip(expected.argmax(1), labels, strict=True)])
    printed = capsys.readouterr().out
    assert f"{method}: {right:.2f} % of 8 images right among 4 classes, 100 % of" in printed


def test_with_two_classes_the_other_axes_come_from_the_images(run, tmp_path):
    _, folder = run("MTCoOp")
    assert embedding.main([folder, "--task", "marks", "--classes", "2", "--out", str(tmp_path / "e")]) == 0
    rows = [row for row in rows_of(tmp_path / "e") if row["panel"] == "SoftCPT-NATA"]
    ends = numbers(rows[:2])
    assert np.allclose(ends[0], -ends[1], atol=1e-6) and np.abs(ends[:, 1:]).max() < 1e-6 * np.abs(ends).max()
    assert (numbers(rows[2:]).std(0) > 0).all()


def test_axes_are_orthonormal_and_report_their_share():
    rng = np.random.default_rng(0)
    text, image = rng.normal(size=(7, 20)), rng.normal(size=(30, 20))
    basis, share = embedding.axes_of(text, image)
    assert np.allclose(basis.T @ basis, np.eye(3))
    centred = text - sum(text) / 7
    kept = ((centred @ basis) ** 2).sum() / (centred**2).sum()
    assert share == pytest.approx(kept) and 0.4 < share < 1


def test_tsne_in_two_dimensions(run, tmp_path):
    _, folder = run("MTCoOp")
    assert embedding.main([folder, "--tsne", "--out", str(tmp_path / "e")]) == 0
    rows = rows_of(tmp_path / "e")
    assert "z" not in rows[0] and len(rows) == 2 * (5 + 10)
    assert np.isfinite(numbers(rows, "xy")).all() and numbers(rows, "xy").std(0).min() > 0


def test_unsupported_runs_and_classes_are_refused(run, tmp_path, capsys):
    _, soft = run("MTCoOp")
    _, hand = run("ZeroshotCLIP")
    _, pairs = run("CoCoOp")
    for text, arguments in {
        "zero-shot CLIP is the first panel of every run": (hand,),
        "CoCoOp has no text feature of each class": (pairs,),
        "--classes blue: no such class; the task has: red, dark_green": (soft, "--classes", "red", "blue"),
        "at least two classes, found 1": (soft, "--classes", "red", "Red"),
        "the run has no such task": (soft, "--task", "birds"),
        "expected at least two classes": (soft, "--task", "one"),
        "is not the folder of a run": (tmp_path,),
    }.items():
        assert text in refused(capsys, embedding.main, *arguments, "--out", tmp_path / "e")
