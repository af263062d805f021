"""CLIP-LoRA against a naive version: the CLIP's own code with weights W + g B A, and autograd through it."""

import json
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP as OpenClip

from clip.additions import Additions, Change, LowRank, Tokens, TowerAdditions
from clip.building import finish
from clip.clip import tokenize
from clip.image_tower import ImageTower
from clip.layers import linear
from clip.merging import merged_copy
from clip.text_tower import TextTower
from dassl.config import ConfigError, get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.engine.build import method_of
from dassl.utils import UserError
from tests.models import relative, state_dict, tiny_rn, tiny_vit, uneven_vit
from tests.suite import TASKS, config
from trainers.hand import HandPrompts
from trainers.low_rank import Factors, layers_at

SPACE = TaskSpace(TASKS)
EVERYTHING = ("q", "k", "v", "out", "fc", "proj")
PARTS = {"out": "attn.out_proj.weight", "fc": "mlp.c_fc.weight", "proj": "mlp.c_proj.weight"}


def learner_of(clip, space=SPACE, **settings):
    """The learner of these settings; its B are not zero, so that everything below them gets a gradient."""
    cfg = get_cfg_default()
    load(cfg, [], ["TRAINER.NAME", "CLIPLoRA", *(p for k, v in settings.items() for p in (f"TRAINER.CLIPLORA.{k}", v))])
    torch.manual_seed(0)
    learner = method_of(cfg).build_learner(cfg, TextTower(clip), space)
    learner.to(clip.logit_scale.dtype)
    with torch.no_grad():
        for name, parameter in learner.named_parameters():
            if "down" not in name:
                parameter.normal_(std=0.05)
    return learner


def naive_features(learner, images, task=0, gain=None):
    """Normalised features of `images` and of all classes: by the CLIP's own code, with changed weights of a task."""
    clip = deepcopy(learner.tower.clip)
    weights = dict(clip.named_parameters())
    for each, down, up in learner.factors():
        g = learner.gain if gain is None else gain
        row = task if len(up) > 1 else 0
        for i, layer in enumerate(each.layers):
            start = f"{'visual.' if each.tower == 'image' else ''}transformer.resblocks.{layer}."
            name = start + PARTS.get(each.projection, "attn.in_proj_weight")
            name = next(key for key in weights if key.endswith(name) and ("visual" in key) == (each.tower == "image"))
            change = g * up[row, i] @ down[row, i]
            if each.projection in "qkv":
                rows = ["q", "k", "v"].index(each.projection)
                empty = torch.zeros_like(change)
                change = torch.cat([change if row == rows else empty for row in range(3)])
            weights[name] = weights[name] + change
    words = tokenize([f"a photo of a {name.replace('_', ' ')}." for name in learner.space.classnames])
    found = []
    for call in (lambda: clip.encode_image(images), lambda: clip.encode_text(words)):
        clip.forward = call
        found.append(F.normalize(torch.func.functional_call(clip, weights, ()), dim=-1))
    return found


def features(learner, images, task, checkpoint=False):
    """Normalised features of `images`, and of all classes, of the learner."""
    added = learner.additions()
    image = ImageTower(learner.tower.clip, checkpoint)(images, added.image and added.image.take(task))
    return F.normalize(image, dim=-1), learner.text(torch.arange(learner.space.num_classes), added.text)


@pytest.fixture(scope="module")
def double():
    return deepcopy(uneven_vit()).double()


IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
WEIGHT = torch.randn(3, 10, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"PARAMS": EVERYTHING, "R": 3, "ALPHA": 2.0, "LAYERS_TEXT": (1,), "LAYERS_VISION": (3, 1)},
        {"ENCODER": "text", "PARAMS": ("o", "q")},
        {"ENCODER": "vision", "POSITION": "half-up"},
        {"SHARING": "soft"},
        {"TSC": True, "POSITION": "half-bottom"},
    ],
)
def test_features_and_gradients_are_those_of_changed_weights(double, settings):
    learner = learner_of(double, DROPOUT=0.0, **settings).train()
    gain = {3: 2 / 3**0.5}.get(settings.get("R"), 2**-0.5)
    parameters, found = list(learner.parameters()), []
    task = torch.full((3,), 2)
    columns = SPACE.columns(2)
    for image, text in (features(learner, IMAGES, task), naive_features(learner, IMAGES, 2, gain)):
        product = (image @ text.t())[:, columns]
        loss = (product * WEIGHT[:, columns]).sum()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        found.append((product, gradients))
    (product, gradients), (expected, others) = found
    assert relative(product, expected) < 1e-12
    assert all(p.dtype == torch.float64 for p in parameters)
    for one, two in zip(gradients, others, strict=True):
        assert (one is None) == (two is None) or settings.get("TSC")
        if two is not None:
            assert relative(one, two) < 1e-9


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_with_dropout_agree_with_finite_differences(double, checkpoint):
    learner = learner_of(double, PARAMS=("q", "v", "proj"), DROPOUT=0.25).train()
    learner.tower.chunk = 4 * checkpoint
    parameters = list(learner.parameters())
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(5)) for p in parameters]

    def loss(step=0.0):
        with torch.no_grad():
            for parameter, move in zip(parameters, direction, strict=True):
                parameter.add_(move, alpha=step)
        torch.manual_seed(7)  # the same masks
        image, text = features(learner, IMAGES, torch.zeros(3).long(), checkpoint)
        with torch.no_grad():
            for parameter, move in zip(parameters, direction, strict=True):
                parameter.sub_(move, alpha=step)
        return (image @ text.t() * WEIGHT).sum()

    gradients = torch.autograd.grad(loss(), parameters)
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    with torch.no_grad():
        other = (loss(1e-5) - loss(-1e-5)) / 2e-5
        assert relative(loss(), loss()) == 0
        learner.dropout = 0.0
        assert relative(loss(), loss(1e-5)) > 1e-8
    assert slope.item() == pytest.approx(other.item(), rel=1e-6)


def test_each_projection_draws_its_own_mask():
    same = LowRank(torch.randn(2, 8), torch.randn(8, 2), dropout=0.5)
    torch.manual_seed(0)
    q, k, v = linear(torch.ones(4, 8), torch.zeros(24, 8), None, Change(dict.fromkeys("qkv", same)), *"qkv").chunk(3, 1)
    assert not torch.equal(q, k) and not torch.equal(k, v) and not torch.equal(q, v)
    learner = learner_of(tiny_vit())
    rates = [{change.dropout for change in part.changes.values()} for part in learner.train().additions()]
    assert rates == [{0.25}, {0.25}]
    assert {change.dropout for part in learner.eval().additions() for change in part.changes.values()} == {0.0}


@pytest.mark.parametrize("settings", [{"PARAMS": EVERYTHING, "TSC": True}, {"SHARING": "soft"}, {"ENCODER": "text"}])
def test_a_merged_copy_computes_the_same(settings):
    clip = deepcopy(uneven_vit())
    before, learner = state_dict(clip), learner_of(clip, **settings).eval()
    images = IMAGES.float()
    with torch.no_grad():
        for task in range(3):
            image, text = features(learner, images, torch.full((3,), task))
            copy = learner.merged(task)
            assert relative(F.normalize(copy.encode_image(images), dim=-1), image) < 1e-5
            words = [f"a photo of a {name.replace('_', ' ')}." for name in SPACE.tasks[task].classnames]
            assert relative(F.normalize(copy.encode_text(tokenize(words)), dim=-1), text[SPACE.columns(task)]) < 1e-5
            assert relative(copy.encode_text(tokenize(words)), clip.encode_text(tokenize(words))) > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())


