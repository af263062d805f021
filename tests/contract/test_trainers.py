"""The contract of every registered trainer of this project, tested on a small ViT and a small ResNet."""

import json
from pathlib import Path

import pytest
import torch

import trainers  # noqa: F401
from clip.clip import tokenize, tokenizer
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import UserError
from dassl.utils.errors import NonFiniteLossError
from tests.models import state_dict, tiny_rn, tiny_vit
from tests.suite import TASKS, config
from trainers.base import FittedTrainer
from trainers.hand import HandPrompts
from trainers.prompts import NameTokens

NAMES = [
    name
    for name in TRAINER_REGISTRY.registered_names()
    if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")
]
FITTED = [name for name in NAMES if issubclass(TRAINER_REGISTRY.get(name), FittedTrainer)]
TRAINING_FREE = ("GDA", "TipAdapter")  # fitted in closed form, without learnable parameters
# Methods trained by gradient steps; tests/trainers/test_fitted.py tests the other methods.
LEARNING = [name for name in NAMES if TRAINER_REGISTRY.get(name).learns and name not in FITTED]
# Settings of the variants of each method. Variants learn different parameters, so each is tested separately.
VARIANTS = {
    "CoCoOp": {"shared": (), "TSC": ("TRAINER.COCOOP.TSC", True)},
    "KgCoOp": {"TSC": ("TRAINER.KGCOOP.TSC", True)},
    "PLOT": {"TSC": ("TRAINER.PLOT.TSC", True), "CSC": ("TRAINER.PLOT.CSC", True)},
    "ProGrad": {"TSC": ("TRAINER.PROGRAD.TSC", True)},
    "VPT": {"deep": (), "shallow-TSC": ("TRAINER.VPT.DEEP", False, "TRAINER.VPT.TSC", True)},
    "UPT": {
        "TSC": ("TRAINER.UPT.TSC", True),
        "shared": ("TRAINER.UPT.MODE", "shared", "TRAINER.UPT.WIDTH", 32),
        "mlp-TSC": ("TRAINER.UPT.MODE", "mlp", "TRAINER.UPT.DEPTH", 1, "TRAINER.UPT.TSC", True),
    },
    "MTUPT": {
        "soft": ("TRAINER.MTUPT.DROPOUT", 0.1),
        "joint": ("TRAINER.MTUPT.MODE", "joint", "TRAINER.MTUPT.TASK_N_CTX", 2, "TRAINER.MTUPT.PG_TYPE", "mlp"),
        "hard": ("TRAINER.MTUPT.SHARING", "hard"),
    },
    "MaPLe": {
        "": (),
        "TSC": ("TRAINER.MAPLE.TSC", True),
        "soft": ("TRAINER.MAPLE.SHARING", "soft", "TRAINER.MAPLE.TASK_N_CTX", 2),
    },
    "IVLP": {
        "soft": ("TRAINER.IVLP.SHARING", "soft"),
        "text": ("TRAINER.IVLP.PROMPT_DEPTH_VISION", 0, "TRAINER.IVLP.TSC", True),
        "image": ("TRAINER.IVLP.PROMPT_DEPTH_TEXT", 0, "TRAINER.IVLP.LEGACY_HALF_PROMPTS", True),
    },
    "PromptSRC": {"": (), "TSC": ("TRAINER.PROMPTSRC.TSC", True), "soft": ("TRAINER.PROMPTSRC.SHARING", "soft")},
    "CoPrompt": {"TSC": ("TRAINER.COPROMPT.TSC", True), "mse": ("TRAINER.COPROMPT.DISTILL", "mse")},
    "CLIPLoRA": {
        "TSC": ("TRAINER.CLIPLORA.TSC", True),
        "soft": ("TRAINER.CLIPLORA.SHARING", "soft", "TRAINER.CLIPLORA.PARAMS", ("v", "out", "fc")),
    },
    "TCP": {"": (), "TSC": ("TRAINER.TCP.TSC", True)},
    "MMRL": {"": (), "TSC": ("TRAINER.MMRL.TSC", True)},
    "MMRLpp": {"": (), "TSC": ("TRAINER.MMRLPP.TSC", True)},
    "DePT": {
        "": (),
        "KgCoOp": ("TRAINER.DEPT.BASE", "KgCoOp", "TRAINER.KGCOOP.TSC", True, "TRAINER.DEPT.TSC", True),
        "CoCoOp": ("TRAINER.DEPT.BASE", "CoCoOp"),
    },
    "CLAP": {"": (), "adaptative": ("TRAINER.CLAP.CONSTRAINT", "adaptative")},
    "CLIPAdapter": {"": (), "TSC": ("TRAINER.CLIPADAPTER.TSC", True)},
    "TipAdapterF": {"": (), "test": ("TRAINER.TIPADAPTERF.CHOSEN_ON", "test")},
    "MTCoOpHard": {"MT": (), "CA": ("TRAINER.MTCOOPH.TSC", True), "CS": ("TRAINER.MTCOOPH.CSC", True)},
    "MTCoOp": {
        "NATA": (),
        "NATS": ("TRAINER.MTCOOP.TASK_CSC", True),
        "CATS": ("TRAINER.MTCOOP.CSC", True, "TRAINER.MTCOOP.TASK_CSC", True),
        "CSTA": ("TRAINER.MTCOOP.CSC", True, "TRAINER.MTCOOP.CLASS_CSC", True),
        "sampled": ("TRAINER.MTCOOP.CSC", True, "TRAINER.MTCOOP.CLS_SAMPLE_RATE", 0.5),
        "lincls": ("TRAINER.MTCOOP.CSC", True, "TRAINER.MTCOOP.PG_TYPE", "lincls"),
        "rand": ("TRAINER.MTCOOP.TASK_FEATURE", "rand"),
        "mlp": ("TRAINER.MTCOOP.CSC", True, "TRAINER.MTCOOP.PG_TYPE", "mlp", "TRAINER.MTCOOP.TASK_FEATURE_DIM", 8),
        "transformer": ("TRAINER.MTCOOP.PG_TYPE", "transformer", "TRAINER.LABEL_SMOOTHING", 0.1),
    },
}
NEED_VIT = ("VPT", "UPT", "MTUPT", "MaPLe", "IVLP", "PromptSRC", "CoPrompt", "MMRL", "MMRLpp", "CLIPLoRA")
NO_NEW_CLASSES = {"TRAINER.MTCOOPH.CSC", "TRAINER.MTCOOP.CLASS_CSC", "TRAINER.PLOT.CSC"}  # one context per class
ZERO_SHOT_ON_NEW = ("TaskRes", "CLAP", "TipAdapterF")  # new classes are predicted as by zero-shot CLIP
CASES = [
    pytest.param(name, options, id=f"{name}-{variant}")
    for name in LEARNING
    for variant, options in VARIANTS.get(name, {"": ()}).items()
]


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """{tower: (weight file, image size)} of the two small models."""
    folder = tmp_path_factory.mktemp("weights")
    found = {}
    for name, model in (("vit", tiny_vit()), ("rn", tiny_rn())):
        torch.save(state_dict(model), folder / f"{name}.pt")
        found[name] = (folder / f"{name}.pt", model.visual.input_resolution)
    return found


