"""Test the comparison of a learned model with zero-shot CLIP on the same test images."""

import json

import pytest

import trainers  # noqa: F401
from dassl.engine import build_trainer
from dassl.runs.logs import final_test_block
from tests.suite import config
from trainers.zero_shot import ZeroShotCheck

LEARNED = ("MTCoOpHard", "LinearProbe")


def results(tmp_path, name, trainer, weights, *opts):
    built = build_trainer(config(tmp_path, trainer, weights, 32, "OUTPUT_DIR", str(tmp_path / name), *opts))
    built.train()
    return json.loads((tmp_path / name / "results.json").read_text())


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("trainer", LEARNED)
def test_the_numbers_are_those_of_a_zero_shot_run(trainer, cache, weights, tmp_path):
    zero = results(tmp_path, "zero", "ZeroshotCLIP", weights)
    opts = ("DATALOADER.FEATURE_CACHE", cache, "TRAINER.LINEARPROBE.C", 1.0, "TRAINER.LINEARPROBE.PREC", "fp32")
    found = results(tmp_path, "learned", trainer, weights, *opts)["zero_shot"]
    assert zero["zero_shot"] is None
    for mine, theirs in zip((found["mean"], *found["tasks"]), (zero["mean"], *zero["tasks"]), strict=True):
        for key, value in mine.items():  # batches of other sizes may round features otherwise
            assert value == (pytest.approx(theirs[key], rel=1e-5) if isinstance(value, float) else theirs[key]), key


def test_no_image_is_encoded_twice(weights, tmp_path):
    cfg = config(tmp_path, "MTCoOpHard", weights, 32, "DATALOADER.FEATURE_CACHE", False)
    built = build_trainer(cfg)
    built.epochs_done = 1
    seen = []
    encode = built.frozen_features
    built.frozen_features = lambda images: seen.append(len(images)) or encode(images)
    built.test()
    assert sum(seen) == 18 and built.run_extra["zero_shot"]["mean"]["value"] is not None


@pytest.mark.parametrize("more", [True, False])
def test_the_warning_names_tasks_and_both_numbers_and_leaves_the_result_alone(more, weights, tmp_path, capsys):
    built = build_trainer(config(tmp_path, "MTCoOpHard", weights))
    built.dm.dataset.more_images = more  # as for a suite with unused training images
    right = built.model_inference
    built.model_inference = lambda *args: -right(*args)  # the least likely class
    built.train()
    found, out = json.loads((tmp_path / "run" / "results.json").read_text()), capsys.readouterr().out
    pairs = list(zip(found["tasks"], found["zero_shot"]["tasks"], strict=True))
    worse = [(a, b) for a, b in pairs if a["value"] < b["value"]]
    assert worse
    (line,) = [line for line in out.splitlines() if line.startswith("WARNING: below zero-shot CLIP")]
    assert f"on {len(worse)} of 3 tasks" in line
    for a, b in worse:
        assert f"{a['name']} {a['value']:.2f}% (zero-shot {b['value']:.2f}%)" in line
    assert ("more images per class" in line) == more
    (line,) = [line for line in out.splitlines() if line.startswith("Compared with zero-shot CLIP: ")]
    assert line.endswith(
        f"mean over tasks {found['mean']['value']:.2f}% (zero-shot {found['zero_shot']['mean']['value']:.2f}%)"
    )
    block, problem = final_test_block(out.splitlines())
    assert not problem and block.numbers["overall_metric"] == pytest.approx(found["mean"]["value"], abs=0.01)
    assert len(block.tasks) == 3 and block.total == 18


def test_it_can_be_turned_off_and_does_not_warn_where_learning_pays(weights, tmp_path, capsys):
    off = results(tmp_path, "off", "MTCoOpHard", weights, "TEST.ZERO_SHOT_CHECK", False)
    assert off["zero_shot"] is None and "zero-shot" not in capsys.readouterr().out
    built = build_trainer(config(tmp_path, "MTCoOpHard", weights))
    check = ZeroShotCheck(built.cfg, built.clip, built.text_tower, built.space)
    for batch in built.test_loader:
        check.process(built.frozen_features(batch["img"]), batch["label"], batch["task"])
    report = check.evaluator.measure()[0]
    capsys.readouterr()
    assert check.compare(report)["mean"] == report["mean"]  # equal is not worse
    assert capsys.readouterr().out.startswith("Compared with zero-shot CLIP: +0.00 points, mean over tasks ")
    assert check.compare({"tasks": report["tasks"][:2], "mean": report["mean"]}) is None  # other images


def test_hand_made_prompts_that_cannot_be_stop_no_test(weights, tmp_path, capsys):
    missing = str(tmp_path / "templates.yaml")
    found = results(tmp_path, "run", "MTCoOpHard", weights, "TRAINER.ZSCLIP.TEMPLATES", missing)
    plain = results(tmp_path, "plain", "MTCoOpHard", weights)
    assert found["status"] == "complete" and found["zero_shot"] is None and found["tasks"] == plain["tasks"]
    assert (
        f"WARNING: not compared with zero-shot CLIP: TRAINER.ZSCLIP.TEMPLATES: the file {missing} does not exist"
        in (capsys.readouterr().out)
    )


def test_validation_during_training_is_not_compared(weights, tmp_path, capsys):
    opts = ("TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 2)
    assert results(tmp_path, "run", "MTCoOpHard", weights, *opts)["zero_shot"]
    assert capsys.readouterr().out.count("below zero-shot") <= 1
