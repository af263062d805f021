"""Test variances against loops over images, and improvements against the results of runs."""

import numpy as np
import pytest
import torch
from PIL import Image

from analysis import variance
from dassl.data.transforms import build_transform
from tests.analysis.figures import KEYS, refused, rows_of
from tests.reporting.written import numbers, write


def unit(row):
    return row / np.sqrt((row * row).sum())


def loops(trainer, t, part="test"):
    """(visual, text) variance of task t, computed image by image."""
    transform = build_transform(trainer.cfg, is_train=False)
    by_class = {}
    with torch.no_grad():
        for item in getattr(trainer.dm.dataset, part):
            if item.task == t:
                image = transform(Image.open(item.impath).convert("RGB"))
                x = trainer.clip.encode_image(image[None])[0].double().numpy()
                by_class.setdefault(item.label, []).append(unit(x))
        names = [f"a photo of a {name.replace('_', ' ')}." for name in trainer.space.tasks[t].classnames]
        text = [unit(row) for row in trainer.text_tower.encode(names).double().numpy()]
    visual = 0.0
    for images in by_class.values():
        mean = sum(images) / len(images)
        visual += sum(((x - mean) ** 2).sum() for x in images) / len(images) / len(by_class)
    mean = sum(text) / len(text)
    return visual, sum(((w - mean) ** 2).sum() for w in text) / len(text)


@pytest.fixture
def experiment(tmp_path):
    """A function that writes an experiment with one seed per list (one value per task) and returns its folder."""

    def make(name, *seeds, **more):
        for seed, values in enumerate(seeds, 1):
            tasks = [
                {"id": i, "key": key, "name": f"task {i}", "images": 5, "metric": "overall_acc", **numbers(value)}
                for i, (key, value) in enumerate(zip(KEYS, values, strict=False))
            ]
            content = {"status": "complete", "backbone": "ViT-B/16", "tasks": tasks, "mean": numbers(0.0), **more}
            write(tmp_path / name / f"seed{seed}", results=content)
        return tmp_path / name

    return make


@pytest.mark.parametrize("split", ["test", "val"])
def test_variances_agree_with_loops(run, tmp_path, capsys, split):
    trainer, folder = run("ZeroshotCLIP")
    capsys.readouterr()
    assert variance.main([folder, "--out", str(tmp_path / "v"), "--split", split]) == 0
    rows = rows_of(tmp_path / "v")
    assert [row["task"] for row in rows] == list(KEYS)
    for t, row in enumerate(rows):
        visual, text = loops(trainer, t, split)
        assert float(row["visual_variance"]) == pytest.approx(visual, abs=1e-5)
        assert float(row["text_variance"]) == pytest.approx(text, abs=1e-5)
    assert float(rows[1]["text_variance"]) == 0  # one class
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == [f"{tmp_path}/v{ending}" for ending in (".png", ".pdf", ".csv")] and len(printed) == 6


def test_improvements_over_zero_shot(run, tmp_path, experiment, capsys):
    trainer, folder = run("ZeroshotCLIP")
    base = [task["value"] for task in trainer.evaluator.report["tasks"]]
    coop = experiment("coop", [b + 4 for b in base], [b + 8 for b in base])
    vpt = experiment("vpt", [base[0] + 1, base[1] - 2, base[2] - 30])
    out = tmp_path / "v"
    assert variance.main([folder, f"CoOp={coop}", f"VPT={vpt}", "--out", str(out)]) == 0
    rows = rows_of(out)
    for row, value, gain in zip(rows, base, (1, -2, -30), strict=True):
        assert float(row["zero_shot_percent"]) == pytest.approx(value)
        assert float(row["CoOp_percent"]) == pytest.approx(value + 6)
        assert float(row["CoOp_improvement_points"]) == pytest.approx(6)
        assert float(row["CoOp_std_points"]) == pytest.approx(2)
        assert float(row["VPT_improvement_points"]) == pytest.approx(gain) and row["VPT_std_points"] == ""
    out = capsys.readouterr().out
    assert "CoOp, improvement and intra-class visual variance: r is not computed (fewer than 4 tasks" in out


def test_the_correlation_of_four_tasks_or_more():
    x, y = np.array([1.0, 2.0, 4.0, 7.0]), np.array([3.0, -1.0, 5.0, 0.0])
    dx, dy = x - x.mean(), y - y.mean()
    r = (dx * dy).sum() / np.sqrt((dx * dx).sum() * (dy * dy).sum())
    assert variance.correlation(x, y) == pytest.approx(r)
    assert variance.correlation(x[:3], y[:3]) is None and variance.correlation(x, np.ones(4)) is None


def test_tasks_without_results_are_skipped(run, tmp_path, experiment, capsys):
    _, folder = run("ZeroshotCLIP")
    some = experiment("a", [50.0, 60.0])
    write(some / "seed2", results={"status": "interrupted"})
    assert variance.main([folder, f"A={some}", "--out", str(tmp_path / "v")]) == 0
    rows = rows_of(tmp_path / "v")
    assert rows[1]["A_percent"] == "60.0" and rows[2]["A_percent"] == ""
    assert "note: A: unfinished: seed2" in capsys.readouterr().out


def test_runs_that_cannot_be_compared_are_refused(run, tmp_path, experiment, capsys):
    _, folder = run("ZeroshotCLIP")
    _, learned = run("MTCoOp")
    other = experiment("other", [1.0, 2.0, 3.0], backbone="RN50")
    new = experiment("new", [1.0, 2.0, 3.0], protocol="new")
    few = experiment("few", [1.0, 2.0, 3.0], protocol="few-shot")
    strangers = tmp_path / "strangers"
    tasks = [{"id": 0, "key": "birds", "name": "birds", **numbers(1.0)}]
    write(strangers, results={"status": "complete", "tasks": tasks, "mean": numbers(1.0)})
    out = ("--out", tmp_path / "v")
    for text, arguments in {
        "expected runs of ZeroshotCLIP": (learned,),
        "backbone RN50, and the zero-shot run has ViT-B/16": (folder, f"A={other}"),
        "protocol new, and the zero-shot run has all": (folder, f"A={new}"),
        "has results of birds; the zero-shot run of shades, one, marks": (folder, f"A={strangers}"),
        "more than one of the zero-shot runs": (folder, folder),
        "expected a unique label": (folder, f"A={few}", f"A={few}"),
        "before LABEL=FOLDER": (f"A={few}",),
        "no such folder": (folder, f"A={tmp_path / 'nowhere'}"),
        "is not the folder of a run": (tmp_path,),
    }.items():
        assert text in refused(capsys, variance.main, *arguments, *out)
    assert not (tmp_path / "v.png").exists()
    assert variance.main([str(folder), f"A={few}", *map(str, out)]) == 0
