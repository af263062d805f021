"""Compare deep prompts of both towers with a plain loop over open_clip's blocks."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CustomTextCLIP, convert_weights_to_lp

from clip import image_tower
from clip import layers as parts
from clip.additions import Additions, Tokens
from clip.building import finish
from clip.image_tower import ImageTower
from clip.names import image_tower_kind
from clip.text_tower import TextTower
from dassl.utils import UserError
from tests.models import embedded, relative, state_dict, tiny_rn, tiny_vit, uneven_vit
from tests.plain import image_features, text_features
from trainers.prompts import NameTokens

MODELS = pytest.mark.parametrize("model", [tiny_vit, uneven_vit], ids=["tiny", "uneven"])
B, K = 5, 3
GROUP = torch.tensor([1, 0, 1, 1, 0])


def pictures(model, count=B):
    size = model.visual.input_resolution
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def drawn(model, layers, groups=2, seed=2):
    width = model.visual.conv1.weight.shape[0]
    return torch.randn(groups, layers, K, width, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def added(tokens, group=None, first=0, local=False, **options):
    """Random tokens (G, I, K, W) for the layers from `first` on."""
    return Additions(Tokens(tokens, range(first, first + tokens.shape[1]), **options), group=group, local=local)


@pytest.mark.parametrize(("layers", "first"), [(1, 0), (3, 0), (1, 2), (2, 1), (1, 1), (2, 0)])
@MODELS
def test_features_and_gradients_equal_a_plain_loop(model, layers, first):
    model = model()
    images, tokens = pictures(model), drawn(model, layers)
    expected = image_features(model, images, tokens[GROUP], first)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), tokens)
    for checkpoint in (False, True):
        tower = ImageTower(model, checkpoint)
        found = tower(images, added(tokens, GROUP, first))
        (grad,) = torch.autograd.grad((found * weight).sum(), tokens)
        assert relative(found, expected) < 1e-5 and relative(grad, expected_grad) < 1e-4
    feature, local = tower(images, added(tokens, GROUP, first, local=True))
    every = image_features(model, images, tokens[GROUP], first, local=True)
    assert relative(feature, every[:, 0]) < 1e-5 and relative(local, every[:, 1:]) < 1e-5


@MODELS
def test_images_of_several_groups_go_through_in_one_pass(model):
    model = model()
    tower, images, tokens = ImageTower(model), pictures(model), drawn(model, 3).detach()
    mixed = tower(images, added(tokens, GROUP))
    for g in range(2):
        mine = g == GROUP
        alone = tower(images[mine], added(tokens[g : g + 1]))  # all images with the same tokens
        assert relative(mixed[mine], alone) < 1e-5
    each = tower(images, added(tokens[GROUP]))  # each image with its own tokens
    assert relative(mixed, each) < 1e-5


@pytest.mark.parametrize("model", [tiny_vit, uneven_vit, embedded], ids=["tiny", "uneven", "embedded"])
def test_no_prompts_change_no_bit(model):
    model = model()
    tower, images = ImageTower(model), pictures(model)
    width, plain_feature = model.visual.conv1.weight.shape[0], tower(images)
    for layers, count in ((1, 0), (3, 0), (0, 4)):
        nothing = added(torch.zeros(2, layers, count, width), GROUP)
        assert torch.equal(tower(images, nothing), plain_feature)
        local = Additions(local=True)
        for a, b in zip(tower(images, replace(nothing, local=True)), tower(images, local), strict=True):
            assert torch.equal(a, b)
    text = TextTower(model)
    names, group = NameTokens(text, ["cat", "great pyrenees", "x1"]), torch.tensor([0, 1, 0])
    empty, deep = torch.zeros(2, 0, text.width), Tokens(torch.zeros(2, 1, 0, text.width), [1])
    prompts = names.fill(empty, group)
    assert torch.equal(text(prompts, Additions(deep, group=group)), text(prompts))


@pytest.mark.parametrize("group", [[0, 1, 1, 0], [2, 0, 3, 1]], ids=["shared", "one a name"])
@MODELS
def test_deep_text_prompts_equal_a_plain_loop(model, group):
    model = model()
    tower, draw = TextTower(model), torch.Generator().manual_seed(4)
    layers, group, L = len(tower.blocks), torch.tensor(group), 3
    context = torch.randn(4, layers, L, tower.width, generator=draw).requires_grad_()  # contexts of all layers
    words = ["cat", "great pyrenees dog", "a", "hard-leaved pocket orchid"]
    prompts = NameTokens(tower, words).fill(context[:, 0], group)
    deep = added(context[:, 1:], group, first=1)
    expected = [text_features(model, context[g], [name])[0] for name, g in zip(words, group.tolist(), strict=True)]
    found, expected = tower(prompts, deep), torch.stack(expected)
    assert relative(found, expected) < 1e-5 and relative(TextTower(model, chunk=2)(prompts, deep), expected) < 1e-5
    weight = torch.randn(found.shape, generator=draw)
    grads = [torch.autograd.grad((features * weight).sum(), context)[0] for features in (found, expected)]
    assert relative(*grads) < 1e-4


def test_what_comes_before_the_first_prompt_has_no_graph(monkeypatch):
    model, outputs = uneven_vit(), []
    block = image_tower._block
    monkeypatch.setattr(image_tower, "_block", lambda *args: outputs.append(block(*args)) or outputs[-1])
    tower, images = ImageTower(model), pictures(model)
    tower(images, added(drawn(model, 1), GROUP, first=2))
    assert [x.requires_grad for x in outputs] == [False, False, True, True]
    outputs.clear()
    tower(images, added(drawn(model, 1), GROUP))
    assert all(x.requires_grad for x in outputs)
    outputs.clear()
    tower(images)
    assert not any(x.requires_grad for x in outputs)


def kept_bytes(model, tower, prompts):
    """Bytes that a forward pass keeps for the backward pass, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(x):
        if x.untyped_storage().data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        alive = tower(pictures(model), prompts)
    assert alive.requires_grad
    return sum(kept.values())


