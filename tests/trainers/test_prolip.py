"""ProLIP: the fit, the search, projections of tasks, and features before the projection. Parity: tests/parity."""

import json

import pytest
import torch
import torch.nn.functional as F

from analysis.runs import features_of
from clip.text_tower import TextTower
from dassl.config import ConfigError
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.metrics import METRICS
from dassl.utils import UserError
from tests.models import state_dict, tiny_rn, tiny_vit
from tests.suite import config
from tests.trainers.test_fitted import SuiteWithGaps  # noqa: F401  registers it
from trainers import prolip
from trainers.losses import multitask_cross_entropy
from trainers.prolip import ProjectedImages
from trainers.samples import Samples, StartSamples

SPACE = TaskSpace((Task("a", "a", ("fox", "dog", "hen")), Task("b", "b", ("oak", "elm"), metric="mean_acc")))
TEMPLATES = [("a photo of a {}.",), ("a leaf of {}.", "a {}.")]
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def build(tmp_path, weights):
    """Trainers on the tests' suite whose runs share a feature cache."""

    def built(folder, *opts, name="ProLIP", file=weights, size=32):
        cache = ("DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
        run = ("OUTPUT_DIR", str(tmp_path / folder))
        return build_trainer(config(tmp_path, name, file, size, *cache, *run, *opts))

    return built


def drawn(generator, *labels):
    return [Samples(torch.randn(len(own), 64, generator=generator), torch.tensor(own)) for own in labels]


def given(count=3, **splits):
    """Views and images of further splits."""
    draw = torch.Generator().manual_seed(5)
    views = [drawn(draw, [0, 1, 2, 2, 0], [1, 0, 1]) for _ in range(count)]
    splits = {name: drawn(draw, *labels) for name, labels in splits.items()}
    return views, StartSamples(splits.__getitem__, lambda wanted: views[:wanted])


def started(samples, space=SPACE, templates=TEMPLATES, scale=0.0, **options):
    learner = ProjectedImages(TextTower(tiny_vit()), space, views=3, **{"steps": 4, **options})
    learner.hand_templates, learner.fixed_scale = templates, scale
    with torch.no_grad():
        learner.start(samples)
    return learner


def naive(views, text, columns, tasks, steps, lr, weight, scale):
    """The fit in plain torch: the projection that all `tasks` share."""
    initial = tiny_vit().visual.proj.detach().float()
    learned = initial.clone().requires_grad_()
    optimiser = torch.optim.Adam([learned], lr=lr, eps=1e-4)
    for step in range(steps):
        rate = lr * (1 + torch.tensor(torch.pi * step / steps).cos().item()) / 2
        optimiser.param_groups[0]["lr"] = rate
        view = views[(step + 1) % len(views)]
        x, task = (
            torch.cat([view[t].features for t in tasks]),
            torch.cat([torch.full_like(view[t].labels, t) for t in tasks]),
        )
        target = torch.cat([view[t].labels + SPACE.offsets[t] for t in tasks])
        logits = scale * F.normalize(x @ learned, dim=-1) @ F.normalize(text, dim=-1).t()
        loss = multitask_cross_entropy(logits, columns, task, target) + weight * (learned - initial).pow(2).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return learned.detach()


# ---- the fit


@pytest.mark.parametrize("scale", [0.0, 30.0])
@pytest.mark.parametrize("per_task", [False, True])
def test_the_fit_is_that_of_a_plain_version(per_task, scale):
    views, samples = given()
    learner = started(samples, per_task=per_task, lr=0.01, weight=0.3, steps=5, scale=scale)
    for g, tasks in enumerate([[0], [1]] if per_task else [[0, 1]]):
        s = scale or tiny_vit().logit_scale.exp().item()
        want = naive(views, learner.hand_features(), SPACE.task_of_column, tasks, 5, 0.01, 0.3, s)
        torch.testing.assert_close(learner.projections.weight[g], want, rtol=1e-4, atol=1e-5)
        assert (want - learner.initial).abs().max() > 0.01


def test_the_projection_of_a_task_is_that_of_a_run_of_the_task():
    views, samples = given()
    joint = started(samples, per_task=True, lr=0.01)
    for t in range(2):
        own = StartSamples(None, lambda count, t=t: [[view[t]] for view in views[:count]])
        alone = started(own, SPACE.subset([t]), TEMPLATES[t : t + 1], lr=0.01)
        torch.testing.assert_close(alone.projections.weight[0], joint.projections.weight[t])
        assert alone.choices.record() == {}  # nothing was chosen
        assert getattr(alone.choices, "lambda")[0] == getattr(joint.choices, "lambda")[t]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"shots": 4}, [0.25, 0.25]),
        ({"shots": 4, "power": 2.0}, [1 / 16, 1 / 16]),
        ({}, [5 / 8, 5 / 8]),
        ({"per_task": True}, [3 / 5, 2 / 3]),
        ({"weight": 0.0, "shots": 4}, [0, 0]),
    ],
)
def test_lambda_follows_from_the_shots(options, expected):
    learner = started(given()[1], steps=1, **options)
    assert getattr(learner.choices, "lambda").tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("shape", "bias", "count"), [((2048, 1024), True, 2_097_152), ((768, 512), False, 393_216)])
