"""Compare UPT and its ablations with the paper's equations; test attention between tokens, and gradients."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clip.image_tower import ImageTower
from clip.text_tower import TextTower
from dassl.config import ConfigError
from dassl.data.tasks import TaskSpace
from dassl.engine import build_trainer
from tests.models import relative, state_dict, tiny_vit, uneven_vit
from tests.plain import image_features, text_features
from tests.suite import TASKS, config
from trainers.deep import DeepLearner
from trainers.prompt_sets import LearnedPrompts
from trainers.prompts import named_contexts
from trainers.unified import MODES, UnifiedTransformer, Unify

REPO = Path(__file__).resolve().parents[2]
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
TASK, LABEL = torch.tensor([2, 0, 1, 2]), torch.tensor([3, 4, 0, 1])
BATCH = {"img": IMAGES, "label": LABEL, "task": TASK}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, model in (("tiny", tiny_vit()), ("uneven", uneven_vit())):
        torch.save(state_dict(model), folder / f"{name}.pt")
    return folder


@pytest.fixture
def build(tmp_path, weights):
    def made(folder, *settings, on="uneven"):
        pairs = [f"TRAINER.UPT.{part}" if i % 2 == 0 else part for i, part in enumerate(settings)]
        return build_trainer(config(tmp_path / folder, "UPT", weights / f"{on}.pt", 32, *pairs))

    return made


def prompts_of(model, **settings):
    torch.manual_seed(0)
    return LearnedPrompts(Unify(TextTower(model), **settings))


# ---- the network


def test_the_transformer_is_the_papers():
    """U' = SA(U) + LN(U), U^ = FFN(LN(U')) + LN(U'), separately for each layer."""
    torch.manual_seed(0)
    network, u = UnifiedTransformer(32, heads=4, hidden=64), torch.randn(3, 6, 32)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    attention = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    attention.in_proj_weight.data, attention.in_proj_bias.data = network.qkv.weight.data, network.qkv.bias.data
    attention.out_proj.load_state_dict(network.merge.state_dict())
    for tokens, found in zip(u, network(u), strict=True):
        first = attention(tokens[None], tokens[None], tokens[None])[0][0] + F.layer_norm(
            tokens, (32,), network.norm_1.weight, network.norm_1.bias
        )
        second = F.layer_norm(first, (32,), network.norm_2.weight, network.norm_2.bias)
        up, down = network.ffn[0], network.ffn[2]
        expected = F.gelu(second @ up.weight.T + up.bias) @ down.weight.T + down.bias + second
        assert relative(found, expected) < 1e-5


@pytest.mark.parametrize(("mode", "others"), [("upt", True), ("mlp", False)])
def test_attention_mixes_the_tokens_of_a_layer(mode, others):
    """A change of one token moves all tokens of its layer with the transformer, but only itself with the MLP."""
    prompts = prompts_of(uneven_vit(), mode=mode)
    before = torch.cat([half[:2] for half in prompts.unify.network(prompts.prompts[0]).split(4, 1)], 1)
    with torch.no_grad():
        prompts.prompts[0][1, 5] += 0.1 * torch.randn(64)  # second layer, one of the image tower's tokens
    after = torch.cat([half[:2] for half in prompts.unify.network(prompts.prompts[0]).split(4, 1)], 1)
    moved = (after - before).norm(dim=-1) / before.norm(dim=-1)  # (2, n)
    assert (moved[0] == 0).all() and moved[1, 5] > 0.1
    rest = torch.cat([moved[1, :5], moved[1, 6:]])
    assert (rest > 1e-5).all() if others else (rest == 0).all()


def test_with_upt_the_text_prompts_depend_on_the_image_towers_tokens():
    prompts = prompts_of(uneven_vit())
    text, visual = prompts()
    # one number of each: the sum of a whole token is constant, its last step is a residual LayerNorm
    for half, tokens in ((text, slice(4, 8)), (visual, slice(0, 4))):
        (gradient,) = torch.autograd.grad(half[0, 0, 0], prompts.prompts[0], retain_graph=True)
        assert gradient[0, tokens].norm() > 0 and (gradient[1:] == 0).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("half", ["text", "visual"])
def test_who_follows_a_token_of_the_other_half(build, mode, half):
    """Only the transformer lets a token of one half affect the other tower; `shared` has no halves."""
    trainer = build("a", "MODE", mode)
    before = trainer.text_features().clone(), trainer.encode_images(IMAGES)
    own = trainer.model.sets[0].prompts
    tokens = own[1 if half == "visual" and mode == "joint" else 0]  # (I, n or m, width)
    with torch.no_grad():
        tokens[0, -1 if half == "visual" else 0] += 0.1 * torch.randn(tokens.shape[-1])
    trainer._prepared = None  # as a step does
    moved = [
        relative(found, old)
        for found, old in zip((trainer.text_features(), trainer.encode_images(IMAGES)), before, strict=True)
    ]
    mine, others = moved if half == "text" else moved[::-1]
    assert mine > 1e-4
    assert others > 1e-4 if mode in ("upt", "shared") else others == 0


def test_joint_prompts_are_independent():
    prompts = prompts_of(uneven_vit(), mode="joint")
    (text, visual), (own_text, own_visual) = prompts(), prompts.prompts
    assert text.shape == (2, 4, 64) and visual.shape == (4, 4, 128)
    for half, other in ((text, own_visual), (visual, own_text)):
        assert torch.autograd.grad(half.sum(), other, allow_unused=True, retain_graph=True) == (None,)
    before = text.clone()
    with torch.no_grad():
        own_visual += 1
    assert torch.equal(prompts()[0], before)
    bound = (6 / (3 * 64 + 128)) ** 0.5
    assert (own_visual - 1).abs().max() <= bound and own_text.std().item() == pytest.approx(0.02, rel=0.15)


def test_shared_prompts_are_one_tensor_for_both_towers():
    text, visual = prompts_of(tiny_vit(), mode="shared")()
    assert text.data_ptr() == visual.data_ptr() and text.shape == visual.shape == (3, 4, 64)
    prompts = prompts_of(uneven_vit(), mode="shared")  # of other widths: the same through a linear map
    text, visual = prompts()
    assert text.data_ptr() == prompts.prompts[0].data_ptr() and text.shape == (2, 4, 64)
    assert torch.allclose(visual, prompts.unify.visual_map(prompts.prompts[0])) and visual.shape == (4, 4, 128)


@pytest.mark.parametrize("mode", MODES)
def test_depth_and_widths(mode):
    tower = TextTower(uneven_vit())
    for depth, layers in ((0, (2, 4)), (1, (1, 1)), (3, (2, 3))):
        width = {} if mode == "joint" else {"width": 96}
        unify = Unify(tower, mode=mode, n_ctx=6, depth=depth, **width)
        text, visual = unify(*unify.initial())
        assert text.shape == (layers[0], 3, 64) and visual.shape == (layers[1], 3, 128)
    assert {"upt": 1, "joint": 2, "shared": 1, "mlp": 1}[mode] == len(unify.shapes)


def test_defaults():
    network = Unify(TextTower(uneven_vit())).network
    assert network.heads == 1 and network.ffn[0].out_features == 4 * 64  # one head for each 64 numbers
    for width, heads in ((192, 3), (200, 2), (131, 1), (40, 1)):  # as many as divide the width
        assert Unify(TextTower(uneven_vit()), width=width).network.heads == heads


# ---- the method


def features(trainer, task):
    """Image features (B, d) and text features (N, d) by plain loops over both towers."""
    text, visual = trainer.model.prompts()
    group = task if len(visual) > 1 else torch.zeros_like(task)
    words = [
        text_features(trainer.clip, text[t if len(text) > 1 else 0], own.classnames)
        for t, own in enumerate(trainer.space.tasks)
    ]
    return image_features(trainer.clip, IMAGES, visual[group]), torch.cat(words)


@pytest.mark.parametrize(
    "settings",
    [(), ("TSC", True), ("MODE", "joint"), ("MODE", "shared", "DEPTH", 1), ("MODE", "mlp", "DEPTH", 2, "TSC", True)],
    ids=["upt", "TSC", "joint", "shared-input", "mlp-TSC"],
)
def test_loss_and_gradients_equal_plain_towers(build, settings):
    trainer = build("a", *settings)
    image, text = (F.normalize(x, dim=-1) for x in features(trainer, TASK))
    logits = (trainer.scale * image @ text.t()).masked_fill(~trainer.space.mask(TASK), float("-inf"))
    expected = F.cross_entropy(logits, trainer.space.column(TASK, LABEL))
    named = dict(trainer.model.named_parameters())
    gradients = torch.autograd.grad(expected, list(named.values()))
    assert trainer.forward_backward(BATCH)["loss"] == pytest.approx(expected.item(), rel=1e-5)
    largest = max(gradient.norm() for gradient in gradients)
    for (name, parameter), gradient in zip(named.items(), gradients, strict=True):
        assert (parameter.grad - gradient).norm() < 1e-4 * (gradient.norm() + 0.01 * largest), name


@pytest.mark.parametrize("mode", MODES)
def test_gradients_agree_with_finite_differences(mode):
    """Check gradients through both towers in fp64, along a random direction of every parameter."""
    model = copy.deepcopy(uneven_vit()).double()
    tower, images, draw = TextTower(model), IMAGES.double(), torch.Generator().manual_seed(5)
    prompts = prompts_of(model, mode=mode, n_ctx=4).double()
    sets = torch.nn.Module()
    sets.forward = lambda: tuple(half[None] for half in prompts())
    learner = DeepLearner(tower, TaskSpace(TASKS), sets, 2)
    weight = torch.randn(4, 10, generator=draw).double()

    def loss():
        added = learner.additions()
        image = ImageTower(model)(images, added.image)
        words = learner.text(torch.arange(10), added.text)
        return (F.normalize(image, dim=-1) @ F.normalize(words, dim=-1).t() * weight).sum()

    named = dict(prompts.named_parameters())
    for (name, parameter), gradient in zip(
        named.items(), torch.autograd.grad(loss(), list(named.values())), strict=True
    ):
        direction = torch.randn(parameter.shape, generator=draw).double()
        step = 1e-5 * direction / direction.norm()
        with torch.no_grad():
            parameter += step
            high = loss()
            parameter -= 2 * step
            low = loss()
            parameter += step
        found, expected = (gradient * step).sum() * 2, high - low
        assert abs(found - expected) < 1e-5 * abs(expected) + 1e-13, name


def test_prompts_are_made_in_full_precision_whatever_the_towers_have(build):
    model = build("a", "TSC", True).model
    expected = model.prompts()
    with torch.autocast("cpu", torch.bfloat16):
        found, words = model.prompts(), model(torch.arange(10))
        assert torch.equal(words, model.text(torch.arange(10), model.additions().text))
        assert words.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_task_of_its_own_is_untouched_by_the_others(build):
    trainer = build("a", "TSC", True)
    before = copy.deepcopy(trainer.model.sets)
    trainer.optim.param_groups[0]["weight_decay"] = 0.0
    trainer.forward_backward({"img": IMAGES, "label": torch.tensor([0, 1, 2, 3]), "task": torch.zeros(4).long()})
    same = [
        all(torch.equal(a, b) for a, b in zip(own.parameters(), old.parameters(), strict=True))
        for own, old in zip(trainer.model.sets, before, strict=True)
    ]
    assert same == [False, True, True]


def test_contexts_are_named_after_their_tasks(build):
    trainer = build("a", "TSC", True)
    found = dict(named_contexts(trainer.model))
    assert list(found) == ["context of shades", "context of one", "context of marks"]
    assert torch.equal(found["context of one"], trainer.model.prompts()[0][1, 0])
    assert [name for name, _ in named_contexts(build("b").model)] == ["context"]


def test_settings_that_contradict_each_other(build):
    for settings, message in (
        (("N_CTX", 7), "N_CTX 7: each tower gets half of the prompts, expected an even number"),
        (("MODE", "joint", "HEADS", 2), "HEADS 2 needs TRAINER.UPT.MODE upt, found joint"),
        (("MODE", "shared", "HIDDEN", 9), "HIDDEN 9 needs TRAINER.UPT.MODE upt or mlp, found shared"),
        (("WIDTH", 64, "HEADS", 3), "HEADS 3 does not divide TRAINER.UPT.WIDTH 64"),
        (("HEADS", 3), "width 64 cannot have 3 heads"),
        (("DEPTH", 5), "DEPTH 5: the text tower has 2 layers and the image tower 4; 0 stands for all"),
    ):
        with pytest.raises((ConfigError, ValueError), match=message):
            build("a", *settings)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_learnable_parameters_are_those_of_the_page():
    """Formulas for the number of parameters hold on a small model and with the sizes of ViT-B/16."""

    def expected(D, W, text, image, n=8):  # widths and layers of the towers
        u, to_image = max(text, image) * n * D, (D + 1) * W if D != W else 0
        transformer, mlp = 12 * D * D + 13 * D, 8 * D * D + 5 * D
        return {
            "upt": u + transformer + to_image,
            "mlp": u + mlp + to_image,
            "shared": u // 2 + to_image,
            "joint": n // 2 * (text * D + image * W),
            "U": u,
            "transformer": transformer,
            "map": to_image,
        }

    model = uneven_vit()
    for mode in MODES:
        assert count(prompts_of(model, mode=mode)) == expected(64, 128, 2, 4)[mode]
    big, page = expected(512, 768, 12, 12), (REPO / "docs/methods.md").read_text(encoding="utf-8")
    told = page.split("Learnable parameters on ViT-B/16")[1].split("\n\n")[0]
    deep = 12 * 4 * 768
    soft = 512 * big["U"] + big["transformer"] + big["map"]
    assert all(f"{number:,}" in told for number in (*big.values(), deep, deep // 12, soft))