def test_only_activations_that_gradients_need_are_kept():
    model = uneven_vit()
    tower = ImageTower(model)
    token = B * 17 * model.visual.conv1.weight.shape[0] * 4  # bytes of one activation for all tokens
    late, deep = added(drawn(model, 1), GROUP, first=3), added(drawn(model, 4), GROUP)
    assert kept_bytes(model, tower, late) < 4 * token  # keys, values and the class tokens of one layer
    kept = kept_bytes(model, tower, deep)
    # per layer: two inputs of norms, q, k and v, the output of attention, and the hidden layer of four times the width
    assert kept < (3 * 10.5 + 4) * token
    assert kept_bytes(model, ImageTower(model, checkpoint=True), deep) < 5 * token


def test_of_the_last_layer_and_of_replaced_prompts_nothing_is_computed(monkeypatch):
    model, rows = uneven_vit(), []
    mlp = parts.mlp
    monkeypatch.setattr(parts, "mlp", lambda block, x, *rest: rows.append(x.shape[1]) or mlp(block, x, *rest))
    tower, images = ImageTower(model), pictures(model)
    tower(images, added(drawn(model, 4), GROUP))
    assert rows == [17, 17, 17, 1]
    rows.clear()
    tower(images, added(drawn(model, 2), GROUP))  # the tokens of the second layer pass on
    assert rows == [17, 17 + K, 17 + K, 1]


@pytest.mark.parametrize("layers", [1, 4])
def test_attention_of_every_layer(layers):
    model = uneven_vit()
    tower, images, tokens = ImageTower(model), pictures(model), drawn(model, layers)
    prompts = added(tokens, GROUP)
    feature, seen = tower(images, prompts, attention=range(4))
    assert relative(feature, tower(images, prompts)) < 1e-6
    for layer in range(4):
        expected = image_features(model, images, tokens[GROUP], weights_of=layer)
        assert seen[layer].shape == expected.shape == (B, 2, 1 + K + 16, 1 + K + 16)
        assert relative(seen[layer], expected) < 1e-5 and not seen[layer].requires_grad
    _, _, seen = tower(images, Additions(local=True), attention=[0])
    assert relative(seen[0], image_features(model, images, tokens[:, :0][GROUP], weights_of=0)) < 1e-5