def test_learnable_parameters_are_the_published_ones(shape, bias, count, monkeypatch):
    class Sizes:
        output_dim, device, clip = shape[1], torch.device("cpu"), None

        @staticmethod
        def encode(texts):
            return torch.ones(len(texts), shape[1])

    class Tower:
        def __init__(self, clip):
            self.projection = lambda: (torch.zeros(shape), torch.zeros(shape[1]) if bias else None)

    monkeypatch.setattr(prolip, "ImageTower", Tower)
    learner = ProjectedImages(Sizes, SPACE)
    assert sum(p.numel() for p in learner.parameters() if p.requires_grad) == count
    assert "bias" not in learner.state_dict()


# ---- the search


@pytest.mark.parametrize("per_task", [False, True])
def test_the_search_takes_the_first_best_setting(per_task, monkeypatch, capsys):
    monkeypatch.setattr(prolip, "LRS", (0.1, 0.01))
    monkeypatch.setattr(prolip, "LAMBDAS", (1.0, 0.1, 0.0))
    views, samples = given(val=([0, 1, 2, 2, 1, 0, 0], [0, 1, 1]))
    learner = started(samples, per_task=per_task, search=True)
    text, scale = learner.hand_features(), tiny_vit().logit_scale.exp().item()
    chosen = learner.choices.record()
    for g, tasks in enumerate([[0], [1]] if per_task else [[0, 1]]):
        found = []
        for lr in (0.1, 0.01):
            for weight in (1.0, 0.1, 0.0):
                m = naive(views, text, SPACE.task_of_column, tasks, 4, lr, weight, scale)
                right = []
                for t in tasks:
                    own = samples.val[t]
                    predicted = (F.normalize(own.features @ m, dim=-1) @ text[SPACE.columns(t)].t()).argmax(1)
                    right.append(METRICS.get(SPACE.tasks[t].metric)(predicted.numpy(), own.labels.numpy()))
                found.append((sum(right) / len(right), lr, weight, m))
        best = max(found, key=lambda one: one[0])  # the first of equals
        assert min(found, key=lambda one: one[0])[0] < best[0]
        torch.testing.assert_close(learner.projections.weight[g], best[3], rtol=1e-4, atol=1e-5)
        for t in tasks:
            assert chosen[SPACE.tasks[t].key] == {"lr": best[1], "lambda": best[2], "chosen_on": "val"}
    assert f"task {SPACE.tasks[0].id} (a): lr " in capsys.readouterr().out


def test_labels_of_test_images_choose_nothing(build, tmp_path, monkeypatch):
    monkeypatch.setattr(prolip, "LRS", (0.01, 1e-5))
    opts, found = ("TRAINER.PROLIP.SEARCH", True, "TRAINER.PROLIP.TSC", True), []
    for folder in ("right", "swapped"):
        trainer = build(folder, *opts)
        if folder == "swapped":
            for item in trainer.dm.dataset.test:
                item._label = len(trainer.space.tasks[item.task].classnames) - 1 - item.label
        trainer.train()
        found.append((trainer.model.projections.weight.detach(), trainer.run_extra["chosen"], trainer.evaluator.report))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert found[0][2]["mean"] != found[1][2]["mean"]
    written = json.loads((tmp_path / "right/results.json").read_text())["chosen"]
    assert written == found[0][1] and {one["chosen_on"] for one in written.values()} == {"val"}
    assert all(one["lr"] in (0.01, 1e-5) for one in written.values())


def test_a_search_without_validation_images_names_the_setting():
    _, samples = given(val=([0, 1], []))
    with pytest.raises(UserError, match=r"\(b\) has no validation images.*TRAINER.PROLIP.SEARCH False"):
        started(samples, search=True)


# ---- runs


