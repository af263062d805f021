"""Compare KgCoOp with a plain loss, task by task, and with CoOp."""

import pytest
import torch
import torch.nn.functional as F

from clip import clip
from dassl.engine import build_trainer
from tests.models import relative
from tests.suite import config
from tests.trainers import published
from trainers.losses import class_weights

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))
TASK = torch.tensor([2, 0, 0, 2, 0, 0])
LABEL = torch.tensor([3, 4, 0, 1, 2, 0])


@pytest.fixture
def build(tmp_path, weights):
    def made(trainer, *settings):
        return build_trainer(config(tmp_path, trainer, weights, 32, *settings))

    return made


@pytest.mark.parametrize("sharing", [False, True])
def test_a_batch_of_several_tasks_is_the_mean_of_each_tasks_own_loss(build, sharing):
    trainer = build("KgCoOp", "TRAINER.KGCOOP.TSC", sharing, "TRAINER.KGCOOP.W", 3.0)
    learner, model = trainer.model.prompt_learner, trainer.clip
    with torch.no_grad():  # move the context away from its initial words, which equal the hand-made prompts
        for parameter in learner.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    x = F.normalize(trainer.encode_images(IMAGES), dim=-1)
    expected = 0.0
    for t in (0, 2):
        names, mine = trainer.space.tasks[t].classnames, t == TASK
        text = published.encode(model, learner.learners[t]["ctx"] if sharing else learner.ctx, names)
        text = text / text.norm(dim=-1, keepdim=True)
        hand = model.encode_text(clip.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in names]))
        hand = hand / hand.norm(dim=-1, keepdim=True)
        ce = F.cross_entropy(trainer.scale * x[mine] @ text.T, LABEL[mine])
        loss = ce + 3.0 * (1 - (text * hand).sum(-1).mean())  # the published loss of this task
        expected = expected + loss * mine.sum() / len(TASK)
    gradients = torch.autograd.grad(expected, list(trainer.model.parameters()), allow_unused=True)
    found = trainer.forward_backward({"img": IMAGES, "label": LABEL, "task": TASK})
    assert found["loss"] == pytest.approx(expected.item(), rel=1e-5)
    for parameter, gradient in zip(trainer.model.parameters(), gradients, strict=True):
        # a task that is not in the batch has a zero gradient
        assert relative(parameter.grad, torch.zeros_like(parameter) if gradient is None else gradient) < 1e-4


def test_the_mean_is_over_the_classes_of_each_task():
    apart = torch.tensor([0.0, 1.0, 1.0])
    found = class_weights(torch.tensor([1, 1, 3]), torch.tensor([3, 1, 1, 1])) @ apart
    assert found.item() == pytest.approx(0.75 * 0.5 + 0.25 * 1.0)
    one = class_weights(torch.tensor([0, 0, 0]), torch.tensor([0, 0])) @ apart
    assert one.item() == pytest.approx(2 / 3)


def test_without_weight_it_is_coop(build):
    batch, found = {"img": IMAGES, "label": LABEL, "task": TASK}, []
    for name, section in (("KgCoOp", "KGCOOP"), ("CoOp", "COOP")):
        settings = {"N_CTX": 4, "CTX_INIT": "a photo of a"} | ({"W": 0.0} if name == "KgCoOp" else {})
        trainer = build(name, *(part for key, v in settings.items() for part in (f"TRAINER.{section}.{key}", v)))
        found.append((trainer.forward_backward(batch)["loss"], trainer.model.prompt_learner.ctx))
        assert sum(p.numel() for p in trainer.model.parameters()) == 4 * 64
        assert set(trainer.model.state_dict()) == {"prompt_learner.ctx", "prompt_learner._extra_state"}
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])
