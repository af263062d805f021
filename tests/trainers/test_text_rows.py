"""TaskRes, CLAP and ZS-LP: text features, multipliers, penalty, rows of classes. Parity: tests/parity."""

import json

import pytest
import torch
import torch.nn.functional as F

from clip.text_tower import TextTower
from dassl.config import ConfigError, get_cfg_default, load, method_name
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.engine.build import method_of
from tests.models import tiny_vit
from tests.suite import TASKS, config
from tests.trainers.test_fitted import SuiteWithGaps  # noqa: F401  registers it
from trainers.clap import ConstrainedRows
from trainers.samples import Samples, StartSamples
from trainers.taskres import Residuals

SPACE = TaskSpace((Task("a", "a", ("red_fox", "dog", "hen")), Task("b", "b", ("oak", "elm"))))
TEMPLATES = [("a photo of a {}.", "art of a {}."), ("a leaf of {}.",)]
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def build(tmp_path, weights):
    return lambda name, folder, *opts: build_trainer(config(tmp_path / folder, name, weights, 32, *opts))


def encoded(*texts):
    return TextTower(tiny_vit()).encode(list(texts))


def views(count, generator):
    """`count` views of images of all classes but the last of each task."""

    def draw(labels):
        return Samples(torch.randn(len(labels), 48, generator=generator), torch.tensor(labels))

    return [[draw([0, 1, 1, 0, 1]), draw([0, 0])] for _ in range(count)]


def started(constraint, found):
    learner = ConstrainedRows(
        TextTower(tiny_vit()), SPACE, templates=TEMPLATES, constraint=constraint, views=len(found)
    )
    with torch.no_grad():
        learner.start(StartSamples(None, lambda count: found[:count]))
    return learner


# ---- text features


@pytest.mark.parametrize("underscores", [False, True])
def test_the_base_is_the_mean_of_raw_features(underscores):
    learner = Residuals(TextTower(tiny_vit()), SPACE, templates=TEMPLATES, underscores=underscores, alpha=0.3)
    fox = "red_fox" if underscores else "red fox"
    expected = encoded(f"a photo of a {fox}.", f"art of a {fox}.").mean(0)
    torch.testing.assert_close(learner.base[0], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(learner.base[3], encoded("a leaf of oak.")[0], rtol=1e-5, atol=1e-6)
    assert abs(learner.base[0].norm() - 1) > 0.1
    columns = torch.tensor([4, 1])
    torch.testing.assert_close(learner.text(columns), learner.base[columns])
    learner.rows.data.normal_()
    torch.testing.assert_close(learner.text(columns), learner.base[columns] + 0.3 * learner.rows[columns])


@pytest.mark.parametrize(("tower", "count"), [("RN50", 1024), ("ViT-B/16", 512)])
@pytest.mark.parametrize("name", ["TaskRes", "CLAP", "ZSLP"])
def test_learnable_parameters_are_the_published_ones(name, tower, count):
    class Sizes:
        output_dim, device = count, torch.device("cpu")

        @staticmethod
        def encode(texts):
            return torch.ones(len(texts), count)

    cfg = get_cfg_default()
    load(cfg, [], ["TRAINER.NAME", name])
    learner = method_of(cfg).build_learner(cfg, Sizes, TaskSpace.single(("cat", "dog", "hen"), "animals"))
    assert sum(p.numel() for p in learner.parameters() if p.requires_grad) == 3 * count


# ---- CLAP's multipliers


def test_multipliers_are_the_mean_probability_of_the_right_class(capsys):
    found = views(3, torch.Generator().manual_seed(0))
    learner = started("l2", found)
    scale, base = learner.tower.clip.logit_scale.exp(), F.normalize(learner.base, dim=-1)
    seen = []
    for t, (start, count) in enumerate(((0, 3), (3, 2))):
        values = {k: [] for k in range(count - 1)}
        for view in found:
            for x, y in zip(view[t].features, view[t].labels.tolist(), strict=True):
                p = (scale * base[start : start + count] @ (x / x.norm())).softmax(0)
                values[y].append(p[y].item())
        means = [sum(v) / len(v) for v in values.values()]
        seen += [*means, sum(means) / len(means)]  # the last class has no images
    assert learner.multiplier.tolist() == pytest.approx(seen, rel=1e-4)
    said = capsys.readouterr().out
    assert "(a) has classes without training images, whose constraint is the mean of the others: hen" in said
    constant, corrected = (started(name, found).multiplier for name in ("constant", "corrected"))
    for own in (slice(0, 3), slice(3, 5)):
        mean = learner.multiplier[own].mean()
        torch.testing.assert_close(constant[own], mean.expand(own.stop - own.start))
        torch.testing.assert_close(corrected[own], learner.multiplier[own] / mean)


@pytest.mark.parametrize("constraint", ["balanced", "none"])
def test_some_constraints_read_no_images(constraint):
    learner = ConstrainedRows(TextTower(tiny_vit()), SPACE, templates=TEMPLATES, constraint=constraint)
    learner.start(StartSamples(None))  # reading would fail
    assert learner.multiplier.tolist() == [1.0] * 5


def test_a_task_without_images_has_no_nan():
    found = [[own, Samples(torch.zeros(0, 48), torch.zeros(0).long())] for own, _ in views(2, torch.Generator())]
    assert started("l2", found).multiplier[3:].tolist() == [1, 1]


def test_adaptative_multipliers_grow_with_the_distance_of_the_epoch_before():
    learner = started("adaptative", views(2, torch.Generator().manual_seed(1)))
    first = learner.multiplier.clone()
    learner.rows.data += 0.5
    h = learner.distances(torch.arange(5))
    torch.testing.assert_close(h, torch.full((5,), 48 * 0.25), rtol=1e-4, atol=1e-4)
    learner.tighten()
    assert torch.equal(learner.multiplier, first) and torch.equal(learner.growth, h)
    learner.tighten()
    torch.testing.assert_close(learner.multiplier, first + h * h)


def test_the_penalty_of_a_batch_weighs_tasks_as_the_cross_entropy_does(build):
    trainer = build("CLAP", "one")
    model = trainer.model
    model.rows.data += torch.randn(model.rows.shape, generator=torch.Generator().manual_seed(0))
    model.multiplier.uniform_()
    features, task = torch.randn(6, 48, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 2, 0, 0, 2, 0])
    label = torch.tensor([4, 3, 0, 1, 0, 2])

    def loss(trainer, rows):
        step = trainer.step({"features": features[rows], "label": label[rows], "task": task[rows]})
        return trainer.loss(step)[0]

    alone = [loss(trainer, task == t) for t in (0, 2)]
    torch.testing.assert_close(loss(trainer, task >= 0), (4 * alone[0] + 2 * alone[1]) / 6)
    weighted = build("CLAP", "weighted", "LOSS.TASK_WEIGHTS", "{shades: 3}")
    weighted.model.load_state_dict(model.state_dict())
    torch.testing.assert_close(loss(weighted, task >= 0), (3 * 4 * alone[0] + 2 * alone[1]) / 6)
    own = slice(6, 10)
    step = trainer.step({"features": features[task == 2], "label": label[task == 2], "task": task[task == 2]})
    penalty = (model.multiplier[own] * (model.rows[own] - model.base[own]).pow(2).sum(1)).mean()
    ce = F.cross_entropy(model.scale * F.normalize(step.image) @ F.normalize(model.rows[own]).t(), step.target)
    torch.testing.assert_close(trainer.loss(step)[0], ce + penalty, rtol=1e-4, atol=1e-5)
    assert trainer.loss(step)[1]["penalty"] == pytest.approx(penalty.item(), rel=1e-5)


