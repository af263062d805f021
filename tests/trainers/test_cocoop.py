"""Compare CoCoOp with a plain version: image by image, one padded row per class."""

import pytest
import torch
import torch.nn.functional as F

from clip.text_tower import TextTower
from dassl.config import ConfigError
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.models import relative, tiny_vit
from tests.suite import config
from tests.trainers import published
from trainers import cocoop

IMAGES = torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(3))
TASK = torch.tensor([2, 0, 0, 1, 2, 0, 2])
LABEL = torch.tensor([3, 4, 0, 0, 1, 2, 0])


@pytest.fixture
def build(tmp_path, weights):
    def made(folder, *settings):
        return build_trainer(config(tmp_path / folder, "CoCoOp", weights, 32, *settings))

    return made


def tsc(sharing):
    return ("TRAINER.COCOOP.TSC", sharing)


def own_logits(trainer, images, task):
    """Logits of each image over the classes of its task, as in the published code: B tensors (C,)."""
    learner, model, found = trainer.model.prompt_learner, trainer.clip, []
    for x, t in zip(trainer.encode_images(images), task.tolist(), strict=True):
        joint = learner.sharing == "all"
        context = learner.ctx if joint else learner.learners[t]["ctx"]
        net = learner.meta_net if joint else learner.meta_nets[t]
        h = torch.relu(x / x.norm() @ net.linear1.weight.T + net.linear1.bias)
        context = context + h @ net.linear2.weight.T + net.linear2.bias
        text = published.encode(model, context, trainer.space.tasks[t].classnames)
        found.append(published.logits(x, text, trainer.scale))
    return found


@pytest.mark.parametrize("sharing", [False, True])
def test_a_batch_of_several_tasks_is_the_mean_of_single_images(build, sharing):
    trainer = build("a", *tsc(sharing))
    batch = {"img": IMAGES, "label": LABEL, "task": TASK}
    plain = own_logits(trainer, IMAGES, TASK)
    expected = sum(F.cross_entropy(row[None], y[None]) for row, y in zip(plain, LABEL, strict=True)) / len(TASK)
    gradients = torch.autograd.grad(expected, list(trainer.model.parameters()))
    found = trainer.forward_backward(batch)
    assert found["loss"] == pytest.approx(expected.item(), rel=1e-5)
    right = sum((row.argmax() == y).item() for row, y in zip(plain, LABEL, strict=True))
    assert found["acc"] == pytest.approx(100 * right / len(TASK), rel=1e-5)
    for (name, parameter), gradient in zip(trainer.model.named_parameters(), gradients, strict=True):
        assert relative(parameter.grad, gradient) < 1e-4, name


def test_only_the_classes_of_the_images_own_tasks_are_encoded(build, monkeypatch):
    trainer = build("a", *tsc(True))
    plain = torch.stack([F.pad(row, (0, 5 - len(row))) for row in own_logits(trainer, IMAGES, TASK)])
    encoded, call = [], TextTower.__call__
    monkeypatch.setattr(
        TextTower,
        "__call__",
        lambda self, prompts: encoded.append((len(prompts.group), len(prompts.prefix))) or call(self, prompts),
    )

    with torch.no_grad():
        found = trainer.model_inference(IMAGES, TASK)
    own = trainer.space.mask(TASK)
    assert encoded == [(4 + 5 + 5 + 1 + 4 + 5 + 4, 7)]
    assert (found[~own] == float("-inf")).all()
    for row, (mine, expected) in enumerate(zip(own, plain, strict=True)):
        assert torch.allclose(found[row, mine], expected[: mine.sum()], atol=1e-4)

    encoded.clear()
    monkeypatch.setattr(cocoop, "PIECE", 6)  # 28 prompts in pieces, which may split the prompts of an image
    with torch.no_grad():
        pieces = trainer.model_inference(IMAGES, TASK)
    assert [count for count, _ in encoded] == [6, 6, 6, 6, 4]
    assert torch.allclose(pieces[own], found[own], atol=1e-4)

    with torch.no_grad():  # unknown tasks: all classes, each with the prompts of its task
        whole = trainer.model_inference(IMAGES)
    assert torch.isfinite(whole).all() and torch.allclose(whole[own], found[own], atol=1e-4)
    asked = torch.zeros(7, dtype=torch.long)
    with torch.no_grad():
        other = trainer.model_inference(IMAGES, asked)
    assert torch.allclose(whole[:, :5], other[:, :5], atol=1e-4)