def test_only_existing_low_rank_changes_are_merged():
    clip, two = uneven_vit(), LowRank(torch.zeros(2, 1, 64), torch.zeros(2, 64, 1))
    with pytest.raises(UserError, match="Set 2 of low-rank changes: expected 0 to 1"):
        merged_copy(clip, TowerAdditions(Additions(changes={(0, "q"): two})), 2)
    with pytest.raises(UserError, match="Prompt tokens cannot be merged"):
        merged_copy(clip, TowerAdditions(Additions(Tokens(torch.zeros(1, 1, 2, 64)))))


def test_a_run_of_several_tasks_is_the_runs_of_its_tasks():
    """With one set of factors per task: the same features, and gradients of the images of the task."""
    tasks, weight = torch.tensor([0, 2, 2]), WEIGHT.float()
    images = IMAGES.float()
    learner = learner_of(uneven_vit(), TSC=True, DROPOUT=0.0).train()
    image, text = features(learner, images, tasks)
    own = SPACE.task_of_column == tasks[:, None]
    (image @ text.t() * weight)[own].sum().backward()
    for t in (0, 2):
        space = TaskSpace((SPACE.tasks[t],))
        alone = learner_of(uneven_vit(), space, TSC=True, DROPOUT=0.0).train()
        alone.load_state_dict(learner.state_dict())  # rows are matched by the name of the task
        rows = tasks == t
        found, words = features(alone, images[rows], torch.zeros(int(rows.sum())).long())
        assert relative(found, image[rows]) < 1e-6 and relative(words, text[SPACE.columns(t)]) < 1e-6
        (found @ words.t() * weight[rows][:, SPACE.columns(t)]).sum().backward()
        for one, two in zip(alone.sets[0].parameters(), learner.sets[t].parameters(), strict=True):
            assert relative(one.grad, two.grad) < 1e-4


def test_factors_of_tasks_are_matched_by_name_and_names_generate_factors():
    learner = learner_of(tiny_vit(), TSC=True)
    other = learner_of(tiny_vit(), TaskSpace((TASKS[2], TASKS[0])), TSC=True)
    other.load_state_dict(learner.state_dict())
    for mine, theirs in ((0, 2), (1, 0)):
        own, expected = other.sets[mine].state_dict(), learner.sets[theirs].state_dict()
        assert all(torch.equal(own[name], expected[name]) for name in expected)
    new = Task("new", "a new task", ("one", "two"))
    with pytest.raises(UserError, match="one set of factors per task, and none was learned for"):
        learner_of(tiny_vit(), TaskSpace((new,)), TSC=True).load_state_dict(learner.state_dict())
    soft = learner_of(tiny_vit(), SHARING="soft")
    served = learner_of(tiny_vit(), TaskSpace((new, TASKS[2])), SHARING="soft")
    served.load_state_dict(soft.state_dict())
    for (_, _, mine), (_, _, theirs) in zip(served.factors(), soft.factors(), strict=True):
        torch.testing.assert_close(mine[1], theirs[2])
        assert relative(mine[0], theirs[0]) > 1e-3
    assert {len(vectors) for vectors in soft.task_vectors().values()} == {3}
    assert learner_of(tiny_vit()).task_vectors() == {}


def test_at_first_nothing_changes_and_several_templates_are_averaged():
    cfg = get_cfg_default()
    for sharing in ("hard", "soft"):
        load(cfg, [], ["TRAINER.NAME", "CLIPLoRA", "TRAINER.CLIPLORA.SHARING", sharing])
        learner = method_of(cfg).build_learner(cfg, TextTower(tiny_vit()), SPACE)
        assert all(not up.any() for _, _, up in learner.factors())
    forms = [("a {}.", "some {} here"), ("one {}.",), ("marks: {}", "{}", "the {}")]
    templates = [Task(t.key, t.name, t.classnames, templates=own) for t, own in zip(TASKS, forms, strict=True)]
    space = TaskSpace(tuple(templates))
    learner = learner_of(tiny_vit(), space, TEMPLATES="all", ENCODER="text").eval()
    select = torch.tensor([9, 0, 6, 5])
    with torch.no_grad():
        changed = learner.text(select)
        learner.gain = 0.0
        expected = HandPrompts(learner.tower, space, forms)(select)
        assert relative(learner.text(select), expected) < 1e-5 and relative(changed, expected) > 1e-3


