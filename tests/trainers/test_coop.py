"""Test CoOp, and that the configurations of CoOp, CoCoOp and KgCoOp match their names."""

import re
from pathlib import Path

import pytest
import torch

from dassl.config import ConfigError, get_cfg_default, load
from dassl.engine import build_trainer
from dassl.utils import UserError
from sweeps.launchers import LAUNCHERS
from tests.models import relative
from tests.suite import config
from tests.trainers import published

REPO = Path(__file__).resolve().parents[2]
FILES = sorted(path for name in ("CoOp", "CoCoOp", "KgCoOp") for path in (REPO / "configs/trainers" / name).iterdir())
BACKBONES = {"rn50": "RN50", "rn101": "RN101", "vit_b16": "ViT-B/16", "vit_b32": "ViT-B/32", "tiny": "tiny"}


@pytest.fixture
def build(tmp_path, weights):
    def made(trainer, folder, *settings):
        return build_trainer(config(tmp_path / folder, trainer, weights, 32, *settings))

    return made


def logits(trainer):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return trainer.encode_images(images), trainer.model_inference(images)


def test_logits_are_the_published_ones(build):
    trainer = build("CoOp", "a", "TRAINER.COOP.TSC", True, "DATASET.SUBSAMPLE_TASKS", "task0,task2")
    features, found = logits(trainer)
    for t, task in enumerate(trainer.space.tasks):
        context = trainer.model.prompt_learner.learners[t]["ctx"]
        assert context.shape == (16, 64)
        text = published.encode(trainer.clip, context, task.classnames)
        expected = torch.stack([published.logits(x, text, trainer.scale) for x in features])
        assert relative(found[:, trainer.space.columns(t)], expected.detach()) < 1e-4


@pytest.mark.parametrize("key", ["TSC", "CSC"])
def test_it_learns_what_hard_sharing_learns(build, key):
    position = {"CoOp": "CLASS_TOKEN_POSITION", "MTCoOpHard": "TOKEN_POSITION"}
    found = []
    for name, section in (("CoOp", "COOP"), ("MTCoOpHard", "MTCOOPH")):
        settings = (f"TRAINER.{section}.{key}", True, f"TRAINER.{section}.{position[name]}", "middle")
        trainer = build(name, name, *settings, "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
        trainer.train()
        found.append(logits(trainer)[1])
    assert torch.equal(*found)


def test_new_classes_need_contexts_that_are_not_of_classes(build):
    base = build("CoOp", "a", "TRAINER.COOP.CSC", True, "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", 1)
    base.train()
    new = build("CoOp", "b", "TRAINER.COOP.CSC", True, "DATASET.SUBSAMPLE_CLASSES", "new")
    with pytest.raises(UserError, match="none was learned for 'shades: white'"):
        new.load_model(base.output_dir)


def test_contradictions_are_told_together(build):
    settings = ("CSC", True, "TSC", True, "CTX_INIT", "a photo of a")
    pairs = [f"TRAINER.COOP.{part}" if n % 2 == 0 else part for n, part in enumerate(settings)]
    with pytest.raises(ConfigError) as error:
        build("CoOp", "a", *pairs)
    assert "TRAINER.COOP.CSC True and TRAINER.COOP.TSC True exclude each other" in str(error.value)
    assert "CTX_INIT 'a photo of a' has 4 tokens and TRAINER.COOP.N_CTX is 16" in str(error.value)


def test_every_method_of_the_tables_has_a_file_for_each_backbone():
    for trainer in ("CoOp", "CoCoOp", "KgCoOp", "ProGrad", "PLOT", "MTCoOp", "MTCoOpHard", "LinearProbe", "ProtoNet"):
        names = [path.stem for path in (REPO / "configs/trainers" / trainer).iterdir()]
        missing = [start for start in BACKBONES if not [n for n in names if re.match(rf"{start}(_|$)", n)]]
        assert not missing, f"{trainer}: {missing}"


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}-{path.stem}" for path in FILES])
def test_configurations_are_what_their_names_say(path):
    trainer, cfg = path.parent.name, get_cfg_default()
    load(cfg, [path])
    section, name = cfg.TRAINER[trainer.upper()], path.stem
    part = dict(re.findall(r"_(ep|c|batch)(\d+)(?=_|$)", name))
    begins = name.endswith("_ctxv1") or (name.startswith("tiny") and trainer != "CoOp")
    large = trainer == "KgCoOp" or name.startswith("tiny")
    found = {
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "epochs": cfg.OPTIM.MAX_EPOCH,
        "batch": cfg.DATALOADER.TRAIN_X.BATCH_SIZE,
        "words": section.CTX_INIT,
        "tokens": section.N_CTX,
    }
    assert found == {
        "backbone": next(full for start, full in BACKBONES.items() if re.match(rf"{start}(_|$)", name)),
        "epochs": int(part.get("ep", 200)),
        "batch": int(part.get("batch", 128 if large else 32)),
        "words": "a photo of a" if begins else "",
        "tokens": int(part.get("c", 4 if begins else 16)),
    }
    command = re.search(r"sh scripts/(\S+) (.*)", path.read_text())
    names = [name.rstrip("?") for name in LAUNCHERS[command[1].removesuffix(".sh")].arguments]
    assert command[1] == f"main_{trainer.lower()}.sh" and command[2].split()[1] == name
    assert 0 <= len(names) - len(command[2].split()) <= 1
    given = dict(zip(names, command[2].split(), strict=False))
    assert int(given.get("N_CTX", found["tokens"])) == found["tokens"]
    assert (REPO / f"configs/datasets/{given['DATASET']}.yaml").is_file()
