"""Test unified prompts shared by tasks: the source of each task's prompts, and which tasks move each other."""

import pytest
import torch
import torch.nn.functional as F

from clip.text_tower import TextTower
from dassl.config import ConfigError
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.models import relative, state_dict, uneven_vit
from tests.plain import image_features, text_features
from tests.suite import TASKS, config

IMAGES = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(3))
TASK, LABEL = torch.tensor([2, 0, 1, 2, 0]), torch.tensor([3, 4, 0, 1, 2])
BATCH = {"img": IMAGES, "label": LABEL, "task": TASK}
NAMES = [f"{task.name}." for task in TASKS]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "uneven.pt"
    torch.save(state_dict(uneven_vit()), path)
    return path


@pytest.fixture
def build(tmp_path, weights):
    def made(folder, *settings):
        pairs = [f"TRAINER.MTUPT.{part}" if i % 2 == 0 and "." not in part else part for i, part in enumerate(settings)]
        return build_trainer(config(tmp_path / folder, "MTUPT", weights, 32, *pairs))

    return made


def test_a_tasks_prompts_come_from_the_feature_of_its_name(build):
    trainer = build("a")
    model, sets = trainer.model, trainer.model.sets
    f = TextTower(trainer.clip).encode(NAMES)  # (T, d)
    assert relative(sets.task_features(), f) < 1e-5
    assert sets.prompt_gen[0].proj.shape == (48, 4 * 8 * 64)  # d, and layers of the deeper tower, n, D
    text, visual = model.prompts()
    assert text.shape == (3, 2, 4, 64) and visual.shape == (3, 4, 4, 128)
    for t in range(3):
        u = (f[t] @ sets.prompt_gen[0].proj).view(4, 8, 64)
        mixed = sets.unify.network(u)
        assert relative(text[t], mixed[:2, :4]) < 1e-4
        assert relative(visual[t], sets.unify.visual_map(mixed[:, 4:])) < 1e-4


@pytest.mark.parametrize(
    "settings",
    [(), ("MODE", "joint"), ("MODE", "shared"), ("TASK_N_CTX", 2, "PG_TYPE", "mlp"), ("SHARING", "hard")],
    ids=["soft", "joint", "shared", "learned-task-context", "hard"],
)
def test_a_batch_of_several_tasks_equals_plain_towers_image_by_image(build, settings):
    trainer = build("a", *settings)
    text, visual = trainer.model.prompts()
    expected = 0
    for image, t, label in zip(IMAGES, TASK.tolist(), LABEL, strict=True):
        own = t if len(text) > 1 else 0
        x = F.normalize(image_features(trainer.clip, image[None], visual[own][None]), dim=-1)
        w = F.normalize(text_features(trainer.clip, text[own], trainer.space.tasks[t].classnames), dim=-1)
        expected = expected + F.cross_entropy(trainer.scale * x @ w.t(), label[None]) / len(IMAGES)
    named = dict(trainer.model.named_parameters())
    gradients = torch.autograd.grad(expected, list(named.values()))
    assert trainer.forward_backward(BATCH)["loss"] == pytest.approx(expected.item(), rel=1e-5)
    largest = max(gradient.norm() for gradient in gradients)
    for (name, parameter), gradient in zip(named.items(), gradients, strict=True):
        assert (parameter.grad - gradient).norm() < 1e-4 * (gradient.norm() + 0.01 * largest), name


@pytest.mark.parametrize(("sharing", "moved"), [("soft", True), ("hard", True), ("task", False)])
def test_learning_one_task_moves_the_others_prompts_only_where_they_are_shared(build, sharing, moved):
    trainer = build("a", "SHARING", sharing)
    trainer.optim.param_groups[0]["weight_decay"] = 0.0

    def own(half, task):
        prompts = trainer.model.prompts()[half]
        return prompts[task if len(prompts) > 1 else 0].detach().clone()

    before = [[own(half, task) for task in range(3)] for half in (0, 1)]
    trainer.forward_backward({"img": IMAGES[:4], "label": torch.tensor([0, 1, 2, 3]), "task": torch.zeros(4).long()})
    for half in (0, 1):
        assert not torch.equal(own(half, 0), before[half][0])
        assert torch.equal(own(half, 2), before[half][2]) != moved


def test_tasks_of_one_name_have_one_set_of_prompts(build):
    trainer = build("a")
    features = trainer.model.sets.features
    features[2] = features[0]
    text, visual = trainer.model.prompts()
    assert torch.equal(text[0], text[2]) and torch.equal(visual[0], visual[2])
    assert not torch.allclose(text[0], text[1])


def test_a_new_task_gets_prompts_from_its_name(build, tmp_path):
    known = build("a", "DATASET.SUBSAMPLE_TASKS", "task0,task1", "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
    known.train()
    new = build("b", "DATASET.SUBSAMPLE_TASKS", "marks")
    new.load_model(str(tmp_path / "a" / "run"))
    f = TextTower(known.clip).encode(NAMES[2:])
    u = (f @ known.model.sets.prompt_gen[0].proj).view(1, 4, 8, 64)
    assert relative(new.model.prompts()[0], known.model.sets.unify(u)[0]) < 1e-4
    assert 0 <= new.test_and_record() <= 100
    separate = build(
        "c", "SHARING", "task", "DATASET.SUBSAMPLE_TASKS", "task0", "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True
    )
    separate.train()
    alone = build("d", "SHARING", "task", "DATASET.SUBSAMPLE_TASKS", "marks")
    with pytest.raises(ValueError, match="one set of prompts per task, and none was learned for 'marks'"):
        alone.load_model(str(tmp_path / "c" / "run"))


def test_settings_that_contradict_each_other(build):
    for settings, message in (
        (("SHARING", "hard", "TASK_N_CTX", 4), "TASK_N_CTX 4 needs TRAINER.MTUPT.SHARING soft"),
        (("PG_LAYERS", 2), "PG_LAYERS 2 needs TRAINER.MTUPT.PG_TYPE transformer, found lin"),
        (("PG_TYPE", "transformer", "PG_HIDDEN", 20), "PG_HEADS 8 does not divide TRAINER.MTUPT.PG_HIDDEN 20"),
        (("N_CTX", 5), "expected an even number"),
        (("PG_TYPE", "linmean"), "PG_TYPE"),
        (("PG_TYPE", "transformer", "WIDTH", 36), "width 36 cannot have 8 heads: PG_HEADS must divide the width"),
    ):
        with pytest.raises((ConfigError, UserError), match=message):
            build("a", *settings)