# ---- runs


@pytest.mark.parametrize("name", ["TaskRes", "CLAP", "ZSLP"])
def test_a_model_of_all_tasks_serves_some_of_them_and_equals_their_own(name, build, tmp_path):
    """The task has 16 of the 40 images of a batch, and therefore 0.4 of the gradient."""
    opts = ["OPTIM.WEIGHT_DECAY", 0.0, "OPTIM.LR", 0.5, "DATALOADER.TRAIN_X.BATCH_SIZE", 100, "DATALOADER.VIEWS", 2]
    opts += ["DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache")]
    joint = build(name, "joint", *opts)
    joint.train()
    own = ("DATASET.SUBSAMPLE_TASKS", [2])
    part, alone = build(name, "part", *opts, *own), build(name, "alone", *opts, *own, "OPTIM.LR", 0.2)
    part.load_model(str(tmp_path / "joint/run"))
    alone.train()
    columns = joint.space.columns(2)
    assert torch.equal(part.model.rows, joint.model.rows[columns])
    torch.testing.assert_close(part.model_inference(IMAGES), joint.model_inference(IMAGES)[:, columns])
    torch.testing.assert_close(alone.model.rows, joint.model.rows[columns], rtol=1e-4, atol=1e-5)
    if name != "TaskRes":
        torch.testing.assert_close(alone.model.multiplier, part.model.multiplier)
    moved = (joint.model.rows - build(name, "fresh", *opts).model.rows).norm(dim=1)
    assert (moved[columns] > 1e-3).all()
    found = json.loads((tmp_path / "joint/run/results.json").read_text())
    assert found["trainer"] == {"ZSLP": "CLAP"}.get(name, name) and found["zero_shot"]["mean"]["value"] >= 0
    assert method_name(joint.cfg) == name


def test_a_class_without_images_keeps_numbers(build, capsys):
    trainer = build("CLAP", "gaps", "DATASET.NAME", "SuiteWithGaps")
    trainer.train()
    assert "without training images, whose constraint is the mean of the others: dark_green" in capsys.readouterr().out
    assert trainer.model_inference(IMAGES).isfinite().all() and trainer.model.multiplier.isfinite().all()


def test_templates_of_tasks(build, tmp_path):
    file = tmp_path / "templates.yaml"
    file.write_text("shades: ['a wall in {}.', 'paint: {}']\n")
    trainer = build("TaskRes", "one", "TRAINER.TASKRES.TEMPLATES", str(file))
    expected = [encoded(f"a wall in {n}.", f"paint: {n}").mean(0) for n in ("red", "dark green")]
    torch.testing.assert_close(trainer.model.base[:2], torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert TASKS[2].classnames[0] == "cross"
    torch.testing.assert_close(trainer.model.base[6], encoded("a photo of a cross.")[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("TaskRes", ("TRAINER.TASKRES.ALPHA", 0.0), "TRAINER.TASKRES.ALPHA"),
        ("TaskRes", ("TRAINER.TASKRES.TEMPLATES", "nowhere.yaml"), "TEMPLATES: the file nowhere.yaml does not exist"),
        (
            "TaskRes",
            ("TRAINER.TASKRES.TEMPLATES", "a {} {}"),
            "exist; expected a file, .all., or a text with one {} for",
        ),
        ("CLAP", ("TRAINER.CLAP.CONSTRAINT", "l1"), "expected one of l2, constant, balanced"),
    ],
)
def test_wrong_settings(name, settings, message, build):
    with pytest.raises(ConfigError, match=message):
        build(name, "wrong", *settings)
