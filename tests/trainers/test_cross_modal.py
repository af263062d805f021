"""Cross-modal adaptation against plain training of each candidate, its choices, mirrored images, and new classes."""

import math
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from clip.text_tower import TextTower
from dassl.config import ConfigError, get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import UserError
from tests.docs.method_tables import RN50Text
from tests.models import tiny_vit
from tests.suite import config
from trainers.choices import scores
from trainers.mixed_batches import mixed_rows, shuffled
from trainers.mixed_classifiers import MixedClassifiers
from trainers.samples import Samples, StartSamples, task_generator

TEMPLATES = ("a photo of a {}.", "a drawing of a {}.", "my {}.")
A = Task("a", "a", ("red", "dark_green", "blue"), templates=TEMPLATES, id=0)
B = Task("b", "b", ("ball", "bat"), metric="mean_acc", templates=TEMPLATES[:2], id=1)
GRID = ((0.01, 1e-3), (0.0, 0.1), (4, 8))
WIDTH, STEPS = 48, 90


@pytest.fixture(scope="module")
def tower():
    return TextTower(tiny_vit())


def images(task, seed, per_class, spread):
    generator = torch.Generator().manual_seed(ord(task.key))
    centres = torch.randn(len(task.classnames), WIDTH, generator=generator)
    labels = torch.arange(len(task.classnames)).repeat_interleave(per_class)
    noise = torch.randn(len(labels), WIDTH, generator=generator.manual_seed(1000 * seed + ord(task.key)))
    return Samples(centres[labels] + spread * noise, labels)


def samples(tasks, **splits):
    how = {"train": (0, 3, 1.0), "mirrored": (1, 3, 1.0), "val": (2, 5, 2.0), "test": (3, 5, 2.0)}
    return StartSamples(lambda split: splits.get(split) or [images(task, *how[split]) for task in tasks])


@torch.no_grad()
def fitted(tower, tasks, given=None, **settings):
    learner = MixedClassifiers(tower, TaskSpace(tasks), **{"grid": GRID, "iterations": STEPS, **settings})
    learner.every, learner.warmup = 20, 10
    learner.start(given or samples(tasks))
    return learner


def raw_texts(tower, task):
    names = [name.replace("_", " ") for name in task.classnames]
    return torch.stack([tower.encode([t.format(name) for name in names]).float() for t in task.templates])


