"""Test that loading refuses models of another CLIP or with other critical settings."""

import json

import pytest
import torch

from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.models import state_dict, tiny_vit
from tests.suite import config

# trainer, settings in training, settings in the test, expected message
CASES = [
    ("CoOp", {}, {"CLASS_TOKEN_POSITION": "front"}, "COOP.CLASS_TOKEN_POSITION end, and this run has front"),
    ("MTCoOpHard", {"TOKEN_POSITION": "middle"}, {}, "MTCOOPH.TOKEN_POSITION middle, and this run has end"),
    ("MTCoOp", {"CSC": True, "PG_TYPE": "lincls"}, {"CSC": True, "PG_TYPE": "linmean"}, "PG_TYPE lincls"),
    ("MTCoOp", {}, {"TASK_TOKEN_POSITION": "front"}, "TASK_TOKEN_POSITION end, and this run has front"),
    ("MTCoOp", {"PG_TYPE": "transformer"}, {"PG_TYPE": "transformer", "PG_HEADS": 4}, "PG_HEADS 8, and this run has 4"),
    ("UPT", {"HEADS": 4}, {}, "UPT.HEADS 4, and this run has 1"),
    ("MTUPT", {}, {"HEADS": 2}, "MTUPT.HEADS 1, and this run has 2"),
    ("MTUPT", {"PG_TYPE": "transformer"}, {"PG_TYPE": "transformer", "PG_HEADS": 2}, "PG_HEADS 8, and this run has 2"),
    ("CLIPLoRA", {}, {"SCALE": 50.0}, "CLIPLORA.SCALE 100.0, and this run has 50.0"),
    ("MMRL", {"SCALE": 100.0}, {}, "MMRL.SCALE 100.0, and this run has 0.0"),
    ("ProLIP", {}, {"SCALE": 50.0}, "PROLIP.SCALE 0.0, and this run has 50.0"),
    ("TipAdapter", {}, {"SCALE": 50.0}, "TIPADAPTER.SCALE 0.0, and this run has 50.0"),
    ("ProtoNet", {"METRIC": "euclidean"}, {}, "METRIC euclidean, and this run has cosine"),
]
IDS = [f"{name}-{text.split(' ')[0]}" for name, _, _, text in CASES]


@pytest.fixture
def build(tmp_path):
    def made(folder, name, settings=(), seed=0, *opts):
        from dassl.engine import TRAINER_REGISTRY

        path = tmp_path / f"{seed}.pt"
        if not path.exists():
            tensors = state_dict(tiny_vit())
            torch.save({**tensors, "logit_scale": tensors["logit_scale"] + seed}, path)
        section = TRAINER_REGISTRY.get(name).section
        pairs = [part for key, value in dict(settings).items() for part in (f"TRAINER.{section}.{key}", value)]
        steps = ("OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
        return build_trainer(config(tmp_path / folder, name, path, 32, *pairs, *steps, *opts))

    return made


@pytest.mark.parametrize(("name", "learned", "tested", "text"), CASES, ids=IDS)
def test_settings_that_no_tensor_shows(build, name, learned, tested, text):
    first = build("a", name, learned)
    first.train()
    other = build("b", name, tested)
    with pytest.raises(UserError, match=text):
        other.load_model(first.output_dir)
    build("c", name, learned).load_model(first.output_dir)


def test_a_default_is_the_number_it_stands_for(build):
    first = build("a", "UPT")
    first.train()
    build("b", "UPT", {"HEADS": 1}).load_model(first.output_dir)


def test_what_only_training_reads_may_differ(build, capsys):
    first = build("a", "ProGrad", {"LAMBDA": 0.5})
    first.train()
    capsys.readouterr()
    build("b", "ProGrad", {"LAMBDA": 1.0, "T": 2.0}).load_model(first.output_dir)
    printed = capsys.readouterr().out
    assert f"WARNING: {first.output_dir} was trained with TRAINER.PROGRAD.LAMBDA 0.5 (here 1.0), TRAINER.PROGRAD.T" in (
        printed
    )
    build("c", "ProGrad", {"LAMBDA": 0.5}).load_model(first.output_dir)
    assert "was trained with" not in capsys.readouterr().out


def test_another_clip(build, capsys):
    first = build("a", "CoOp")
    first.train()
    other = build("b", "CoOp", (), 1)
    capsys.readouterr()
    other.load_model(first.output_dir)  # same name: possibly the same weights in another format
    assert "was trained with other weights of ViT-B/16 (SHA-256 " in capsys.readouterr().out
    named = build("c", "CoOp", (), 1, "MODEL.BACKBONE.NAME", "ViT-B/32")
    with pytest.raises(UserError, match="trained with the CLIP ViT-B/16, and this run has ViT-B/32"):
        named.load_model(first.output_dir)


def test_a_model_without_records_beside_it(build, tmp_path):
    first = build("a", "CoOp")
    first.train()
    folder = tmp_path / "a" / "run"
    (folder / "config.yaml").unlink()
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "hashes": None}))
    build("b", "CoOp", {"CLASS_TOKEN_POSITION": "front"}, 1).load_model(str(folder))