def build(tmp_path, trainer, weights, *opts):
    return build_trainer(config(tmp_path, trainer, *weights, *opts))


def logits(trainer):
    size = trainer.clip.visual.input_resolution
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return trainer.model_inference(images)


def takes(name, tower):
    """Whether a method supports this tower: additions to the image tower need a ViT."""
    return tower == "vit" or name not in NEED_VIT


@pytest.mark.parametrize(("name", "tower"), [(n, tower) for n in NAMES for tower in ("vit", "rn") if takes(n, tower)])
def test_logits_cover_the_classes_of_all_tasks(name, tower, weights, tmp_path):
    trainer = build(tmp_path, name, weights[tower])
    found = logits(trainer)
    assert found.shape == (3, 10) and found.dtype == torch.float32 and torch.isfinite(found).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_training_changes_only_the_learner(name, options, weights, tmp_path):
    trainer = build(tmp_path, name, weights["rn" if takes(name, "rn") else "vit"], *options)
    towers = state_dict(trainer.clip)
    before = {key: value.detach().clone() for key, value in trainer.model.named_parameters()}
    trained = {key for key, value in trainer.model.named_parameters() if value.requires_grad}
    steps = {"optimiser": 0, "scheduler": 0}

    trainer.optim.register_step_post_hook(lambda *_: steps.update(optimiser=steps["optimiser"] + 1))
    update_lr = trainer.update_lr
    trainer.update_lr = lambda: steps.update(scheduler=steps["scheduler"] + 1) or update_lr()
    trainer.train()
    assert trainer.sched.last_epoch == 2
    after = dict(trainer.model.named_parameters())
    unused = {"task_prompt_learner.ctx"} if "lincls" in options else set()  # lincls ignores task features
    # The task with one class has zero loss: the weights of its set only decay, and its biases stay zero.
    unused |= {key for key in trained if key.startswith("sets.1.") and key.endswith(("bias", ".B"))}
    unused |= {key for key in trained if key.startswith("sets.1.up.")}
    for key in trained - unused:
        assert not torch.equal(before[key], after[key]), f"{key} did not move"
    assert all(torch.equal(value, towers[key]) for key, value in trainer.clip.state_dict().items())
    assert all(value.dtype == torch.float32 for value in after.values())
    assert steps == {"optimiser": 2 * (40 // 8), "scheduler": 2}


@pytest.mark.parametrize("name", LEARNING)
def test_a_step_under_autocast_agrees_with_full_precision(name, weights, tmp_path):
    """Simulates PREC amp with bfloat16, which CPUs support."""
    found = []
    for autocast in (False, True):
        trainer = build(tmp_path / str(autocast), name, weights["vit"])
        trainer.text_tower.autocast = lambda on=autocast: torch.autocast("cpu", torch.bfloat16, enabled=on)
        if trainer.model.starts:
            trainer._start()
        torch.manual_seed(0)
        loss = trainer.forward_backward(next(iter(trainer.train_loader_x)))["loss"]
        found.append((loss, [p.grad for p in trainer.model.parameters() if p.grad is not None]))
    (loss, grads), (other, others) = found
    assert other == pytest.approx(loss, rel=0.1)
    assert sum(p.norm() for p in grads) > 0 and all(p.dtype == torch.float32 for p in others)
    for one, two in zip(grads, others, strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), two.flatten(), 0) > 0.9 or one.norm() < 1e-4


@pytest.mark.parametrize(("name", "options"), CASES)
def test_save_and_load_give_the_same_logits(name, options, weights, tmp_path):
    first = build(tmp_path, name, weights["vit"], *options)
    first.train()
    second = build(tmp_path, name, weights["vit"], *options)
    assert not torch.allclose(logits(second), logits(first))
    second.load_model(str(tmp_path / "run"))
    assert torch.equal(logits(second), logits(first))
    file = next((tmp_path / "run").glob("*/model.pth.tar-2"))
    names = torch.load(file, weights_only=True)["state_dict"]
    assert not [key for key in names if "token" in key and "proj" not in key], "name embeddings must not be saved"


@pytest.mark.parametrize(("name", "options"), CASES)
def test_training_is_determined_by_the_seed(name, options, weights, tmp_path):
    found = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 0)):
        trainer = build(tmp_path / folder, name, weights["vit"], *options, "SEED", seed)
        trainer.train()
        found.append(logits(trainer))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def words_of_classes(trainer):
    """The distinct lists of class names that the learner embeds, decoded from the token embeddings."""
    table, found = trainer.clip.token_embedding.weight, set()
    parts = [value for module in trainer.model.modules() for value in vars(module).values()]
    for names in (part for part in parts if isinstance(part, NameTokens) and len(part) == trainer.space.num_classes):
        rows = zip(names.tokens, names.name_length.tolist(), strict=True)
        ids = [[int((table == token).all(-1).nonzero()[0]) for token in row[:length]] for row, length in rows]
        found.add(tuple(tokenizer().decode(row).strip() for row in ids))
    return sorted(found)


