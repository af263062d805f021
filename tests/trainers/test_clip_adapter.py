"""Compare CLIP-Adapter with one product per image; its tasks, checkpoints and settings. Parity: tests/parity."""

import pytest
import torch

from clip.text_tower import TextTower
from dassl.config import ConfigError
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.docs.method_tables import RN50Text
from tests.models import state_dict, tiny_vit
from tests.suite import TASKS, config
from trainers.clip_adapter import FeatureAdapter
from trainers.hand import HandPrompts

SPACE = TaskSpace(TASKS)
FEATURES = torch.randn(7, 48, generator=torch.Generator().manual_seed(0)) * 8
TASK = torch.tensor([2, 0, 0, 2, 0, 2, 2])  # none of task 1


def learner(space=SPACE, seed=0, **settings):
    torch.manual_seed(seed)
    return FeatureAdapter(TextTower(tiny_vit()), space, **settings)


@pytest.mark.parametrize("per_task", [False, True], ids=["shared", "TSC"])
def test_every_image_passes_the_bottleneck_of_its_task(per_task):
    model = learner(ratio=0.3, reduction=6, per_task=per_task)
    assert len(model.adapters) == (3 if per_task else 1) and model.by_task == per_task
    rows = []
    for x, t in zip(FEATURES, TASK.tolist(), strict=True):
        own = model.adapters[t if per_task else 0]
        assert own.down.weight.shape == (8, 48)
        hidden = (own.down.weight @ x).clamp_min(0)
        rows.append(0.3 * (own.up.weight @ hidden).clamp_min(0) + 0.7 * x)
    found = model.image(FEATURES, TASK)
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-5, atol=1e-6)
    learned = list(model.parameters())
    expected = torch.autograd.grad(torch.stack(rows).square().sum(), learned, allow_unused=True)
    for got, want in zip(torch.autograd.grad(found.square().sum(), learned), expected, strict=True):
        torch.testing.assert_close(got, torch.zeros_like(got) if want is None else want, rtol=1e-4, atol=1e-4)


def test_an_adapter_per_task_is_loaded_by_task():
    whole = learner(per_task=True)
    part = learner(TaskSpace((TASKS[2], TASKS[0])), seed=1, per_task=True)
    part.load_state_dict(whole.state_dict())
    swapped = torch.where(TASK == 2, 0, 1)
    assert torch.equal(part.image(FEATURES, swapped), whole.image(FEATURES, TASK))
    other = learner(TaskSpace((Task("new", "new", ("a", "b")),)), per_task=True)
    with pytest.raises(UserError, match="one adapter per task, and none was learned for 'new'"):
        other.load_state_dict(whole.state_dict())
    shared, new = learner(), learner(TaskSpace((Task("new", "new", ("a", "b")),)), seed=1)
    new.load_state_dict(shared.state_dict())
    assert torch.equal(new.image(FEATURES), shared.image(FEATURES, TASK))


def test_learnable_parameters_are_the_published_ones():
    for width, count in ((1024, 524_288), (512, 131_072)):
        tower = RN50Text()
        tower.output_dim = width
        tower.encode = lambda texts, width=width: torch.zeros(len(texts), width)
        model = FeatureAdapter(tower, SPACE)
        assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_templates_and_settings(tmp_path):
    torch.save(state_dict(tiny_vit()), tmp_path / "vit.pt")

    def build(*settings):
        pairs = [f"TRAINER.CLIPADAPTER.{part}" if i % 2 == 0 else part for i, part in enumerate(settings)]
        return build_trainer(config(tmp_path, "CLIPAdapter", tmp_path / "vit.pt", 32, *pairs))

    trainer = build("TEMPLATES", "a drawing of {}.")
    expected = HandPrompts(trainer.text_tower, SPACE, [("a drawing of {}.",)] * 3).features
    torch.testing.assert_close(trainer.text_features(), expected)
    with pytest.raises(ConfigError, match="RATIO 0 learns nothing: expected a number above 0"):
        build("RATIO", 0.0)
    with pytest.raises(ConfigError, match="TRAINER.CLIPADAPTER.TEMPLATES: the file nowhere.yaml does not exist"):
        build("TEMPLATES", "nowhere.yaml")
    assert trainer.load_critical_settings(trainer.cfg.TRAINER.CLIPADAPTER) == {"RATIO": 0.2}
