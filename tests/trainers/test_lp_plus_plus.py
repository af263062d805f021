"""LP++ against torch's autograd and SGD, its choice of the epoch, and its checkpoints."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clip.text_tower import TextTower
from dassl.config import get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from tests.docs.method_tables import RN50Text
from tests.models import tiny_vit
from trainers.lp_plus_plus import BlendedProbes
from trainers.samples import Samples, StartSamples

A = Task("a", "a", ("red", "green", "blue"), id=0)
B = Task("b", "b", ("ball", "bat"), metric="mean_acc", id=1)
COUNTS = {"a": (3, 2, 1), "b": (2, 4)}  # images per class
WIDTH = 48


@pytest.fixture(scope="module")
def tower():
    return TextTower(tiny_vit())


def images(task, seed, counts, spread):
    generator = torch.Generator().manual_seed(ord(task.key))
    centres = torch.randn(len(task.classnames), WIDTH, generator=generator)
    labels = torch.repeat_interleave(torch.arange(len(task.classnames)), torch.tensor(counts))
    noise = torch.randn(len(labels), WIDTH, generator=generator.manual_seed(1000 * seed + ord(task.key)))
    return Samples(centres[labels] + spread * noise, labels)


def samples(tasks, counts=None, **splits):
    def read(split):
        if split == "train":
            return [images(task, 0, counts or COUNTS[task.key], 1.0) for task in tasks]
        found = [images(task, {"val": 1, "test": 2}[split], (6,) * len(task.classnames), 2.0) for task in tasks]
        return splits.get(split, found)

    return StartSamples(
        read, lambda count: [[images(t, 3 + v, COUNTS[t.key], 1.0) for t in tasks] for v in range(count)]
    )


@torch.no_grad()
def fitted(tower, tasks, given=None, **settings):
    learner = BlendedProbes(tower, TaskSpace(tasks), **{"epochs": 40, "augmented": False, **settings})
    learner.start(given or samples(tasks))
    return learner


@torch.enable_grad()
def naive(learner, task, train, epochs, accumulated):
    """The parameters after every epoch, by autograd and torch's SGD."""
    texts = learner.hand_features()[learner.space.columns(learner.space.tasks.index(task))]
    f, n = F.normalize(train.features, dim=-1), len(train.labels)
    similarity = f @ texts.t()
    weight = nn.Parameter(torch.stack([f[train.labels == k].sum(0) for k in range(len(texts))]))
    bias = nn.Parameter(learner.first_bias(task))
    alpha = nn.Parameter(torch.full((len(texts),), 250 * similarity[torch.arange(n), train.labels].mean().item()))
    largest = torch.linalg.matrix_norm(f.double(), 2).item() ** 2
    rate = n / similarity.square().sum(0).max().item() * (0.25 if accumulated else 4)
    optimiser = torch.optim.SGD([weight, bias], lr=4 * n / largest, momentum=0.9)
    found = []
    for epoch in range(1, epochs + 1):
        optimiser.zero_grad()
        if not accumulated:
            alpha.grad = None
        F.cross_entropy(f @ weight.t() + bias + alpha * similarity, train.labels).backward()
        optimiser.step()
        if epoch % 10 == 0:
            alpha.data -= rate * alpha.grad
        found.append([part.detach().clone() for part in (weight, bias, alpha)])
    return found


@pytest.mark.parametrize("accumulated", [False, True])
def test_training_follows_autograd_and_the_latest_best_epoch_is_taken(accumulated, tower):
    given = samples((A, B))
    learner = fitted(tower, (A, B), given, accumulated=accumulated)
    for t, task in enumerate((A, B)):
        columns, val = learner.space.columns(t), given.val[t]
        steps = naive(learner, task, given.train[t], 40, accumulated)
        f, texts = F.normalize(val.features, dim=-1), learner.hand_features()[columns]
        right = [(f @ w.t() + c + a * (f @ texts.t())).argmax(1) == val.labels for w, c, a in steps]
        score = [hit.float().mean().item() for hit in right]  # all classes have as many images
        latest = max(epoch for epoch, value in enumerate(score, 1) if value == max(score))
        assert learner.choices.epoch[t] == latest
        for found, expected in zip((learner.weight, learner.bias, learner.alpha), steps[latest - 1], strict=True):
            torch.testing.assert_close(found.data[columns], expected, rtol=1e-4, atol=1e-4)
        w, c, a = steps[latest - 1]
        torch.testing.assert_close(
            learner.logits(val.features, None, torch.arange(5)[columns]).detach(),
            f @ w.t() + c + a * (f @ texts.t()),
            rtol=1e-4,
            atol=1e-3,
        )
    assert learner.choices.record()["b"]["chosen_on"] == "val"