@pytest.mark.parametrize("make", [tiny_vit, tiny_rn], ids=["ViT", "ResNet"])
def test_unprojected_features_serve_as_the_others_do(make, build, tmp_path):
    """Comparison with zero-shot CLIP, predictions from images and from kept features, and features for analyses."""
    file, clip = tmp_path / "weights.pt", make()
    torch.save(state_dict(clip), file)
    tower = {"file": file, "size": clip.visual.input_resolution}
    zero = build("zero", name="ZeroshotCLIP", **tower)
    zero.train()
    trainer = build("run", "TRAINER.PROLIP.LR", 0.001, **tower)
    untrained = trainer.model.projections.weight.detach().clone()
    size = clip.visual.input_resolution
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(trainer.encode_images(images), zero.encode_images(images), rtol=1e-4, atol=1e-5)
    before = state_dict(trainer.clip)
    trainer.train()
    assert not torch.equal(untrained, trainer.model.projections.weight)
    assert all(torch.equal(value, before[key]) for key, value in trainer.clip.state_dict().items())
    assert trainer.run_extra["zero_shot"]["mean"]["value"] == zero.evaluator.report["mean"]["value"]
    features = trainer.frozen_features(images)
    torch.testing.assert_close(trainer.model_inference(images), trainer.model_inference(None, features=features))
    assert trainer.compares_features
    frozen, own, logits = features_of(trainer, trainer.dm.dataset.test, "images")
    other = features_of(zero, trainer.dm.dataset.test, "images")[0]
    torch.testing.assert_close(frozen, other, rtol=1e-4, atol=1e-5)
    assert frozen.shape == own.shape and len(logits) == len(own) and not torch.allclose(frozen, own)


@pytest.mark.parametrize("per_task", [False, True])
def test_a_model_of_all_tasks_serves_some_of_them(per_task, build, tmp_path):
    opts = ("TRAINER.PROLIP.TSC", per_task, "TRAINER.PROLIP.LR", 0.01)
    joint = build("joint", *opts)
    joint.train()
    part = build("part", *opts, "DATASET.SUBSAMPLE_TASKS", [2, 0])
    fresh = part.model_inference(IMAGES)
    part.load_model(str(tmp_path / "joint"))
    columns = torch.cat([joint.all_columns[joint.space.columns(t.id)] for t in part.space.tasks])
    torch.testing.assert_close(part.model_inference(IMAGES), joint.model_inference(IMAGES)[:, columns])
    assert not torch.allclose(part.model_inference(IMAGES), fresh, atol=1e-3)
    task = torch.tensor([0, 1, 1, 0])
    of_tasks, every = part.model_inference(IMAGES, task), part.model_inference(IMAGES)
    own = part.space.mask(task)
    torch.testing.assert_close(of_tasks[own], every[own])


def test_new_classes_have_the_same_projection(build, tmp_path):
    opts = ("TRAINER.PROLIP.LR", 0.01)
    base = build("base", *opts, "DATASET.SUBSAMPLE_CLASSES", "base")
    base.train()
    new = build("new", *opts, "DATASET.SUBSAMPLE_CLASSES", "new")
    fresh = new.model_inference(IMAGES)
    new.load_model(str(tmp_path / "base"))
    assert torch.equal(new.model.projections.weight, base.model.projections.weight)
    assert not torch.allclose(new.model_inference(IMAGES), fresh, atol=1e-3)
    image = new.frozen_features(IMAGES) @ base.model.projections.weight[0]
    want = new.model.scale * F.normalize(image, dim=-1) @ new.model.hand_features().t()
    torch.testing.assert_close(new.model_inference(IMAGES), want.detach(), rtol=1e-4, atol=1e-4)


def test_a_new_task_has_no_projection_of_its_own(build, tmp_path):
    build("one", "TRAINER.PROLIP.TSC", True, "DATASET.SUBSAMPLE_TASKS", [0]).train()
    other = build("other", "TRAINER.PROLIP.TSC", True, "DATASET.SUBSAMPLE_TASKS", [2])
    with pytest.raises(UserError, match="one projection per task, and none was learned for 'marks'"):
        other.load_model(str(tmp_path / "one"))


def test_a_class_and_a_task_without_images(build, capsys):
    trainer = build("gaps", "DATASET.NAME", "SuiteWithGaps")
    trainer.train()
    assert "training images, which are known by their prompts only: dark_green" in capsys.readouterr().out
    assert trainer.model_inference(IMAGES).isfinite().all()
    views, _ = given()
    empty = Samples(torch.zeros(0, 64), torch.zeros(0).long())
    learner = started(StartSamples(None, lambda count: [[view[0], empty] for view in views]), per_task=True)
    assert torch.equal(learner.projections.weight[1], learner.initial)
    assert not torch.equal(learner.projections.weight[0], learner.initial)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("LAMBDA", -0.5), "LAMBDA -0.5: expected a weight >= 0, or -1"),
        (("LR", 0.0), "TRAINER.PROLIP.LR"),
        (("TEMPLATES", "nowhere.json"), "TEMPLATES: the file nowhere.json does not exist"),
    ],
)
def test_wrong_settings(settings, message, build):
    keys = [f"TRAINER.PROLIP.{part}" if i % 2 == 0 else part for i, part in enumerate(settings)]
    with pytest.raises(ConfigError, match=message):
        build("wrong", *keys)
