"""GDA against a naive version in numpy, its choice of alpha, and classifiers of new classes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clip.text_tower import TextTower
from dassl.config import get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import UserError
from tests.models import state_dict, tiny_vit
from tests.suite import config
from trainers.gda import DECADES, GaussianClassifiers
from trainers.samples import Samples, StartSamples

A = Task("a", "a", ("red", "green", "blue"), id=0)
B = Task("b", "b", ("ball", "bat"), metric="mean_acc", id=1)
COUNTS = {"a": (3, 2, 1), "b": (2, 4)}  # images per class
WIDTH, VIEWS = 48, 4


@pytest.fixture(scope="module")
def tower():
    return TextTower(tiny_vit())


def images(task, seed, counts=None, spread=0.4):
    """Images around one centre per class of a task, wherever the task is used."""
    rng = np.random.default_rng([len(task.key), seed, ord(task.key)])
    centres = np.random.default_rng(ord(task.key)).normal(size=(len(task.classnames), WIDTH))
    labels = np.repeat(np.arange(len(task.classnames)), counts or COUNTS[task.key])
    features = centres[labels] + spread * rng.normal(size=(len(labels), WIDTH))
    return Samples(torch.tensor(features).float(), torch.tensor(labels))


def samples(tasks, **changes):
    def read(split):
        found = [images(task, 100 if split == "val" else 200, (4,) * len(task.classnames), 1.5) for task in tasks]
        return changes.get(split, found)

    views = changes.get("views", [[images(task, v, changes.get("counts")) for task in tasks] for v in range(VIEWS)])
    return StartSamples(read, lambda count: views[:count])


def fitted(tower, tasks, given=None, **settings):
    learner = GaussianClassifiers(tower, TaskSpace(tasks), views=VIEWS, **settings)
    learner.start(given or samples(tasks))
    return learner


def naive(views, classes, covariance="shrunk"):
    """Weights and biases of one task by the equations, sample by sample."""
    x = np.concatenate([F.normalize(view.features.double(), dim=-1).numpy() for view in views])
    labels = np.concatenate([view.labels.numpy() for view in views])
    means = np.stack([x[labels == k].mean(0) for k in range(classes)])
    d, n = x.shape[1], len(x)
    scatters = [sum(np.outer(row, row) for row in x[labels == k] - means[k]) for k in range(classes)]
    if covariance == "shrunk":
        s = sum(scatters) / (n - 1)
        precision = d * np.linalg.inv((n - 1) * s + np.trace(s) * np.eye(d))
    else:
        each = [scatter / ((labels == k).sum() - 1) for k, scatter in enumerate(scatters)]
        precision = np.linalg.pinv(sum(each) / classes, rcond=d * np.finfo(np.float32).eps)
    bias = [-np.log(classes) - mean @ precision @ mean / 2 for mean in means]
    return means @ precision, np.array(bias)


@pytest.mark.parametrize("covariance", ["shrunk", "pseudo_inverse"])
def test_every_task_follows_the_equations(covariance, tower):
    learner, given = fitted(tower, (A, B), covariance=covariance), samples((A, B))
    for t, task in enumerate((A, B)):
        weight, bias = naive([view[t] for view in given.views(VIEWS)], len(task.classnames), covariance)
        columns = learner.space.columns(t)
        np.testing.assert_allclose(learner.weight[columns].numpy(), weight, rtol=1e-4, atol=1e-4 * abs(weight).max())
        np.testing.assert_allclose(learner.bias[columns].numpy(), bias, rtol=1e-4)


def test_logits_are_the_sum_and_alpha_is_the_first_best_on_validation(tower):
    learner, given = fitted(tower, (A, B)), samples((A, B))
    for t in range(2):
        columns, val = learner.space.columns(t), given.val[t]
        f = F.normalize(val.features, dim=-1)
        zero_shot = learner.scale * f @ learner.hand_features()[columns].t()
        gaussian = f @ learner.weight[columns].t() + learner.bias[columns]
        right = [((zero_shot + a * gaussian).argmax(1) == val.labels).float().mean().item() for a in DECADES]
        chosen = learner.choices.alpha[t].item()
        assert chosen == pytest.approx(DECADES[int(np.argmax(right))])
        torch.testing.assert_close(
            learner.logits(val.features, None, torch.arange(5)[columns]), zero_shot + chosen * gaussian
        )
    assert learner.choices.record()["a"]["chosen_on"] == "val"


def test_several_tasks_are_fitted_as_each_alone(tower):
    joint, other = fitted(tower, (A, B)), fitted(tower, (B,))
    assert torch.equal(joint.weight[3:], other.weight) and torch.equal(joint.bias[3:], other.bias)
    assert joint.choices.alpha[1] == other.choices.alpha[0]


def swapped(given):
    """Samples whose test labels are shifted by one class."""
    test = [Samples(own.features, (own.labels + 1) % (own.labels.max() + 1)) for own in given.test]
    return StartSamples(lambda split: test if split == "test" else getattr(given, split), given.views)


def test_test_labels_matter_only_where_the_choice_is_published_on_test(tower):
    given = samples((A, B))
    first, second = fitted(tower, (A, B), given), fitted(tower, (A, B), swapped(given))
    assert torch.equal(first.choices.alpha, second.choices.alpha)
    first, second = (fitted(tower, (A, B), one, chosen_on="test") for one in (given, swapped(given)))
    assert not torch.equal(first.choices.alpha, second.choices.alpha)
    assert first.choices.record()["a"]["chosen_on"] == "test"


def test_a_given_alpha_needs_no_validation_images(tower):
    none = [Samples(torch.zeros(0, WIDTH), torch.zeros(0).long())] * 2
    learner = fitted(tower, (A, B), samples((A, B), val=none), alpha=2.5)
    assert learner.choices.alpha.tolist() == [2.5, 2.5] and learner.choices.record() == {}
    with pytest.raises(UserError, match=r"no validation images.*TRAINER.GDA.ALPHA"):
        fitted(tower, (A, B), samples((A, B), val=none))


def test_a_class_without_images_is_left_to_its_text(tower, capsys):
    learner = fitted(tower, (A,), samples((A,), counts=(3, 0, 2)), alpha=3.0)
    out = capsys.readouterr().out
    assert "classes without training images, which are predicted by their text alone: green" in out
    image = images(A, 7).features
    found, columns = learner.logits(image, None, torch.arange(3)), torch.arange(3)
    zero_shot = learner.both(image, columns)[0]
    assert torch.isfinite(found).all() and torch.equal(found[:, 1], zero_shot[:, 1])
    two = fitted(tower, (Task("a", "a", ("red", "blue"), id=0),), samples((A,), counts=(3, 2, 0)), alpha=3.0)
    assert two.weight.abs().max() > 0  # the other classes are told apart as without it
    weight, bias = naive([Samples(v.features, v.labels // 2) for v in [images(A, v, (3, 0, 2)) for v in range(4)]], 2)
    np.testing.assert_allclose((learner.weight[0] - learner.weight[2]).numpy(), weight[0] - weight[1], rtol=1e-3)
    np.testing.assert_allclose((learner.bias[0] - learner.bias[2]).item(), bias[0] - bias[1], rtol=1e-3)


@pytest.mark.parametrize("covariance", ["shrunk", "pseudo_inverse"])
def test_too_few_images_give_finite_numbers(covariance, tower):
    one = Task("a", "a", ("red",), id=0)
    for task, counts in ((A, (1, 1, 1)), (one, (1,)), (A, (0, 0, 0))):
        given = samples((task,), counts=counts, views=[[images(task, 0, counts)]])  # one view: no scatter at all
        learner = fitted(tower, (task,), given, alpha=1.0, covariance=covariance)
        assert torch.isfinite(learner.logits(images(A, 7).features, None, torch.arange(len(task.classnames)))).all()


def test_new_classes_are_made_from_the_neighbours_of_their_texts(tower):
    base = fitted(tower, (A, B), neighbours=5, text_copies=3)
    names = ("black", "white")
    space = TaskSpace((Task("b", "b", ("bat", "club"), id=1), Task("a", "a", names, id=0)))
    new = GaussianClassifiers(tower, space, neighbours=5, text_copies=3)
    new.load_state_dict(base.state_dict())
    new.known = torch.tensor([True, False, False, False])
    given = [view[0] for view in samples((A, B)).views(VIEWS)]
    x = np.concatenate([F.normalize(view.features, dim=-1).double().numpy() for view in given])
    texts, precisions, means = new.hand_features()[2:].double().numpy(), [], []
    for text in texts:
        near = x[np.argsort(-(x @ text))[:5]]
        scatter = sum(np.outer(row, row) for row in near - text)
        precisions.append(WIDTH * np.linalg.inv(scatter + np.trace(scatter / 4) * np.eye(WIDTH)))
        means.append(np.vstack([near, [text] * 3]).mean(0))
    precision, means = np.mean(precisions, 0), np.stack(means)
    weight, bias = new.rows()
    np.testing.assert_allclose(weight[2:].numpy(), means @ precision, rtol=1e-4, atol=1e-5)
    expected = [-np.log(2) - mean @ precision @ mean / 2 for mean in means]
    np.testing.assert_allclose(bias[2:].numpy(), expected, rtol=1e-4)
    assert torch.equal(weight[0], base.weight[4]) and new.choices.alpha[1] == base.choices.alpha[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(state_dict(tiny_vit()), path)
    return path


def test_a_run_on_base_classes_serves_new_ones(weights, tmp_path):
    """Through the trainer: the samples are in the checkpoint, and fewer tasks in another run find theirs."""

    def build(folder, classes, *more):
        more = (
            "DATASET.SUBSAMPLE_CLASSES",
            classes,
            "OUTPUT_DIR",
            str(tmp_path / folder),
            "TRAINER.GDA.VIEWS",
            2,
            "TRAINER.GDA.ALPHA",
            1.0,
            *more,
        )
        return build_trainer(config(tmp_path, "GDA", weights, 32, *more))

    base = build("base", "base")
    base.train()
    new = build("new", "new", "DATASET.SUBSAMPLE_TASKS", "task2")
    new.load_model(str(tmp_path / "base"))
    assert not new.model.known.any() and len(new.model.kept.keys) == 2 * 8
    image = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = new.model_inference(image)
    features = F.normalize(new.frozen_features(image), dim=-1)
    assert torch.isfinite(found).all()
    assert not torch.allclose(found, new.scale * features @ new.model.hand_features().t(), atol=1e-3)
    mixed = build("mixed", "all", "DATASET.SUBSAMPLE_TASKS", "task2")
    mixed.load_model(str(tmp_path / "base"))
    assert mixed.model.known.tolist() == [True, True, False, False]
    torch.testing.assert_close(mixed.model_inference(image)[:, 2:], found)


def test_a_model_without_its_samples_refuses_new_classes(tower):
    base = fitted(tower, (A,), alpha=1.0, keep=False)
    other = Task("a", "a", ("red", "white"), id=0)
    with pytest.raises(UserError, match="no classifier of 'a: white'.*1 of 2.*DATASET.SUBSAMPLE_CLASSES base"):
        GaussianClassifiers(tower, TaskSpace((other,))).load_state_dict(base.state_dict())


def test_nothing_is_learned():
    from tests.docs.method_tables import RN50Text

    cfg = get_cfg_default()
    load(cfg, [], [])
    learner = TRAINER_REGISTRY.get("GDA").build_learner(cfg, RN50Text(), TaskSpace((A, B)))
    assert sum(p.numel() for p in learner.parameters() if p.requires_grad) == 0
    assert learner.weight.shape == (5, 1024) and learner.bias.shape == (5,)
