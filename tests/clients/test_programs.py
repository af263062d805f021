"""CoOp's main program with trainers and datasets of its family: they train, save, load and evaluate."""

import shutil

import pytest
import torch
from torchvision import transforms as T

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import close_logger, load_checkpoint
from tests.clients import coop
from tests.dassl import toy

KINDS = {
    TRAINER_REGISTRY: ("ClientCoOp", "ClientMVLPT", "ClientAdapter"),
    DATASET_REGISTRY: ("ClientsTwo", "ClientsThree"),
}
for _registry, _names in KINDS.items():
    for _name in _names:  # other tests use all registered names
        _registry._objects.pop(_name)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("clients")
    toy.draw_images(root)
    for name in ("two", "three"):
        shutil.copytree(root / "toy", root / name)
    (root / "method.yaml").write_text(
        "DATALOADER:\n  NUM_WORKERS: 0\n  TRAIN_X:\n    BATCH_SIZE: 6\n  TEST:\n    BATCH_SIZE: 50\n"
        'INPUT:\n  SIZE: (64, 64)\n  INTERPOLATION: "bicubic"\n  TRANSFORMS: ["random_resized_crop", "random_flip", '
        '"normalize"]\nOPTIM:\n  NAME: "sgd"\n  LR: 0.05\n  MAX_EPOCH: 2\n  LR_SCHEDULER: "cosine"\n  WARMUP_EPOCH: 1\n'
        '  WARMUP_TYPE: "constant"\n  WARMUP_CONS_LR: 1e-5\nTRAIN:\n  PRINT_FREQ: 5\n  TENSORBOARD: False\n'
        'MODEL:\n  BACKBONE:\n    NAME: "tiny"\nDATASET:\n  NUM_SHOTS: 2\n'
    )
    return root


@pytest.fixture
def run(root, monkeypatch):
    for registry, names in KINDS.items():
        for name in names:
            monkeypatch.setitem(registry._objects, name, getattr(coop, name))

    def run(trainer, output, *arguments, flags=()):
        files = ["--root", str(root), "--config-file", str(root / "method.yaml"), "--output-dir", str(root / output)]
        try:
            return coop.main([*files, "--trainer", trainer, "--seed", "1", *flags, *map(str, arguments)])
        finally:
            close_logger()

    return run


def test_coop_trains_and_an_early_epoch_is_tested(run, root):
    trainer = run("ClientCoOp", "coop", "DATASET.NAME", "ClientsThree", "TRAIN.CHECKPOINT_FREQ", 1)
    assert trainer.epochs_done == 2 and trainer.model.dtype == torch.float32
    assert (root / "three" / "split_fewshot" / "shot_2-seed_1.pkl").is_file()
    log = (root / "coop" / "log.txt").read_text()
    assert "Finished training" in log and "* accuracy: " in log
    flags = ["--eval-only", "--model-dir", str(root / "coop"), "--load-epoch", "1"]
    early = run("ClientCoOp", "early", "DATASET.NAME", "ClientsThree", flags=flags).model.prompt_learner
    saved = load_checkpoint(root / "coop" / "prompt_learner" / "model.pth.tar-1")["state_dict"]
    assert torch.equal(early.ctx, saved["ctx"]) and not torch.equal(early.ctx, trainer.model.prompt_learner.ctx)


@pytest.mark.parametrize("order", ["ClientsTwo,ClientsThree", "ClientsThree,ClientsTwo"])
def test_mvlpt_trains_on_several_datasets_in_any_order(run, order):
    trainer = run("ClientMVLPT", f"mvlpt_{order}", "DATASET.DATASET", order, "OPTIM.MAX_EPOCH", 1)
    dm = trainer.dm
    assert (dm.num_classes, len(dm.lab2cname), dm.space.num_classes) == (5, 5, 5)
    assert dm.dataset.classnames == [name for part in order.split(",") for name in getattr(coop, part).classes]
    assert {item.label for item in dm.dataset.train_x} == set(range(5)) and trainer.domains == {0, 1}
    row = trainer.evaluator.report["tasks"][0]
    assert (row["classes"], row["images"]) == (5, 30)
    assert dm._task_class_idx[order.split(",")[1]][1] == 5


def test_an_adapter_on_augmented_passes(run):
    trainer = run("ClientAdapter", "adapter", "DATASET.NAME", "ClientsTwo")
    assert trainer.model.weight.any() and trainer.evaluator.report["tasks"][0]["images"] == 12
    augmented, labels = trainer.extract(3)
    assert not torch.equal(augmented[0], augmented[1]) and not torch.equal(augmented[1], augmented[2])
    assert torch.equal(labels[0], labels[1])
    plain = T.Compose([T.Resize((64, 64)), T.ToTensor()])
    fixed, _ = trainer.extract(2, plain)
    assert torch.equal(fixed[0], fixed[1]) and not torch.equal(fixed[0], augmented[0])
