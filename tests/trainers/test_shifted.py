"""Test a model of one dataset on its shifted test sets and on other datasets: which contexts can be used."""

import pytest
import torch

from clip.text_tower import TextTower
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from tests.models import tiny_vit
from tests.suite import config

NAMES = ("red", "dark green", "light blue", "white", "black")
SOURCE = TaskSpace((Task("ImageNet", "colours", NAMES), Task("marks", "marks on paper", ("cross", "ring"))))
# a test set with its own class list: some of the classes, in another order
SHIFTED = TaskSpace((Task("ImageNetA", "colours", ("white", "dark green"), task_of="ImageNet"),))
OTHER = TaskSpace((Task("Pets", "breeds of pets", ("cat", "dog", "bird")),))

# trainer, settings, whether the model supports another dataset
METHODS = [
    ("CoOp", {}, True),
    ("CoOp", {"TSC": True}, False),
    ("CoOp", {"CSC": True}, False),
    ("MTCoOpHard", {"TSC": True}, False),
    ("CoCoOp", {}, True),
    ("CoCoOp", {"TSC": True}, False),
    ("KgCoOp", {}, True),
    ("KgCoOp", {"TSC": True}, False),
    ("ProGrad", {}, True),
    ("ProGrad", {"CSC": True}, False),
    ("PLOT", {}, True),
    ("PLOT", {"TSC": True}, False),
    ("PLOT", {"CSC": True}, False),
    ("VPT", {}, True),
    ("VPT", {"DEEP": False, "TSC": True}, False),
    ("UPT", {}, True),
    ("UPT", {"TSC": True}, False),
    ("MTUPT", {"SHARING": "soft"}, True),
    ("MTUPT", {"SHARING": "task"}, False),
    ("MTCoOp", {"TASK_N_CTX": 4}, True),  # NATA: contexts depend on the task name
    ("MTCoOp", {"TASK_CSC": True}, False),
    ("MTCoOp", {"TASK_FEATURE": "rand"}, False),
    ("MTCoOp", {"CSC": True, "CLASS_CSC": True}, False),
]
IDS = [" ".join([name, *(f"{key}={value}" for key, value in settings.items())]) for name, settings, _ in METHODS]


@pytest.fixture
def learner(tmp_path):
    """A function: learner(trainer, settings, tasks) builds a new learner."""

    def build(name, settings, space):
        trainer = TRAINER_REGISTRY.get(name)
        opts = [part for key, value in settings.items() for part in (f"TRAINER.{trainer.section}.{key}", value)]
        return trainer.build_learner(config(tmp_path, name, "", 32, *opts), TextTower(tiny_vit()), space)

    return build


@torch.no_grad()
def outputs(learner, space, position, names):
    """Text features and visual prompts of the classes `names` of the task at `position`."""
    columns = torch.tensor([space.offsets[position] + space.tasks[position].classnames.index(name) for name in names])
    found = []
    if hasattr(learner, "prompt_learner") and hasattr(learner.prompt_learner, "conditioned"):  # CoCoOp
        images = torch.randn(1, 48, generator=torch.Generator().manual_seed(0))
        found.append(learner.pairs(images, torch.zeros_like(columns), columns))
    else:
        found.append(learner(columns))
    if (added := learner.additions().image) is not None and added.tokens is not None:
        found.append(added.tokens.values[position if added.sets > 1 else 0])
    return found


@pytest.mark.parametrize("name, settings, transfers", METHODS, ids=IDS)
def test_what_was_learned_for_a_task_serves_its_shifted_sets(learner, name, settings, transfers):
    torch.manual_seed(0)
    trained, shifted = learner(name, settings, SOURCE), learner(name, settings, SHIFTED)
    shifted.load_state_dict(trained.state_dict())
    names = SHIFTED.tasks[0].classnames
    for expected, found in zip(outputs(trained, SOURCE, 0, names), outputs(shifted, SHIFTED, 0, names), strict=True):
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name, settings, transfers", METHODS, ids=IDS)
def test_on_another_dataset_contexts_of_tasks_and_classes_are_refused(learner, name, settings, transfers):
    trained, other = learner(name, settings, SOURCE).state_dict(), learner(name, settings, OTHER)
    if transfers:
        other.load_state_dict(trained)
        assert outputs(other, OTHER, 0, ("dog", "cat"))[0].isfinite().all()
        return
    with pytest.raises(UserError, match="one .* per (task|class), and none was learned for 'Pets") as error:
        other.load_state_dict(trained)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name, settings", [("CoOp", {"TSC": True}), ("CoOp", {"CSC": True}), ("VPT", {"TSC": True})])
def test_two_shifted_sets_of_one_task_are_told_to_need_a_run_each(learner, name, settings):
    pair = TaskSpace((*SHIFTED.tasks, Task("ImageNetR", "colours", ("white",), task_of="ImageNet")))
    trained = learner(name, settings, SOURCE).state_dict()
    with pytest.raises(UserError, match="two of this suite would need that of 'ImageNet.*in a separate run"):
        learner(name, settings, pair).load_state_dict(trained)


def test_a_class_that_the_source_lacks_needs_a_shared_context(learner):
    """Names are compared: a shifted set with a new class is refused for class contexts, but not for task contexts."""
    space = TaskSpace((Task("ImageNetR", "colours", ("white", "mauve"), task_of="ImageNet"),))
    trained = learner("CoOp", {"CSC": True}, SOURCE).state_dict()
    with pytest.raises(UserError, match="none was learned for 'ImageNet: mauve'"):
        learner("CoOp", {"CSC": True}, space).load_state_dict(trained)
    learner("CoOp", {"TSC": True}, space).load_state_dict(learner("CoOp", {"TSC": True}, SOURCE).state_dict())