def test_a_test_asks_for_no_more(build, monkeypatch):
    trainer = build("a", "DATALOADER.TEST.BATCH_SIZE", 4)
    encoded, call = [], TextTower.__call__
    monkeypatch.setattr(
        TextTower, "__call__", lambda self, prompts: encoded.append(len(prompts.group)) or call(self, prompts)
    )
    trainer.test()
    assert sum(encoded) == 10 * 5 + 2 * 1 + 6 * 4  # images times classes per task
    with pytest.raises(UserError, match="depend on the image"):
        trainer.text_features()


def test_cached_features_of_single_images_give_the_same_model(build, tmp_path):
    one_by_one = ("DATALOADER.TRAIN_X.BATCH_SIZE", 1, "OPTIM.MAX_EPOCH", 1, "DATASET.SUBSAMPLE_TASKS", "task2")
    found = []
    for bank in (False, True):
        settings = ("DATALOADER.FEATURE_BANK", bank, "DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / f"cache{bank}"))
        trainer = build(f"bank{bank}", *settings, *one_by_one)
        trainer.train()
        found.append(trainer.model.state_dict())
    assert trainer.num_batches == 16
    for name, value in found[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.allclose(value, found[1][name], atol=1e-5), name


def test_each_task_keeps_its_context_and_network(build):
    joint = build("joint", *tsc(True), "OPTIM.MAX_EPOCH", 1, "DATASET.SUBSAMPLE_CLASSES", "base")
    joint.train()
    trained = joint.model.prompt_learner
    new = build("new", *tsc(True), "DATASET.SUBSAMPLE_CLASSES", "new")  # the task with one class has no new class
    one = build("one", *tsc(True), "DATASET.SUBSAMPLE_TASKS", "task2")
    for trainer, kept in ((new, [0, 2]), (one, [2])):
        trainer.load_model(joint.output_dir)
        learner = trainer.model.prompt_learner
        assert len(learner.meta_nets) == len(learner.learners) == len(kept)
        for position, t in enumerate(kept):
            assert torch.equal(learner.learners[position]["ctx"], trained.learners[t]["ctx"])
            for name, value in learner.meta_nets[position].state_dict().items():
                assert torch.equal(value, trained.meta_nets[t].state_dict()[name])
    with pytest.raises(UserError, match="none was learned for 'shades'"):
        one = build("task2", *tsc(True), "DATASET.SUBSAMPLE_TASKS", "task2", "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
        one.train()
        build("again", *tsc(True)).load_model(one.output_dir)


def test_initial_words_have_as_many_tokens_as_said(build):
    with pytest.raises(ConfigError, match="CTX_INIT 'a photo of a' has 4 tokens and TRAINER.COCOOP.N_CTX is 16"):
        build("a", "TRAINER.COCOOP.N_CTX", 16)
    with pytest.raises(ValueError, match="COCOOP.N_CTX"):
        build("a", "TRAINER.COCOOP.N_CTX", 0)
    random = build("a", "TRAINER.COCOOP.N_CTX", 5, "TRAINER.COCOOP.CTX_INIT", "")
    assert random.model.prompt_learner.ctx.shape == (5, 64)
    words = build("b").model.prompt_learner.ctx
    assert torch.equal(words.detach(), tiny_vit().token_embedding(published.clip.tokenize("a photo of a"))[0, 1:5])
