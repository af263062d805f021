"""Tests that do not know the task of an image, against a naive computation."""

import json

import pytest
import torch

import trainers  # noqa: F401
from dassl.engine import build_trainer
from dassl.evaluation import TaskUnknown
from dassl.utils import UserError
from tests.dassl import toy
from tests.suite import config
from tools import draw_shapes


@pytest.mark.parametrize("method", ["ZeroshotCLIP", "MTCoOp", "CLIPAdapter", "VPT", "TipAdapter"])
def test_numbers_are_those_of_a_loop_over_images(method, tmp_path, weights):
    own = ("TRAINER.VPT.TSC", True) if method == "VPT" else ()  # each task has its own image features
    reports = []
    for known in (True, False):
        run = ("OUTPUT_DIR", str(tmp_path / f"{known}"), "TEST.TASK_KNOWN", known)
        trainer = build_trainer(config(tmp_path, method, weights, 32, *run, *own))
        trainer.train()
        reports.append(json.loads((tmp_path / f"{known}" / "results.json").read_text()))
    assert reports[0]["task_unknown"] is None
    assert [t["overall_acc"] for t in reports[0]["tasks"]] == [t["overall_acc"] for t in reports[1]["tasks"]]
    found, views = reports[1]["task_unknown"], trainer.dm.test_loader.dataset
    right = {t: [] for t in range(3)}
    for i, item in enumerate(trainer.dm.dataset.test):
        best = int(trainer.model_inference(views[i]["img"][None].to(trainer.device)).argmax())
        task = next(t for t in range(3) if best < trainer.space.offsets[t + 1])
        right[item.task].append((task == item.task, best == trainer.space.offsets[item.task] + item.label))
    for row, own in zip(found["tasks"], right.values(), strict=True):
        assert row["images"] == len(own)
        for name, hits in zip(("task_acc", "joint_acc"), zip(*own, strict=True), strict=True):
            assert row[name] == pytest.approx(100 * sum(hits) / len(hits))
    assert found["mean"]["joint_acc"] == pytest.approx(sum(row["joint_acc"] for row in found["tasks"]) / 3)


def test_what_cannot_be_tested_so_is_refused(tmp_path, weights):
    draw_shapes.main([str(tmp_path / "shapes"), "--images", "30"])
    entry = {"ROOT": str(tmp_path / "shapes" / "labels.csv"), "TASKS": ["shape", "colour"]}
    where = ("DATASET.NAME", "Suite", "DATASET.TASKS", [entry], "TEST.TASK_KNOWN", False)
    with pytest.raises(UserError, match=r"has labels of several tasks, so its task cannot be predicted"):
        build_trainer(config(tmp_path, "MTCoOp", weights, 32, *where))
    cfg = toy.config(tmp_path, tmp_path / "run", TEST__TASK_KNOWN=False)
    with toy.registered(), pytest.raises(UserError, match="TEST.TASK_KNOWN False: ToyCoOp tests one task at a time"):
        build_trainer(cfg)
    trainer = build_trainer(config(tmp_path, "ZeroshotCLIP", weights, 32))
    with pytest.raises(UserError, match="no finite logits"):
        TaskUnknown(trainer.space).process(torch.full((1, 10), float("-inf")), torch.zeros(1), torch.zeros(1))