def naive(tower, task, given, position, lr, decay, size, adapter=False, init=None):
    """Train one candidate with torch's modules; return [(steps, score, weights, ...)] at the checks."""
    raw = raw_texts(tower, task)
    texts, text_labels = F.normalize(raw, dim=-1).flatten(0, 1), torch.arange(raw.shape[1]).repeat(len(raw))
    own = [given.train[position], given.mirrored[position]]
    f, labels = F.normalize(torch.cat([x.features for x in own]), dim=-1), torch.cat([x.labels for x in own])
    classes, s = len(task.classnames), tower.clip.logit_scale.exp()
    head = nn.Linear(WIDTH, classes, bias=False)
    head.weight.data = F.normalize(raw.mean(0), dim=-1).clone() if init is None else init["weight"].clone()
    bottleneck = nn.Sequential(
        nn.Linear(WIDTH, WIDTH // 4, bias=False), nn.ReLU(), nn.Linear(WIDTH // 4, WIDTH, bias=False), nn.ReLU()
    )
    if adapter:
        bottleneck[0].weight.data, bottleneck[2].weight.data = init["down"].clone(), init["up"].clone()

    def predict(x):
        return s * head(0.2 * bottleneck(x) + 0.8 * x if adapter else x)

    generator = task_generator(1, task)
    rows = list(zip(*mixed_rows(len(labels), len(text_labels), size, STEPS, generator), strict=True))
    optimiser = torch.optim.AdamW(
        [*head.parameters(), *(bottleneck.parameters() if adapter else ())], lr, weight_decay=decay
    )
    val, found = given.val[position], []
    for i in range(STEPS):
        warm = i / 10 if i else 1e-5 / lr
        optimiser.param_groups[0]["lr"] = lr * (warm if i < 10 else (1 + math.cos(math.pi * (i - 10) / STEPS)) / 2)
        x, y = torch.cat([f[rows[0][i]], texts[rows[1][i]]]), torch.cat([labels[rows[0][i]], text_labels[rows[1][i]]])
        optimiser.zero_grad()
        with torch.enable_grad():
            F.cross_entropy(predict(x), y).backward()
        optimiser.step()
        if i % 20 == 0:
            with torch.no_grad():
                predicted = predict(F.normalize(val.features, dim=-1)).argmax(1)
            parts = [p.detach().clone() for p in (head.weight, bottleneck[0].weight, bottleneck[2].weight)]
            found.append((i + 1, scores(predicted[None], val.labels, task).item(), *parts))
    return found


def test_the_first_best_candidate_and_step_are_taken(tower):
    given = samples((A, B))
    learner = fitted(tower, (A, B), given)
    for t, task in enumerate((A, B)):
        found = []
        for lr in GRID[0]:
            for decay in GRID[1]:
                for size in (4, 8):
                    if size // 2 < min(6 * len(task.classnames), len(task.templates) * len(task.classnames)):
                        found += [((lr, decay, size), one) for one in naive(tower, task, given, t, lr, decay, size)]
        best = max(score for _, (_, score, *_) in found)
        (lr, decay, size), (steps, _, weight, *_) = next(one for one in found if one[1][1] == best)
        choices = {name: getattr(learner.choices, name)[t].item() for name in learner.choices.names}
        assert choices == pytest.approx({"lr": lr, "weight_decay": decay, "batch_size": size, "steps": steps})
        torch.testing.assert_close(learner.weight.data[learner.space.columns(t)], weight, rtol=1e-3, atol=1e-5)


def test_given_settings_need_no_validation_images(tower):
    none = [Samples(torch.zeros(0, WIDTH), torch.zeros(0).long())]
    given = samples((A,), val=none)
    learner = fitted(tower, (A,), given, grid=((0.01,), (0.1,), (8,)), steps=41)
    expected = naive(tower, A, samples((A,)), 0, 0.01, 0.1, 8)
    torch.testing.assert_close(learner.weight.data, expected[2][2], rtol=1e-3, atol=1e-5)
    assert learner.choices.record() == {} and learner.choices.steps.item() == 41
    with pytest.raises(UserError, match="no validation images.*TRAINER.CROSSMODAL.STEPS"):
        fitted(tower, (A,), given, steps=41)


def test_the_adapter_follows_torch_modules(tower):
    given, settings = samples((A,)), {"grid": ((0.01,), (0.1,), (8,)), "steps": 61, "head": "adapter"}
    learner = fitted(tower, (A,), given, **settings)
    first = []
    train = learner.train_heads
    learner.train_heads = lambda parts, *rest, **more: first.append(parts) or train(parts, *rest, **more)
    with torch.no_grad():
        learner.start(given)
    expected = naive(tower, A, given, 0, 0.01, 0.1, 8, True, first[0])[3]
    found = (learner.weight, learner.adapters.down[0], learner.adapters.up[0])
    for own, want in zip(found, expected[2:], strict=True):
        torch.testing.assert_close(own.data, want, rtol=1e-3, atol=1e-5)
    bound = WIDTH**-0.5
    assert first[0]["down"].abs().max() <= bound and first[0]["up"].abs().max() <= (WIDTH // 4) ** -0.5
    x = F.normalize(torch.randn(4, WIDTH), dim=-1)
    down, up = learner.adapters.down[0], learner.adapters.up[0]
    adapted = 0.2 * ((x @ down.t()).relu() @ up.t()).relu() + 0.8 * x
    image = learner.image(5 * x, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(image, adapted)
    torch.testing.assert_close(
        learner.logits(image, learner.text(torch.arange(3)), torch.arange(3)),
        learner.scale * adapted @ learner.weight.t(),
    )


@pytest.mark.parametrize("head", ["linear", "adapter"])
def test_several_tasks_are_fitted_as_each_alone(head, tower):
    settings = {"head": head, "grid": ((0.01,), (0.0, 0.1), (4,)), "init": "random"}
    joint, other = fitted(tower, (A, B), **settings), fitted(tower, (B,), **settings)
    torch.testing.assert_close(joint.weight.data[3:], other.weight.data, rtol=1e-5, atol=1e-6)
    if head == "adapter":
        torch.testing.assert_close(joint.adapters.up.data[1], other.adapters.up.data[0], rtol=1e-5, atol=1e-6)
    again = fitted(tower, (B,), **settings, seed=2)
    assert not torch.allclose(again.weight, other.weight, atol=1e-3)


def test_wise_ft_mixes_the_final_weights_with_the_texts(tower):
    plain, half = (fitted(tower, (A,), wise_ft=share) for share in (0.0, 0.5))
    zero_shot = F.normalize(raw_texts(tower, A).mean(0), dim=-1)
    torch.testing.assert_close(half.weight.data, plain.weight.data / 2 + zero_shot / 2)


def test_test_labels_matter_only_where_asked(tower):
    given = samples((A, B))
    other = samples((A, B), test=[Samples(own.features, own.labels.flip(0)) for own in given.test])
    first, second = (fitted(tower, (A, B), one) for one in (given, other))
    assert torch.equal(first.weight, second.weight) and first.choices.record() == second.choices.record()
    first, second = (fitted(tower, (A, B), one, chosen_on="test") for one in (given, other))
    assert first.choices.record() != second.choices.record() and first.choices.record()["a"]["chosen_on"] == "test"


def test_batches_that_are_too_large_are_not_candidates(tower):
    learner = MixedClassifiers(tower, TaskSpace((A,)), grid=((0.01,), (0.0,), (8, 32)))
    assert learner.batch_sizes(17, 99) == [8, 32]
    assert learner.batch_sizes(16, 99) == [8] and learner.batch_sizes(99, 5) == [8]
    assert learner.batch_sizes(99, 4) == [8] and learner.batch_sizes(3, 99) == [6]
    one = Task("a", "a", ("red",), templates=TEMPLATES[:1], id=0)
    assert torch.isfinite(fitted(tower, (one,)).weight).all()
    rows = list(islice(shuffled(7, 3, torch.Generator().manual_seed(0)), 4))
    assert all(len({*rows[i].tolist(), *rows[i + 1].tolist()}) == 6 for i in (0, 2))


def test_classes_and_tasks_without_images(tower, capsys):
    some = [Samples(own.features[own.labels != 1], own.labels[own.labels != 1]) for own in samples((A,)).train]
    learner = fitted(tower, (A,), samples((A,), train=some, mirrored=some))
    assert "without training images, of which only the texts are learned: dark_green" in capsys.readouterr().out
    assert torch.isfinite(learner.weight).all()
    none = [Samples(torch.zeros(0, WIDTH), torch.zeros(0).long())]
    empty = fitted(tower, (A,), samples((A,), train=none, mirrored=none), head="adapter")
    assert "which are zero-shot" in capsys.readouterr().out
    assert torch.equal(empty.weight.data, F.normalize(raw_texts(tower, A).mean(0), dim=-1))
    assert not empty.adapters.up.any()


@pytest.mark.parametrize("head", ["linear", "adapter"])
def test_rows_follow_their_classes_and_new_ones_are_their_texts(head, tower):
    joint = fitted(tower, (A, B), head=head)
    new = Task("a", "a", ("blue", "white"), templates=TEMPLATES, id=0)
    part = MixedClassifiers(tower, TaskSpace((B, new)), head=head)
    part.load_state_dict(joint.state_dict())
    part.known = torch.tensor([True, True, True, False])
    found = part.text(torch.arange(4))
    assert torch.equal(found[:3], joint.weight[[3, 4, 2]])
    torch.testing.assert_close(found[3], F.normalize(raw_texts(tower, new).mean(0), dim=-1)[1])
    if head == "adapter":
        assert torch.equal(part.adapters.down, joint.adapters.down[[1, 0]])
        f = torch.randn(4, WIDTH)
        tasks = torch.tensor([0, 1, 1, 0])
        torch.testing.assert_close(part.image(f, tasks), joint.image(f, 1 - tasks))


def test_a_run_trains_on_mirrored_images(tmp_path, weights):
    trainer = build_trainer(config(tmp_path, "CrossModal", weights, 32, "TRAINER.CROSSMODAL.ITERATIONS", 5))
    plain, mirrored = trainer.samples.train, trainer.samples.mirrored
    for own, other in zip(plain, mirrored, strict=True):
        assert torch.equal(own.labels, other.labels) and not torch.allclose(own.features, other.features, atol=1e-3)
    item = trainer.dm.dataset.train_x[0]
    image = build_transform(trainer.cfg, is_train=False)(Image.open(item.impath).convert("RGB"))
    features = trainer.frozen_features(torch.stack([image, image.flip(-1)]))
    torch.testing.assert_close(plain[0].features[0], features[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mirrored[0].features[0], features[1], rtol=1e-4, atol=1e-4)


def test_wrong_settings():
    cfg = get_cfg_default()
    load(cfg, [], ["TRAINER.CROSSMODAL.HEAD", "adapter", "TRAINER.CROSSMODAL.WISE_FT", 0.5])
    trainer = TRAINER_REGISTRY.get("CrossModal")
    problems = trainer.problems(trainer.__new__(trainer), cfg)
    assert len(problems) == 1 and "WISE_FT 0.5 needs TRAINER.CROSSMODAL.HEAD linear, found adapter" in problems[0]
    load(cfg, [], ["TRAINER.CROSSMODAL.HEAD", "linear", "TRAINER.CROSSMODAL.STEPS", 13_000])
    problems = trainer.problems(trainer.__new__(trainer), cfg)
    assert (
        len(problems) == 1 and "STEPS 13000: the schedule ends after TRAINER.CROSSMODAL.ITERATIONS 12800" in problems[0]
    )
    for name, value in (("LR", (-1.0,)), ("BATCH_SIZE", (1,)), ("BATCH_SIZE", (7,)), ("WEIGHT_DECAY", ("a",))):
        with pytest.raises(ConfigError, match="expected a list of"):
            load(get_cfg_default(), [], [f"TRAINER.CROSSMODAL.{name}", value])


@pytest.mark.parametrize(("head", "extra"), [("linear", 0), ("adapter", 2 * 524_288)])
def test_learnable_parameters(head, extra):
    cfg = get_cfg_default()
    load(cfg, [], ["TRAINER.CROSSMODAL.HEAD", head])
    learner = TRAINER_REGISTRY.get("CrossModal").build_learner(cfg, RN50Text(), TaskSpace((A, B)))
    assert sum(p.numel() for p in learner.parameters() if p.requires_grad) == 5 * 1024 + extra