def test_dropout_is_drawn_for_each_image():
    model = uneven_vit()
    tower, images, tokens = ImageTower(model), pictures(model), drawn(model, 4)
    torch.manual_seed(5)
    mask = F.dropout(torch.ones(B, *tokens.shape[1:]), 0.3)
    torch.manual_seed(5)
    found = tower(images, added(tokens, GROUP, dropout=0.3))
    assert 0.2 < (mask == 0).float().mean() < 0.4 and not torch.equal(mask[0], mask[2])
    assert relative(found, image_features(model, images, tokens[GROUP] * mask)) < 1e-5


def test_a_tower_is_not_touched():
    model = copy.deepcopy(uneven_vit())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tower = ImageTower(model, checkpoint=True)
    tower(pictures(model), added(drawn(model, 4), GROUP, dropout=0.1)).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_half_precision():
    model = uneven_vit()
    images, tokens = pictures(model), drawn(model, 4)
    prompts = added(tokens, GROUP)
    exact = ImageTower(model)(images, prompts)
    (exact_grad,) = torch.autograd.grad(exact.sum(), tokens)
    nothing = added(torch.zeros(2, 4, 0, 128), GROUP)
    for checkpoint in (False, True):
        tower = ImageTower(model, checkpoint)
        with torch.autocast("cpu", torch.bfloat16):
            found = tower(images, prompts)
            assert torch.equal(tower(images, nothing), tower(images))
        assert relative(found.float(), exact) < 0.05
        (grad,) = torch.autograd.grad(found.float().sum(), tokens)
        assert grad.dtype == torch.float32 and relative(grad, exact_grad) < 0.05
    half = copy.deepcopy(model)
    convert_weights_to_lp(half, torch.bfloat16)
    half.precision = "bf16"
    for checkpoint in (False, True):
        found = ImageTower(half, checkpoint)(images, prompts)
        assert torch.equal(ImageTower(half)(images, nothing), ImageTower(half)(images))
        assert found.dtype == torch.bfloat16 and relative(found.float(), exact) < 0.05
        (grad,) = torch.autograd.grad(found.float().sum(), tokens)
        assert grad.dtype == torch.float32 and torch.isfinite(grad).all()


def test_the_kind_of_a_tower_is_known_by_its_name(tmp_path):
    for name, kind in {
        "ViT-B/16": "ViT",
        "tiny": "ViT",
        "RN50x4": "a ResNet",
        "ViT-B-16:laion2b_s34b_b88k": "ViT",
        "RN50:yfcc15m": "a ResNet",
        "coca_ViT-B-32:laion2b_s13b_b90k": "a ViT with a pool",
        "ViT-B-16-SigLIP:webli": "vit_base_patch16_siglip_224",
    }.items():
        assert image_tower_kind(name) == kind
    for model, kind in ((tiny_vit(), "ViT"), (tiny_rn(), "a ResNet")):
        torch.save(state_dict(model), tmp_path / "weights.pt")
        assert image_tower_kind("ViT-B/16", str(tmp_path / "weights.pt")) == kind


def test_mistakes_are_named():
    model = uneven_vit()
    tower, images, tokens = ImageTower(model), pictures(model), drawn(model, 4)
    with pytest.raises(UserError, match="layers 1 to 4: the image tower has layers 0 to 3"):
        tower(images, added(tokens, GROUP, first=1))
    with pytest.raises(UserError, match="width 7: the image tower has width 128"):
        tower(images, added(tokens[..., :7], GROUP))
    with pytest.raises(UserError, match="2 sets of additions for 5 images"):
        tower(images, added(tokens))
    with pytest.raises(UserError, match="Attention of layer 4"):
        tower(images, attention=[4])
    resnet = ImageTower(tiny_rn())
    message = "need a ViT of open_clip, found ModifiedResNet; choose ViT-B/16"
    with pytest.raises(UserError, match=message) as error:
        resnet(torch.zeros(1, 3, resnet.size, resnet.size), added(tokens))
    assert "\n" not in str(error.value)


