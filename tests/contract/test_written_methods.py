"""Nine methods of different kinds, each written as a user would write it: one file, without overriding the engine.

Three methods are printed in docs/add-a-method.md and executed from the page; the others are in tests/contract/written.
Each method is trained on Icon5, saved, loaded, tested on new classes, and used in an analysis and in predictions.
"""

import csv
import importlib
import json
import re
from pathlib import Path

import pytest
import torch

import predict
import train
from analysis import embedding
from dassl.config import get_cfg_default, load
from dassl.engine import TRAINER_REGISTRY, build_trainer
from trainers.base import MultiTaskTrainer
from trainers.learner import Learner

REPO = Path(__file__).parents[2]
METHODS = {
    "text_adapter": "TextAdapterCLIP",
    "image_adapter": "ImageAdapterCLIP",
    "low_rank_clip": "LowRankCLIP",
    "coupled_prompts": "WrittenCoupledPrompts",
    "class_tokens": "WrittenClassTokens",
    "late_tokens": "WrittenLateTokens",
    "cache": "WrittenCache",
    "frozen_beside": "WrittenFrozenBeside",
    "task_changes": "WrittenTaskChanges",
}
HOOKS = {"section", "learner", "position", "build_learner", "problems", "load_critical_settings", "loss", "gradients"}
SETTINGS = """
DATASET: {NAME: Icon5, NUM_SHOTS: 1, SUBSAMPLE_TASKS: [0, 3]}
DATALOADER: {NUM_WORKERS: 0, TEST: {BATCH_SIZE: 64}}
INPUT: {SIZE: [64, 64], PIXEL_MEAN: [0.5, 0.5, 0.5], PIXEL_STD: [0.5, 0.5, 0.5]}
MODEL: {BACKBONE: {NAME: tiny}}
OPTIM: {NAME: sgd, LR: 0.01, MAX_EPOCH: 1}
SEED: 1
USE_CUDA: False
"""
PAGE = (REPO / "docs" / "add-a-method.md").read_text(encoding="utf-8")
STILL = ("cache",)  # methods that change predictions but neither features nor classifiers
for name in METHODS:
    if printed := re.search(rf"<!-- file: {name}.py -->\n```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(printed[1], f"add-a-method.md: {name}.py", "exec"), {"__name__": name})
    else:
        importlib.import_module(f"tests.contract.written.{name}")
written = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A function that returns the folder of a finished run. Each run is created when it is first needed."""
    folder, made = tmp_path_factory.mktemp("written"), {}
    (folder / "settings.yaml").write_text(SETTINGS)

    def run(method, classes="base", *more):
        out = folder / f"{method}-{classes}"
        if out not in made:
            arguments = ["--trainer", METHODS[method], "--config-file", str(folder / "settings.yaml")]
            arguments += ["--output-dir", str(out), *more, "DATASET.SUBSAMPLE_CLASSES", classes]
            made[out] = train.main(arguments)
        assert made[out] == 0
        return out

    return run


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_the_methods_override_only_hooks():
    own = {hook for name in METHODS.values() for hook in vars(TRAINER_REGISTRY.get(name)) if not hook.startswith("__")}
    assert own <= HOOKS, own - HOOKS
    hooks = {"additions", "text", "image", "logits", "start", "parameter_groups"}
    assert hooks <= set(vars(Learner)) and MultiTaskTrainer.step.__qualname__.startswith("MultiTaskTrainer")


@written
def test_every_parameter_gets_a_gradient_and_the_towers_do_not_change(method, tmp_path):
    cfg = get_cfg_default()
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    load(cfg, [tmp_path / "settings.yaml"], ["TRAINER.NAME", METHODS[method], "OUTPUT_DIR", str(tmp_path / "run")])
    trainer = build_trainer(cfg)
    before = {key: value.clone() for key, value in trainer.clip.state_dict().items()}
    if trainer.model.starts:
        trainer._start()
    for parameter in trainer.model.parameters():
        if not parameter.any():  # e.g. B of low-rank changes: a zero blocks the gradient of A
            parameter.data.normal_(std=0.01)
    trainer.set_model_mode("train")
    trainer.forward_backward(next(iter(trainer.train_loader_x)))
    assert [name for name, p in trainer.model.named_parameters() if p.grad is None or not p.grad.any()] == []
    after = trainer.clip.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(value, before[key]) for key, value in after.items())
    assert not any(parameter.requires_grad for parameter in trainer.clip.parameters())


@written
def test_it_trains_and_loads(method, runs, capsys):
    base = runs(method)
    found = results(base)
    assert found["status"] == "complete" and found["learnable_parameters"] > 0
    assert train.main(["--config-file", f"{base}/config.yaml", "--eval-only", "--model-dir", str(base),
                       "--output-dir", f"{base}-again"]) == 0  # fmt: skip
    assert results(Path(f"{base}-again"))["tasks"] == found["tasks"]


@written
def test_new_classes(method, runs):
    """All nine methods support new classes: no parameter belongs to one class. The cache gives new classes no votes."""
    base = runs(method)
    new = runs(method, "new", "--eval-only", "--model-dir", str(base))
    found = results(new)
    assert found["protocol"] == "new" and found["mean"]["value"] > 10  # chance is 100 / 15 at most


@written
def test_predictions(method, runs, capsys):
    base = runs(method)
    image = next(iter(sorted(REPO.glob("docs/figures/*.png"))))
    capsys.readouterr()
    assert predict.main([str(base), str(image), "--json", "--topk", "2"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert len(row["tasks"]) == 2 and all(len(task["classes"]) == 2 for task in row["tasks"])


@written
def test_the_embedding_shows_what_the_method_does(method, runs, tmp_path, capsys):
    base = runs(method)
    assert embedding.main([str(base), "--classes", "4", "--out", str(tmp_path / "e")]) == 0
    with open(tmp_path / "e.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = {}
    for row in rows:
        if row["kind"] == "image":
            points.setdefault(row["panel"], []).append([float(row[axis]) for axis in "xyz"])
    zero, own = (torch.tensor(points[panel]) for panel in ("zero-shot CLIP", METHODS[method]))
    assert torch.equal(zero, own) == (method in STILL)


def test_a_loaded_model_knows_the_classes_of_training(runs):
    """The second feature is used only for classes of training, which `known` marks after loading."""
    from dassl.runs.open import load_trainer, read_setup

    base = runs("late_tokens")
    cfg, space = read_setup(str(base))
    trainer = load_trainer(str(base), cfg, space)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    text, image = trainer.text_features(), trainer.encode_images(images)
    z, z_r = trainer.model.both(image, text)
    assert trainer.model.known.all()
    assert torch.allclose(trainer.model_inference(images), 0.7 * z + 0.3 * z_r, atol=1e-4)
    trainer.model.known[:3] = False
    assert torch.allclose(trainer.model_inference(images)[:, :3], z[:, :3], atol=1e-4)
    cfg.defrost()
    cfg.DATASET.SUBSAMPLE_CLASSES = "new"
    assert not load_trainer(str(base), cfg).model.known.any()


def test_training_of_a_cache_starts_at_the_fitted_keys(runs):
    base = runs("cache")
    file = next(base.glob("prompt_learner/model.pth.tar-1"))
    state = torch.load(file, weights_only=True)["state_dict"]
    keys, column = state["rows.keys"], state["rows.column"]
    assert len(keys) == len(column) == results(base)["learnable_parameters"] // keys.shape[1]
    lengths = keys.norm(dim=-1)
    assert torch.allclose(lengths, torch.ones(len(keys)), atol=0.2) and not torch.allclose(
        lengths, torch.ones(len(keys))
    )


def test_sets_of_tasks_are_loaded_by_task(runs):
    """Each class is compared with the image feature of its task. A model of two tasks can be loaded for one of them."""
    from dassl.runs.open import load_trainer, read_setup

    base = runs("task_changes")
    cfg, space = read_setup(str(base))
    both, one = load_trainer(str(base), cfg, space), load_trainer(str(base), cfg, space.subset([1]))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    columns, task = space.columns(1), torch.ones(2, dtype=torch.long)
    assert both.by_task and not one.by_task
    found = both.model_inference(images)
    assert torch.allclose(found[:, columns], one.model_inference(images), atol=1e-4)
    assert torch.allclose(both.model_inference(images, task)[:, columns], found[:, columns], atol=1e-4)
    assert (both.model_inference(images, task)[:, space.columns(0)] == float("-inf")).all()