def test_frozen_layers_keep_nothing_for_the_backward_pass():
    sizes = {}
    for position in ("all", "up"):
        learner = learner_of(tiny_vit(), POSITION=position, DROPOUT=0.0)
        kept = []

        def pack(tensor, kept=kept):
            if not isinstance(tensor, torch.nn.Parameter):
                kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features(learner, IMAGES.float(), torch.zeros(3).long())
        sizes[position] = sum(kept)
    assert sizes["up"] < 0.45 * sizes["all"]
    assert learner.prompts.start == 2  # the text tower begins where its changes begin


def test_positions_of_the_published_code():
    expected = {"all": range(12), "bottom": range(4), "mid": range(4, 8), "up": range(8, 12)}
    expected |= {"half-bottom": range(6), "half-up": range(6, 12)}
    assert {name: layers_at(name, 12) for name in expected} == {k: tuple(v) for k, v in expected.items()}
    assert layers_at("half-up", 24) == tuple(range(12, 24)) and layers_at("all", 12, (5, 1)) == (1, 5)
    with pytest.raises(UserError, match=r"LAYERS_TEXT \(12,\): this tower has the layers 0 to 11"):
        layers_at("all", 12, (12,), "LAYERS_TEXT")
    with pytest.raises(UserError, match="bottom has no layer in a tower of 2 layers"):
        layers_at("bottom", 2)