# ---- ViTs that do not read [CLS] ----

POOLED = {
    "average (CLIPA)": {"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True},
    "attention (CoCa)": {
        "attentional_pool": True,
        "attn_pooler_queries": 7,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    },
}


def pooled_vit(kind):
    vision = {"layers": 3, "width": 64, "patch_size": 8, "head_width": 32, "image_size": 32, **POOLED[kind]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = {"width": 64, "heads": 1, "layers": 1, "vocab_size": 49408}
        inner = CustomTextCLIP(48, vision, text)
        for parameter in inner.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    return finish(inner, "fp32"), inner


@pytest.mark.parametrize("kind", POOLED)
def test_prompts_in_a_vit_with_a_pool_equal_a_plain_loop(kind):
    model, inner = pooled_vit(kind)
    tower, v = ImageTower(model), model.visual
    images, tokens = pictures(model), torch.randn(2, 2, K, 64).requires_grad_()
    own = inner.visual(images)
    own = own[0] if isinstance(own, tuple) else own
    assert relative(tower(images), own) < 1e-6 and tower.output_dim == 48
    found = tower(images, added(tokens, GROUP, first=1))
    x = v._embeds(images)
    for i, block in enumerate(v.transformer.resblocks):
        if i:
            x = torch.cat([x[:, :17], tokens[GROUP, i - 1]], 1)
        x = block(x)
    expected = v._pool(x[:, :17])[0] @ v.proj
    assert relative(found, expected) < 1e-5
    weights = torch.randn(found.shape)
    grads = [torch.autograd.grad((f * weights).sum(), tokens, retain_graph=True)[0] for f in (found, expected)]
    assert relative(*grads) < 1e-4
    frozen = tower.before(images, 1)
    assert relative(tower(frozen, added(tokens, GROUP, first=1), start=1), expected) < 1e-5


@pytest.mark.parametrize("kind", POOLED)
def test_outputs_that_a_vit_with_a_pool_lacks(kind):
    model, _ = pooled_vit(kind)
    tower, images = ImageTower(model), pictures(model)
    for asked, what in (
        (Additions(local=True), "local tokens"),
        (Additions(Tokens(torch.zeros(1, 1, K, 64), keep=True)), "outputs of prompt tokens"),
        (Additions(unprojected=True), "features before a last projection"),
    ):
        with pytest.raises(
            UserError, match=f"gives no {what}, which this method needs; choose a ViT or ResNet of CLIP"
        ):
            tower(images, asked)


@pytest.mark.parametrize("kind", POOLED)
def test_a_vit_with_a_pool_in_bf16(kind):
    model, _ = pooled_vit(kind)
    images, tokens = pictures(model), torch.randn(1, 3, K, 64).requires_grad_()
    exact = ImageTower(model)(images, added(tokens)).detach()
    vision = {"layers": 3, "width": 64, "patch_size": 8, "head_width": 32, "image_size": 32, **POOLED[kind]}
    text = {"width": 64, "heads": 1, "layers": 1, "vocab_size": 49408}
    inner = CustomTextCLIP(48, vision, text, cast_dtype=torch.bfloat16)  # as open_clip builds it for this precision
    inner.load_state_dict(pooled_vit(kind)[1].state_dict())
    half = ImageTower(finish(inner, "bf16"))
    assert half(images).dtype == torch.bfloat16
    found = half(images, added(tokens))
    assert relative(found.float(), exact) < 0.05
    (grad,) = torch.autograd.grad(found.float().sum(), tokens)
    assert grad.isfinite().all() and grad.any()
