"""Rows with owners: found by name, whatever the order, the repeats and what is new."""

import pytest
import torch
from torch import nn

from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import UserError
from tests.models import state_dict, tiny_vit
from tests.suite import config
from trainers.base import MultiTaskTrainer
from trainers.learner import Learner
from trainers.losses import cosine_logits
from trainers.rows import OwnedRows, SampleRows, TaskModules, apply_by_task, class_owners
from trainers.settings import declare_shared

declare_shared("TESTROWS", PREC="fp32")


class Residuals(OwnedRows):
    def __init__(self, space, width):
        super().__init__()
        self.x = nn.Parameter(torch.zeros(space.num_classes, width))
        self.register_buffer("count", torch.zeros(()))
        self.own(class_owners(space), new="initial")


class RowsLearner(Learner):
    """A residual per class, zero for new classes (TaskRes), and a cache that is fitted first (Tip-Adapter-F)."""

    def __init__(self, tower, space):
        super().__init__(tower, space)
        self.residuals, self.cache = Residuals(space, tower.output_dim), SampleRows(space, tower.output_dim)

    def start(self, samples):
        column = [own.labels + first for own, first in zip(samples.train, self.space.offsets, strict=False)]
        self.cache.fill(torch.cat([own.features for own in samples.train]), torch.cat(column))

    def text(self, select, added=None):
        return self.hand_features()[select] + self.residuals.x[select]

    def logits(self, image, text, columns, task=None):
        near = cosine_logits(image, self.cache.keys, torch.ones(()))
        return cosine_logits(image, text, self.scale) + near @ (self.cache.column[:, None] == columns).float()


@TRAINER_REGISTRY.register()
class TestRows(MultiTaskTrainer):
    __test__ = False  # not a test for pytest
    section = "TESTROWS"

    @classmethod
    def build_learner(cls, cfg, tower, space):
        return RowsLearner(tower, space)


@pytest.fixture
def build(tmp_path):
    weights = tmp_path / "vit.pt"
    torch.save(state_dict(tiny_vit()), weights)
    return lambda folder, *opts: build_trainer(config(tmp_path / folder, "TestRows", weights, 32, *opts))


def test_classes_of_one_name_keep_their_images():
    space = TaskSpace((Task("a", "a", ("missile", "cat", "missile")),))
    first, again = SampleRows(space, 4), SampleRows(space, 4)
    keys = torch.randn(6, 4)
    first.fill(keys, torch.tensor([0, 0, 1, 1, 2, 2]))
    again.load_state_dict(first.state_dict())
    assert again.column.tolist() == [0, 0, 1, 1, 2, 2] and torch.equal(again.keys, keys)
    with torch.no_grad():
        first.keys.zero_()
    assert keys.abs().sum() > 0  # the caller's tensor is not touched
    pair = TaskSpace(tuple(Task(key, key, ("cat",), task_of="a") for key in "bc"))
    with pytest.raises(UserError, match="two tasks of this suite need the rows of 'a: cat'"):
        SampleRows(pair, 4).load_state_dict(first.state_dict())


def test_new_entries_of_a_list_keep_their_initial_values():
    class Lists(OwnedRows):
        def __init__(self, owners):
            super().__init__()
            self.maps = nn.ModuleList(nn.Linear(2, 2) for _ in owners)
            self.own(owners, "task", tensors=(), lists=("maps",), new="initial")

    old, new = Lists(["a", "b"]), Lists(["c", "b"])
    fresh = new.maps[0].weight.detach().clone()
    new.load_state_dict(old.state_dict())
    assert torch.equal(new.maps[0].weight, fresh) and torch.equal(new.maps[1].weight, old.maps[1].weight)
    with pytest.raises(UserError, match="none was learned for 'c'"):
        TaskModules(lambda: nn.Linear(2, 2), ["c"]).load_state_dict(
            TaskModules(lambda: nn.Linear(2, 2), ["a"]).state_dict()
        )


def test_rows_in_submodules_are_refused():
    class Inner(OwnedRows):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(2, 3)
            self.own(["a", "b"])

    with pytest.raises(ValueError, match="rows inside submodules are not matched"):
        Inner()


def test_initial_weights_are_found_by_owner(build, tmp_path):
    first = build("a", "DATASET.SUBSAMPLE_TASKS", "task0,task2")
    first.train()
    file = str(next((tmp_path / "a" / "run").glob("*/model.pth.tar-2")))
    other = build("b", "MODEL.INIT_WEIGHTS", file)
    model, before = other.model, first.model
    assert torch.equal(model.residuals.x[other.space.columns(2)], before.residuals.x[first.space.columns(1)])
    assert not model.residuals.x[other.space.columns(1)].any()  # a task that the file does not know
    assert len(model.cache.keys) == len(before.cache.keys) > 0
    other.train()  # the cache comes from the file, and goes on learning
    assert len(other.model.cache.keys) == len(before.cache.keys)


def test_a_run_of_other_tasks_goes_on_without_the_optimisers_history(build, tmp_path, capsys):
    first = build("a", "OPTIM.MAX_EPOCH", 1)
    first.train()
    again = build("b", "DATASET.SUBSAMPLE_TASKS", "task0,task2", "RESUME", str(tmp_path / "a" / "run"))
    again.train()
    assert "the optimiser starts without its history" in capsys.readouterr().out
    assert again.epochs_done == 2


def test_a_checkpoint_of_another_method_is_one_error(build, tmp_path):
    cfg = config(tmp_path / "coop", "CoOp", tmp_path / "vit.pt", 32, "OPTIM.MAX_EPOCH", 1)
    build_trainer(cfg).train()
    with pytest.raises(UserError, match="does not fit the model"):
        build("a").load_model(str(tmp_path / "coop" / "run"))


def test_every_task_has_its_own_function_in_any_order():
    x, task = torch.randn(7, 3), torch.tensor([2, 0, 0, 2, 0, 2, 2])  # none of task 1
    layers = [nn.Linear(3, 2) for _ in range(3)]
    found = apply_by_task(x, task, layers)
    torch.testing.assert_close(found, torch.stack([layers[t](row) for t, row in zip(task.tolist(), x, strict=True)]))
    found.sum().backward()
    assert not layers[1].weight.grad.any()  # zero, not None: momentum and weight decay act
    assert torch.equal(apply_by_task(x, None, layers[:1]), layers[0](x))