@pytest.mark.parametrize(
    ("visual", "settings", "count"),
    [
        ("ViT", {}, 184_320),
        ("ViT", {"ENCODER": "vision"}, 110_592),
        ("ViT", {"ENCODER": "text"}, 73_728),
        ("RN", {"ENCODER": "text"}, 73_728),
        ("RN", {"ENCODER": "text", "PARAMS": ("fc",), "R": 1}, 12 * 5 * 512),
    ],
)
def test_learnable_parameters_are_the_published_ones(visual, settings, count):
    vision = {"layers": 12, "width": 768, "patch_size": 16, "head_width": 64, "image_size": 16}
    if visual == "RN":
        vision = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    with torch.device("meta"):
        inner = OpenClip(embed_dim=512, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    tower = TextTower(finish(inner, "fp32"))
    cfg = get_cfg_default()
    load(cfg, [], ["TRAINER.NAME", "CLIPLoRA", *(p for k, v in settings.items() for p in (f"TRAINER.CLIPLORA.{k}", v))])
    c = cfg.TRAINER.CLIPLORA
    assert sum(p.numel() for p in Factors(method_of(cfg).changed(c, tower), c.R).parameters()) == count


# ---- runs


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, model in (("vit", tiny_vit()), ("rn", tiny_rn())):
        torch.save(state_dict(model), folder / f"{name}.pt")
    return folder


def test_the_published_number_of_steps(weights, tmp_path):
    """4 steps per shot and task, 3 tasks, 1 shot: 12 steps, which end in the third epoch of 5 batches."""
    opts = ["OPTIM.STEPS_PER_SHOT", 4, "DATASET.NUM_SHOTS", 1, "OPTIM.LR_SCHEDULER", "cosine", "OPTIM.LR_PER", "step"]
    opts += ["OPTIM.LR_MIN", 1e-3, "TEST.NO_TEST", True, "TRAINER.CLIPLORA.ENCODER", "text"]
    trainer = build_trainer(config(tmp_path, "CLIPLoRA", weights / "vit.pt", 32, *opts))
    rates, frozen = [], state_dict(trainer.clip)
    trainer.optim.register_step_pre_hook(lambda optimiser, *_: rates.append(optimiser.param_groups[0]["lr"]))
    assert trainer.frozen and trainer.max_epoch == 3
    trainer.train()
    expected = [1e-3 + 0.019 / 2 * (1 + torch.cos(torch.tensor(torch.pi * i / 12)).item()) for i in range(12)]
    assert rates == pytest.approx(expected) and trainer.optim.param_groups[0]["lr"] == pytest.approx(1e-3)
    record = json.loads((tmp_path / "run/results.json").read_text())
    assert record["epochs"] == record["epoch"] == 3
    assert (tmp_path / "run/prompt_learner/model.pth.tar-3").is_file()
    assert all(torch.equal(value, frozen[name]) for name, value in trainer.clip.state_dict().items())


def test_steps_per_shot_need_shots(weights, tmp_path):
    with pytest.raises(ConfigError, match="OPTIM.STEPS_PER_SHOT 500 needs shots, found DATASET.NUM_SHOTS -1: set"):
        build_trainer(config(tmp_path, "CLIPLoRA", weights / "vit.pt", 32, "OPTIM.STEPS_PER_SHOT", 500))


def test_a_resnet_learns_the_text_tower_only(weights, tmp_path):
    with pytest.raises(ConfigError) as error:
        build_trainer(config(tmp_path, "CLIPLoRA", weights / "rn.pt", 64))
    assert "need a ViT" in str(error.value) and str(error.value).endswith("or TRAINER.CLIPLORA.ENCODER text")
    assert len(str(error.value).splitlines()) == 1
    opts = ("TRAINER.CLIPLORA.ENCODER", "text", "DATALOADER.FEATURE_BANK", True, "OPTIM.MAX_EPOCH", 1)
    trainer = build_trainer(config(tmp_path, "CLIPLoRA", weights / "rn.pt", 64, *opts))
    trainer.train()
    assert trainer.frozen and all(up.any() for _, _, up in trainer.model.factors())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("PARAMS", ()), r"PARAMS \(\): nothing would be learned"),
        (("PARAMS", ("q", "w")), "CLIPLORA.PARAMS.*a list of q, k, v, out, fc, proj"),
        (("TSC", True, "SHARING", "soft"), "TSC True and TRAINER.CLIPLORA.SHARING soft exclude each other"),
        (("ENCODER", "vision", "LAYERS_TEXT", (1,)), "LAYERS_TEXT is not read with TRAINER.CLIPLORA.ENCODER vision"),
        (("LAYERS_TEXT", (1,), "LAYERS_VISION", (1,), "POSITION", "up"), "POSITION up is not read if layers are given"),
        (("LAYERS_VISION", (0, -1)), "CLIPLORA.LAYERS_VISION.*a list of layers, counted from 0"),
        (("TEMPLATES", "no file.yaml"), "TRAINER.CLIPLORA.TEMPLATES: the file no file.yaml does not exist"),
        (("ALPHA", 0.0), "CLIPLORA.ALPHA"),
    ],
)
def test_wrong_settings(settings, message, weights, tmp_path):
    opts = [f"TRAINER.CLIPLORA.{word}" if i % 2 == 0 else word for i, word in enumerate(settings)]
    with pytest.raises(UserError, match=message):
        build_trainer(config(tmp_path, "CLIPLoRA", weights / "vit.pt", 32, *opts))


def test_the_feature_bank_needs_frozen_layers_before_the_changes(weights, tmp_path):
    bank = ("DATALOADER.FEATURE_BANK", True)
    with pytest.raises(ConfigError, match="DATALOADER.FEATURE_BANK True: CLIP-LoRA needs the images themselves"):
        build_trainer(config(tmp_path, "CLIPLoRA", weights / "vit.pt", 32, *bank))
    found = []
    for on in (True, False):
        opts = ("DATALOADER.FEATURE_BANK", on, "TRAINER.CLIPLORA.POSITION", "up", "OPTIM.MAX_EPOCH", 1)
        trainer = build_trainer(config(tmp_path / str(on), "CLIPLoRA", weights / "vit.pt", 32, *opts))
        trainer.train()
        assert trainer.start == (2 if on else 0)
        found.append(torch.cat([p.flatten() for p in trainer.model.parameters()]))
    assert relative(*found) < 1e-4
