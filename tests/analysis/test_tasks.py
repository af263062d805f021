"""Test cosines between tasks against vectors read from the learners directly."""

import numpy as np
import pytest
import torch

from analysis import tasks
from tests.analysis.figures import KEYS, refused, rows_of

SOFT = "TRAINER.MTCOOP."


def cosines(vectors):
    """{(task, other): (cosine, inner product)} of three vectors, pair by pair."""
    found = {}
    for t, a in enumerate(vectors):
        for u, b in enumerate(vectors):
            a_, b_ = (x.detach().double().flatten().numpy() for x in (a, b))
            inner = sum(float(p) * float(q) for p, q in zip(a_, b_, strict=True))
            found[KEYS[t], KEYS[u]] = inner / np.linalg.norm(a_) / np.linalg.norm(b_), inner
    return found


def check(rows, expected):
    assert list(dict.fromkeys(row["matrix"] for row in rows)) == list(expected)
    for title, vectors in expected.items():
        own, pairs = [row for row in rows if row["matrix"] == title], cosines(vectors)
        assert len(own) == 9
        for row in own:
            cosine, inner = pairs[row["task"], row["other"]]
            assert float(row["cosine"]) == pytest.approx(cosine, abs=1e-5)
            assert float(row["inner_product"]) == pytest.approx(inner, rel=1e-4, abs=1e-5)
        place = {row["task"]: int(row["position"]) for row in own}
        assert sorted(place.values()) == [0, 1, 2]
        # the most similar pair is drawn side by side
        near = max((key for key in pairs if key[0] < key[1]), key=lambda key: pairs[key][0])
        assert abs(place[near[0]] - place[near[1]]) == 1


@torch.no_grad()
def vectors_of(trainer):
    """{title: vectors of the tasks} of the heat maps, from the parts of the learner."""
    model = trainer.model
    if trainer.cfg.TRAINER.NAME == "MTCoOp":
        features = model.tower(model.task_prompt_learner())
        if not model.csc:
            return {"task features": features, "generated contexts": features @ model.prompt_gen.proj}
        classes = model.tower(model.class_prompt_learner())
        means = [
            sum(torch.cat([classes[c], features[t]]) @ model.prompt_gen.proj for c in columns) / len(columns)
            for t, columns in enumerate((range(5), range(5, 6), range(6, 10)))
        ]
        return {"task features": features, "generated contexts": means}
    if trainer.cfg.TRAINER.NAME == "MTUPT":
        text, visual = model.prompts()
        names = ("task features", "generated text prompts", "generated visual prompts")
        return dict(zip(names, (model.sets.task_features(), text, visual), strict=True))
    if trainer.cfg.TRAINER.NAME == "VPT":
        return {"visual prompts": [own.ctx for own in model.sets]}
    return {"contexts": [own["ctx"] for own in model.prompt_learner.learners]}


@pytest.mark.parametrize(
    "method",
    [
        ("MTCoOp",),
        ("MTCoOp", SOFT + "CSC", True),
        ("MTUPT",),
        ("MTCoOpHard", "TRAINER.MTCOOPH.TSC", True),
        ("VPT", "TRAINER.VPT.TSC", True),
    ],
    ids=["SoftCPT", "class features", "MTUPT", "TSC", "VPT TSC"],
)
def test_cosines(run, tmp_path, method):
    trainer, folder = run(*method)
    assert tasks.main([folder, "--out", str(tmp_path / "t")]) == 0
    check(rows_of(tmp_path / "t"), vectors_of(trainer))


def test_figures_are_written_to_the_run_by_default(run, capsys):
    _, folder = run("MTCoOp")
    capsys.readouterr()
    assert tasks.main([folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder}/figures/tasks.png" and len(lines) == 5
    assert lines[3].startswith("task features: mean cosine ")


def test_runs_without_vectors_per_task_are_refused(run, capsys):
    for text, method in {
        "CoOp-MT has no feature, context or prompt for each task": ("MTCoOpHard",),
        "VPT-deep has no feature": ("VPT",),
        "MTUPT-hard has no feature": ("MTUPT", "TRAINER.MTUPT.SHARING", "hard"),
        "learns nothing": ("ZeroshotCLIP",),
        "one task (marks)": ("MTCoOp", "DATASET.SUBSAMPLE_TASKS", "task2"),
    }.items():
        _, folder = run(*method)
        assert text in refused(capsys, tasks.main, folder)
