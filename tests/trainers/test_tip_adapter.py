"""Tip-Adapter and Tip-Adapter-F: the search, tasks, checkpoints, what test labels change. Parity: tests/parity."""

import json

import pytest
import torch
import torch.nn.functional as F

from clip.text_tower import TextTower
from dassl.config import ConfigError, get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.models import state_dict, tiny_vit
from tests.suite import TASKS, config
from trainers import cache
from trainers.cache import cache_options, cache_predictions, grid
from trainers.samples import Samples, StartSamples
from trainers.tip_adapter import FixedCache
from trainers.tip_adapter_f import TrainedCache

SPACE = TaskSpace(TASKS)  # 5, 1 and 4 classes; the metric of the last task is mean_acc
GRID = grid(7, 20), grid(3, 5)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def task_samples(task, count, seed):
    """Features near a mean per class, without images of the class "star"."""
    labels = [label for label, name in enumerate(task.classnames) if name != "star" for _ in range(count)]
    labels = torch.tensor(labels)[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    return Samples(8 * (draw(9, 48, seed=len(task.classnames))[labels] + 2 * draw(len(labels), 48, seed=seed)), labels)


def given(space=SPACE, swapped=0, without=()):
    """Samples of the tasks, the same whatever other tasks there are; `swapped`: a seed that permutes test labels."""
    numbers = {"train": (4, 10), "val": (3, 20), "test": (6, 30)}

    def read(split):
        assert split not in without, f"{split} images are read"
        found = [task_samples(task, numbers[split][0], numbers[split][1] + task.id) for task in space.tasks]
        if split == "test" and swapped:
            order = torch.Generator().manual_seed(swapped)
            found = [Samples(x, y[torch.randperm(len(y), generator=order)]) for x, y in found]
        return found

    def views(count):
        first = read("train")
        return [
            [
                Samples(x + draw(*x.shape, seed=v + 7 * task.id), y)
                for task, (x, y) in zip(space.tasks, first, strict=True)
            ]
            for v in range(count)
        ]

    return StartSamples(read, views)


def fixed(space=SPACE, **options):
    options = {"grids": [GRID] * space.num_tasks, "views": 1, "fixed": "ALPHA and BETA", **options}
    return FixedCache(TextTower(tiny_vit()), space, **options)


def trained(space=SPACE, **options):
    ones = torch.ones(space.num_tasks)
    options = {"grids": [GRID] * space.num_tasks, "views": 1, "init_alpha": 1.5 * ones, "init_beta": ones, **options}
    return TrainedCache(TextTower(tiny_vit()), space, **options)


def logits(learner, features):
    learner.eval()
    columns = torch.arange(learner.space.num_classes)
    with torch.no_grad():
        return learner.logits(features, learner.text(columns), columns)


def test_all_pairs_predict_as_in_a_plain_loop(monkeypatch):
    features, keys, text = draw(23, 16, seed=1), F.normalize(draw(31, 16, seed=2), dim=-1), 9 * draw(6, 16, seed=3)
    values = torch.tensor([0, 5, 2, 2, 5] * 6 + [3])  # none of classes 1 and 4
    betas, alphas = grid(50, 7), grid(30, 9)
    one_hot, x = F.one_hot(values, 6).float(), F.normalize(features, dim=-1)
    expected = torch.stack(
        [
            torch.stack([(x @ text.t() + a * ((-b * (1 - x @ keys.t())).exp() @ one_hot)).argmax(1) for a in alphas])
            for b in betas
        ]
    )
    assert len(expected.unique()) == 6 and (expected[:, 0] != expected[:, -1]).float().mean() > 0.1
    for limit in (1, 400, 2**20):  # numbers per tensor: one image at a time, several parts, one part
        monkeypatch.setitem(cache.LIMITS, "cpu", limit)
        assert torch.equal(cache_predictions(features, keys, values, text, betas, alphas).long(), expected)
    given_pair = cache_predictions(features, keys, values, text, betas[2:3], alphas[3:4])
    assert torch.equal(given_pair[0, 0].long(), expected[2, 3])


def test_the_grids_are_the_published_ones():
    betas, alphas = grid(7, 200), grid(3, 20)
    assert betas == [i * (7 - 0.1) / 200 + 0.1 for i in range(200)] and max(alphas) < 3 and grid(7, 200, 2.5) == [2.5]
    cfg = get_cfg_default()
    load(cfg, [], ["TRAINER.TIPADAPTER.BY_DATASET", True, "TRAINER.TIPADAPTER.ALPHA", 2.0])
    names = {"OxfordFlowers": (50, 50), "MyFlowers": (7, 3)}
    space = TaskSpace(tuple(Task(name, name, ("a", "b")) for name in names))
    found = cache_options(cfg.TRAINER.TIPADAPTER, "TIPADAPTER", space)["grids"]
    assert found == [(grid(b, 200), [2.0]) for b, _ in names.values()]


def test_keys_are_normalised_means_of_views_and_every_task_has_its_own_cache(capsys):
    model, samples = fixed(views=3), given()
    model.start(samples)
    mean = torch.cat([sum(view[t].features for view in samples.views(3)) / 3 for t in range(3)])
    torch.testing.assert_close(model.rows.keys, mean / mean.norm(dim=1, keepdim=True))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 0 and model.rows.keys.shape == (36, 48)
    assert "task 2 (marks on paper) has classes without training images, for which the cache has no vote: star" in (
        capsys.readouterr().out
    )
    whole = logits(model, samples.test[2].features)
    assert torch.isfinite(whole).all()
    zero_shot = model.scale * F.normalize(samples.test[2].features, dim=1) @ model.text(torch.arange(10)).t()
    torch.testing.assert_close(whole[:, 9], zero_shot[:, 9])  # star
    for t in range(3):
        space = SPACE.subset([t])
        alone, columns = fixed(space, views=3), SPACE.columns(t)
        alone.start(given(space, without=("test",)))
        assert torch.equal(alone.chosen.alpha, model.chosen.alpha[t : t + 1])
        assert torch.equal(alone.chosen.beta, model.chosen.beta[t : t + 1])
        torch.testing.assert_close(logits(alone, samples.test[2].features), whole[:, columns], rtol=1e-3, atol=1e-3)
    assert model.chosen.beta[1].item() == pytest.approx(0.1)  # one class is right under every pair: the first is taken
    assert len(set(zip(model.chosen.beta.tolist(), model.chosen.alpha.tolist(), strict=True))) == 3


def test_a_model_serves_some_tasks_in_another_order_and_new_classes():
    whole = trained(chosen_on="test")
    samples = given()
    whole.start(samples)
    whole.keep_best(samples, 1)
    whole.keep_best(samples, 2)  # no better
    whole.rows.keys.data.mul_(-1)  # worse
    whole.keep_best(samples, 3)
    whole.finish(samples)
    assert whole.chosen.epoch.tolist() == [1, 1, 1] and torch.equal(whole.best.keys, -whole.rows.keys)
    part = trained(TaskSpace((TASKS[2], TASKS[0])), chosen_on="test")
    part.load_state_dict(whole.state_dict())
    features = samples.test[0].features
    found, expected = logits(part, features), logits(whole, features)
    torch.testing.assert_close(found, expected[:, [6, 7, 8, 9, 0, 1, 2, 3, 4]])
    assert part.chosen.record() == {key: whole.chosen.record()[key] for key in ("marks", "shades")}
    new = trained(TaskSpace((Task("shades", "shades", ("mint", "rust"), id=0),)), chosen_on="test")
    untrained = logits(new, features)
    new.load_state_dict(whole.state_dict())
    assert torch.equal(logits(new, features), untrained)


def choose(make, chosen_on, swapped):
    samples = given(swapped=swapped, without=() if chosen_on == "test" else ("test",))
    model = make(chosen_on=chosen_on)
    with torch.no_grad():
        model.start(samples)
        for epoch in range(1, 4):
            if make is trained:
                model.rows.keys.add_(0.05 * draw(*model.rows.keys.shape, seed=epoch))
                if chosen_on == "test":
                    model.keep_best(samples, epoch)
        model.finish(samples)  # a fixed cache has chosen already
    return model.chosen.record()


@pytest.mark.parametrize("make", [fixed, trained])
def test_test_labels_change_choices_only_in_the_published_mode(make):
    assert choose(make, "val", 0) == choose(make, "val", 5) != {}
    first, other = choose(make, "test", 0), choose(make, "test", 5)
    assert first["shades"] != other["shades"] and {row["chosen_on"] for row in first.values()} == {"test"}


def test_the_published_mode_keeps_the_initial_weights_if_the_search_is_no_better():
    samples = given()
    model = trained(chosen_on="test", grids=[([60.0], [0.01, 0.02])] * 3)  # nearly without the cache
    with torch.no_grad():
        model.start(samples)
        model.keep_best(samples, 1)
        model.finish(samples)
    assert model.accuracy.value[0] >= 50 and model.chosen.alpha.tolist() == [1.5] * 3
    assert model.chosen.beta.tolist() == [1.0] * 3


def test_an_epoch_that_test_images_chose_is_recorded_though_alpha_and_beta_are_given():
    model, samples = trained(chosen_on="test", grids=[([2.0], [3.0])] * 3), given()
    with torch.no_grad():
        model.start(samples)
        model.keep_best(samples, 1)
        model.finish(samples)
    expected = {"alpha": 3.0, "beta": 2.0, "epoch": 1.0, "chosen_on": "test"}
    assert model.chosen.record() == dict.fromkeys(("shades", "one", "marks"), expected)


def test_the_first_of_equally_good_epochs_is_kept():
    model, samples = trained(chosen_on="test"), given()
    model.start(samples)
    model.scores = lambda *more: torch.tensor([1400 / 15], dtype=torch.double)  # fp32 would round it up
    for epoch in (1, 2):
        model.keep_best(samples, epoch)
    model.settle(0, 9.0, 9.0, 1400 / 15)  # a search that does not beat the epoch
    assert model.chosen.epoch.tolist() == [1, 1, 1] and model.chosen.alpha[0] == 1.5


def test_training_has_its_own_weights():
    model, samples = trained(), given()
    model.start(samples)
    model.finish(samples)
    features, columns = samples.val[0].features, torch.arange(10)
    tested = logits(model, features)
    model.train()
    first = model.logits(features, model.text(columns), columns)
    model.chosen.alpha.fill_(1.5)
    model.chosen.beta.fill_(1.0)
    torch.testing.assert_close(first, logits(model, features))
    assert first.requires_grad and not torch.allclose(first, tested, atol=0.1)


def test_tasks_without_images_to_learn_or_to_choose_from():
    samples = given()
    kept = [Samples(x[:0], y[:0]) if t == 2 else Samples(x, y) for t, (x, y) in enumerate(samples.train)]
    model = fixed()
    model.start(StartSamples(lambda split: getattr(samples, split), lambda count: [kept]))
    assert model.chosen.record().keys() == {"shades", "one"}
    features = samples.val[2].features
    zero_shot = model.scale * F.normalize(features, dim=1) @ model.text(torch.arange(6, 10)).t()
    torch.testing.assert_close(logits(model, features)[:, 6:], zero_shot)
    empty = StartSamples(lambda split: [Samples(x[:0], y[:0]) for x, y in samples.train], lambda count: 1 / 0)
    with pytest.raises(UserError, match=r"\(shades of colours\) has no validation images.* give them instead: ALPHA"):
        fixed().start(empty)
    both = fixed(grids=[([2.0], [3.0])] * 3)
    both.start(StartSamples(lambda split: 1 / 0, lambda count: [samples.train]))  # nothing is searched
    assert both.chosen.alpha.tolist() == [3.0] * 3 and both.chosen.record() == {}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(state_dict(tiny_vit()), path)
    return path


def run(tmp_path, weights, *settings):
    batches = ("DATALOADER.TRAIN_X.BATCH_SIZE", 16, "DATALOADER.FEATURE_BANK", True)
    folder = ("DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
    return build_trainer(config(tmp_path, "TipAdapterF", weights, 32, *batches, *folder, *settings))


@pytest.mark.parametrize("settings", [(), ("TEST.FINAL_MODEL", "best_val")], ids=["last", "best_val"])
def test_a_run_reads_test_images_for_the_test_only_and_keeps_the_last_batch(settings, weights, tmp_path, capsys):
    trainer = run(tmp_path, weights, "DATALOADER.TRAIN_X.DROP_LAST", False, *settings)
    sizes, keys = [], []
    step, after = trainer.forward_backward, trainer.after_epoch
    trainer.forward_backward = lambda batch: sizes.append(len(batch["label"])) or step(batch)
    trainer.after_epoch = lambda: keys.append(trainer.model.rows.keys.detach().clone()) or after()
    trainer.train()
    assert sizes == 2 * [16, 16, 8] and "test" not in vars(trainer.samples)
    printed = capsys.readouterr().out
    assert "Learnable parameters: 1,920" in printed and "left out of every epoch" not in printed
    found = json.loads((tmp_path / "run/results.json").read_text())
    assert found["learnable_parameters"] == 40 * 48 and found["chosen"]["shades"]["chosen_on"] == "val"
    # what is chosen after an epoch does not change the training
    plain = run(tmp_path / "plain", weights, "DATALOADER.TRAIN_X.DROP_LAST", False)
    plain.train()
    assert torch.equal(plain.model.rows.keys, keys[1])


def test_a_dropped_batch_is_reported_and_wrong_settings_are_refused(weights, tmp_path, capsys):
    trainer = run(tmp_path, weights, "TRAINER.TIPADAPTERF.CHOSEN_ON", "test", "OPTIM.MAX_EPOCH", 1)
    trainer.train()
    assert "WARNING: 8 of 40 training images are left out of every epoch" in capsys.readouterr().out
    found = json.loads((tmp_path / "run/results.json").read_text())["chosen"]
    assert found["one"]["chosen_on"] == "test" and found["one"]["epoch"] == 1
    for settings, message in {
        ("CHOSEN_ON", "test", "../TEST.FINAL_MODEL", "best_val"): "set TEST.FINAL_MODEL last_step",
        ("SEARCH_SCALE", (7.0,)): "two numbers above 0",
        ("SEARCH_STEP", (0, 20)): "two integers from 1",
    }.items():
        pairs = [f"TRAINER.TIPADAPTERF.{word}".split("../")[-1] for word in settings[::2]]
        with pytest.raises(ConfigError, match=message):
            run(tmp_path, weights, *(part for pair in zip(pairs, settings[1::2], strict=True) for part in pair))
    with pytest.raises(ConfigError, match="TRAINER.TIPADAPTERF.TEMPLATES: the file nowhere.yaml does not exist"):
        run(tmp_path, weights, "TRAINER.TIPADAPTERF.TEMPLATES", "nowhere.yaml")