def test_a_given_epoch_is_the_last_one_and_needs_no_validation_images(tower):
    none = [Samples(torch.zeros(0, WIDTH), torch.zeros(0).long())]
    given = samples((A,), val=none)
    learner = fitted(tower, (A,), given, epoch=20)
    expected = naive(learner, A, given.train[0], 20, False)[-1]
    torch.testing.assert_close(learner.weight.data, expected[0], rtol=1e-4, atol=1e-4)
    assert learner.choices.record() == {} and learner.choices.epoch.item() == 20
    with pytest.raises(UserError, match=r"no validation images.*TRAINER.LPPLUSPLUS.EPOCH"):
        fitted(tower, (A,), given)


def test_the_larger_steps_of_alpha_lower_the_loss(tower):
    """Several tasks and seeds: the loss falls under both rates."""
    for seed in range(3):
        for accumulated in (False, True):
            learner = fitted(tower, (A, B), epoch=200, accumulated=accumulated, seed=seed)
            for t, own in enumerate(samples((A, B)).train):
                columns = torch.arange(5)[learner.space.columns(t)]
                assert F.cross_entropy(learner.logits(own.features, None, columns), own.labels) < 0.01


def test_several_tasks_are_fitted_as_each_alone_and_a_seed_decides_the_biases(tower):
    joint, other = fitted(tower, (A, B)), fitted(tower, (B,))
    for name in ("weight", "bias", "alpha"):
        assert torch.equal(getattr(joint, name)[3:], getattr(other, name))
    assert torch.equal(joint.first_bias(A), other.first_bias(A))
    assert not torch.equal(joint.first_bias(A), fitted(tower, (A,), seed=2).first_bias(A))
    assert joint.first_bias(A).abs().max() <= WIDTH**-0.5


def test_one_augmented_view_or_the_images_themselves(tower):
    plain, augmented = (fitted(tower, (A,), epoch=5, augmented=which) for which in (False, True))
    given = samples((A,))
    assert not torch.equal(plain.weight, augmented.weight)
    expected = naive(augmented, A, given.views(1)[0][0], 5, False)[-1][0]
    torch.testing.assert_close(augmented.weight.data, expected, rtol=1e-4, atol=1e-4)


def test_test_labels_matter_only_where_asked(tower):
    given = samples((A, B))
    shifted = [Samples(own.features, own.labels.flip(0)) for own in given.test]
    other = samples((A, B), test=shifted)
    first, second = (fitted(tower, (A, B), one) for one in (given, other))
    assert torch.equal(first.weight, second.weight) and torch.equal(first.choices.epoch, second.choices.epoch)
    first, second = (fitted(tower, (A, B), one, chosen_on="test") for one in (given, other))
    assert not torch.equal(first.choices.epoch, second.choices.epoch)


def test_classes_and_tasks_without_images(tower, capsys):
    learner = fitted(tower, (A,), samples((A,), counts=(3, 0, 2)))
    assert (
        "task 0 (a) has classes without training images, which are rarely predicted: green" in capsys.readouterr().out
    )
    features = images(A, 9, (2, 2, 2), 1.0).features
    assert torch.isfinite(learner.logits(features, None, torch.arange(3))).all() and (learner.alpha != 0).all()
    empty = fitted(tower, (A,), samples((A,), counts=(0, 0, 0)))
    zero_shot = empty.scale * F.normalize(features, dim=-1) @ empty.hand_features().t()
    torch.testing.assert_close(empty.logits(features, None, torch.arange(3)).detach(), zero_shot)
    one = Task("a", "a", ("red",), id=0)
    assert torch.isfinite(fitted(tower, (one,), samples((one,), counts=(2,))).weight).all()


def test_rows_follow_their_classes_and_new_ones_are_refused(tower):
    joint = fitted(tower, (A, B))
    space = TaskSpace((B, Task("a", "a", ("blue", "red"), id=0)))
    part = BlendedProbes(tower, space)
    part.load_state_dict(joint.state_dict())
    assert torch.equal(part.weight, joint.weight[[3, 4, 2, 0]]) and torch.equal(part.alpha, joint.alpha[[3, 4, 2, 0]])
    assert part.choices.epoch.tolist() == joint.choices.epoch[[1, 0]].tolist()
    with pytest.raises(UserError, match="one classifier per class, and none was learned for 'a: white'"):
        BlendedProbes(tower, TaskSpace((Task("a", "a", ("white", "red"), id=0),))).load_state_dict(joint.state_dict())


def test_learnable_parameters():
    cfg = get_cfg_default()
    load(cfg, [], [])
    learner = TRAINER_REGISTRY.get("LPPlusPlus").build_learner(cfg, RN50Text(), TaskSpace((A, B)))
    assert sum(p.numel() for p in learner.parameters() if p.requires_grad) == 5 * (1024 + 2)