def assert_new_names(trainer):
    """Check that token embeddings of names and features of hand-made prompts belong to the new classes."""
    names = trainer.space.classnames
    words, hand = words_of_classes(trainer), [m for m in trainer.model.modules() if isinstance(m, HandPrompts)]
    assert words in ([], [names])
    expected = trainer.clip.encode_text(tokenize([f"a photo of a {name}." for name in names]))
    for features in (trainer.model.hand_features(), *(module.features for module in hand)):
        found = torch.nn.functional.normalize(features)
        torch.testing.assert_close(found, torch.nn.functional.normalize(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_base_to_new(name, options, weights, tmp_path):
    """Train on the base classes (3, 1, 2 per task); test on the new ones (2, 0, 2: a single class is a base class)."""
    base = build(tmp_path / "base", name, weights["vit"], *options, "DATASET.SUBSAMPLE_CLASSES", "base")
    base.train()
    new = build(tmp_path / "new", name, weights["vit"], *options, "DATASET.SUBSAMPLE_CLASSES", "new")
    assert new.space.classnames == ("white", "black", "dot", "star")
    if NO_NEW_CLASSES & set(options):
        with pytest.raises(UserError, match="none was learned for 'shades: white'"):
            new.load_model(str(tmp_path / "base" / "run"))
        return
    fresh = logits(new)
    new.load_model(str(tmp_path / "base" / "run"))
    assert torch.allclose(logits(new), fresh, atol=1e-4) == (name in ZERO_SHOT_ON_NEW)
    assert_new_names(new)
    assert 0 <= new.test_and_record() <= 100
    report = json.loads((tmp_path / "new" / "run" / "results.json").read_text())
    assert [task["id"] for task in report["tasks"]] == [0, 2] and report["protocol"] == "new"
    # Each remaining task keeps its context, although its index has changed.
    for own, learner in ((True, getattr(new.model, "prompt_learner", None)), (False, None)):
        if own and learner is not None and learner.sharing == "task":
            trained = base.model.prompt_learner.learners
            assert torch.equal(learner.learners[0]["ctx"], trained[0]["ctx"])
            assert torch.equal(learner.learners[1]["ctx"], trained[2]["ctx"])


@pytest.mark.parametrize("name", LEARNING)
def test_a_loss_that_is_not_finite_is_an_error_with_batch_and_tasks(name, weights, tmp_path):
    trainer = build(tmp_path, name, weights["vit"])
    if trainer.model.starts:
        trainer._start()
        trainer._initialised = True  # no second start
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, batch 1 of 5, tasks of the batch: .*\d \("):
        trainer.train()


@pytest.mark.parametrize("name", LEARNING)
def test_text_is_encoded_once_per_evaluation(name, weights, tmp_path):
    trainer = build(tmp_path, name, weights["vit"], "DATALOADER.TEST.BATCH_SIZE", 4)
    calls = []
    original = trainer.model.text
    trainer.model.text = lambda *args: calls.append(1) or original(*args)
    assert len(trainer.test_loader) == 5
    trainer.test()
    assert len(calls) == 1
    trainer.test(split="val")
    assert len(calls) == 1
    trainer.train()
    assert len(calls) == 1 + 2 * 5 + 1


@pytest.mark.parametrize("name", NAMES)
def test_results_file(name, weights, tmp_path):
    trainer = build(tmp_path, name, weights["vit"])
    trainer.train()
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["status"] == "complete" and found["trainer"] == name and found["suite"] == "TestSuite"
    assert [task["name"] for task in found["tasks"]] == [task.name for task in TASKS]
    assert [task["images"] for task in found["tasks"]] == [10, 2, 6]
    assert found["tasks"][2]["classes_without_images"] == ["star"]
    assert found["tasks"][2]["value"] == found["tasks"][2]["mean_acc"]
    assert found["tasks"][0]["value"] == found["tasks"][0]["overall_acc"]
    assert found["mean"]["value"] == pytest.approx(sum(task["value"] for task in found["tasks"]) / 3)
    learned = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert found["learnable_parameters"] == learned and (learned > 0) == (
        name in {*LEARNING, *FITTED} - {*TRAINING_FREE}
    )
    assert len(found["hashes"]["weights"]) == 64 and found["precision"] == "fp32"
    assert Path(tmp_path / "run" / "config.yaml").is_file()
