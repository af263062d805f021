"""Compare additions to both towers with a plain loop over single sequences, with gradients, for all groupings."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F

from clip.additions import PROJECTIONS, Additions, LowRank, Tokens, low_rank_shapes
from clip.image_tower import ImageTower
from clip.model import project
from clip.text_tower import TextTower
from dassl.utils import UserError
from tests.models import relative, tiny_vit, uneven_vit
from trainers.prompts import NameTokens

WORDS = ["cat", "great pyrenees dog", "a", "hard-leaved pocket orchid"]
K, R = 2, 3


def draw(*shape, seed=0, scale=1.0):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).requires_grad_()


def factors(blocks, width, sets, layers, names=PROJECTIONS, scale=0.5):
    """Make {(layer, projection): LowRank} with random factors in `sets` sets (0: no dimension for sets)."""
    found, lead = {}, (sets,) if sets else ()
    for seed, (layer, name) in enumerate(itertools.product(layers, names)):
        inputs, outputs = low_rank_shapes(width, 4 * width)[name]
        down, up = draw(*lead, R, inputs, seed=seed, scale=0.1), draw(*lead, outputs, R, seed=seed + 99, scale=0.1)
        found[layer, name] = LowRank(down, up, scale)
    return found


def plain_layer(block, x, changes, layer, own, mask=None):
    """Apply one layer to one sequence x (S, W) with merged weights and PyTorch's functions."""

    def weight(name, frozen):
        change = changes.get((layer, name))
        if change is None:
            return frozen
        g = slice(None) if change.down.ndim == 2 else own if len(change.down) > 1 else 0
        return frozen + change.scale * change.up[g] @ change.down[g]

    attn, W = block.attn, x.shape[-1]
    normed = block.ln_1(x)
    q, k, v = (
        F.linear(normed, weight(name, attn.in_proj_weight[i * W : (i + 1) * W]), attn.in_proj_bias[i * W : (i + 1) * W])
        .unflatten(-1, (attn.num_heads, -1))
        .transpose(0, 1)
        for i, name in enumerate("qkv")
    )
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    seen = ((scores if mask is None else scores + mask).softmax(-1) @ v).transpose(0, 1).flatten(1)
    x = x + F.linear(seen, weight("out", attn.out_proj.weight), attn.out_proj.bias)
    hidden = block.mlp.gelu(F.linear(block.ln_2(x), weight("fc", block.mlp.c_fc.weight), block.mlp.c_fc.bias))
    return x + F.linear(hidden, weight("proj", block.mlp.c_proj.weight), block.mlp.c_proj.bias)


def plain_text(model, names, contexts, group, added):
    """Compute features (N, d) and outputs (N, K, D) of the K tokens after [SOS], prompt by prompt."""
    found, tokens = [], added.tokens
    for n, g in enumerate(group.tolist()):
        own = 0 if added.group is None else int(added.group[n])
        x = torch.cat([names.start, contexts[g], names.tokens[n, : names.length[n]]])
        x = x + model.positional_embedding[: len(x)]
        for i, block in enumerate(model.transformer.resblocks):
            if tokens is not None and i in tokens.layers:
                new = tokens.at(i)[own if len(tokens.values) > 1 else 0]
                if tokens.insert and i == tokens.layers[0]:
                    x = torch.cat([x[:1], new, x[1:]])
                else:
                    x = torch.cat([x[:1], tokens.share * new + (1 - tokens.share) * x[1 : 1 + K], x[1 + K :]])
            mask = torch.full((len(x), len(x)), float("-inf")).triu(1)
            x = plain_layer(block, x, added.changes, i, own, mask)
        x = model.ln_final(x)
        found.append((project(x[-1], model.text_projection), x[1 : 1 + K]))
    return tuple(torch.stack(part) for part in zip(*found, strict=True))


def plain_image(model, images, added):
    """Compute features (B, d) and outputs (B, K, W) of the tokens, image by image."""
    found, tokens, v = [], added.tokens, model.visual
    for b, image in enumerate(images):
        own = b if added.group is None else int(added.group[b])
        x = v._embeds(image[None])[0]
        count = len(x)
        for i, block in enumerate(v.transformer.resblocks):
            if tokens is not None and i in tokens.layers:
                new = tokens.at(i)[own if len(tokens.values) > 1 else 0]
                if i == 0 and tokens.normed:
                    new = v.ln_pre(new)
                if len(x) > count:
                    new = tokens.share * new + (1 - tokens.share) * x[count:]
                x = torch.cat([x[:count], new])
            x = plain_layer(block, x, added.changes, i, own)
        x = v.ln_post(x)
        found.append((x[0] @ v.proj, x[count:]))
    return tuple(torch.stack(part) for part in zip(*found, strict=True))


def learned(added, *more):
    tensors = [] if added.tokens is None else [added.tokens.values]
    return [*tensors, *(part for change in added.changes.values() for part in (change.down, change.up)), *more]


def same(found, expected, tensors, tolerance=2e-5):
    """Check that values are equal, and gradients of a random function of the values."""
    weights = [torch.randn(x.shape, generator=torch.Generator().manual_seed(7)) for x in expected]
    for a, b in zip(found, expected, strict=True):
        assert relative(a, b) < tolerance
    grads = [
        torch.autograd.grad(
            sum((x * w).sum() for x, w in zip(values, weights, strict=True)), tensors, retain_graph=True
        )
        for values in (found, expected)
    ]
    for a, b in zip(*grads, strict=True):
        assert a.norm() > 0 and relative(a, b) < 2e-4


CLASSES = torch.arange(4)
PAIRS = torch.tensor([2, 0, 2, 1])  # the set of each word, different from its context
TEXT = {
    "class tokens in front of a late layer": (lambda D: Tokens(draw(4, 1, K, D), [2]), 0, CLASSES),
    "tokens of tasks that differ from the contexts": (lambda D: Tokens(draw(3, 2, K, D), [1, 2]), 0, PAIRS),
    "inserted late and replaced": (lambda D: Tokens(draw(1, 2, K, D), [1, 2], insert=True), 0, None),
    "inserted for each class": (lambda D: Tokens(draw(4, 2, K, D), [0, 2], insert=True), 0, CLASSES),
    "a share of the new ones": (lambda D: Tokens(draw(4, 2, K, D), [1, 2], share=0.3), 0, CLASSES),
    "low-rank changes": (lambda D: None, 1, None),
    "low-rank changes of every word": (lambda D: None, 4, CLASSES),
    "low-rank changes and tokens in the same sets": (lambda D: Tokens(draw(3, 1, K, D), [2]), 3, PAIRS),
}


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize("shared", [True, False], ids=["one context", "contexts of each word"])
@pytest.mark.parametrize("case", TEXT)
def test_text_tower(case, shared, chunk):
    model = tiny_vit()
    make, sets, own = TEXT[case]
    tower = TextTower(model, chunk)
    tokens = make(tower.width)
    changes = factors(tower.blocks, tower.width, sets, [0, 2]) if sets else {}
    contexts, group = draw(1 if shared else 4, 3, tower.width, seed=5), torch.zeros(4).long() if shared else CLASSES
    names = NameTokens(tower, WORDS)
    prompts = names.fill(contexts, group)
    added = Additions(tokens, changes, own)
    features, outputs = plain_text(model, names, contexts, group, added)
    same([tower(prompts, added)], [features], learned(added, contexts))
    if tokens is not None:
        added.tokens.keep = True
        same(tower(prompts, added), [features, outputs], learned(added, contexts))


GROUP = torch.tensor([1, 0, 1, 2, 0])
IMAGES = {
    "entering first, normed": (lambda W: Tokens(draw(3, 2, K, W), [0, 1], normed=True), 0, GROUP),
    "late, kept to the end": (lambda W: Tokens(draw(1, 2, K, W), [2, 3]), 0, None),
    "apart": (lambda W: Tokens(draw(5, 2, K, W), [0, 2]), 0, None),
    "a share of the new ones": (lambda W: Tokens(draw(3, 3, K, W), [1, 2, 3], share=0.4), 0, GROUP),
    "low-rank changes": (lambda W: None, 1, None),
    "low-rank changes without a dimension of sets": (lambda W: None, 0, None),
    "low-rank changes of groups, with tokens": (lambda W: Tokens(draw(3, 1, K, W), [1]), 3, GROUP),
    "low-rank changes of groups, with the same tokens": (lambda W: Tokens(draw(1, 1, K, W), [0]), 3, GROUP),
}


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("case", IMAGES)
def test_image_tower(case, checkpoint):
    model = uneven_vit()
    make, sets, own = IMAGES[case]
    tower = ImageTower(model, checkpoint)
    layers, W, _ = tower.require_prompts()
    tokens = make(W)
    plain = "without a dimension" in case
    changes = factors(model.visual.transformer.resblocks, W, sets, [1, 3]) if sets or plain else {}
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    added = Additions(tokens, changes, own)
    features, outputs = plain_image(model, images, added)
    same([tower(images, added)], [features], learned(added))
    if tokens is not None:
        added.tokens.keep = True
        same(tower(images, added), [features, outputs], learned(added))
        added.local = True
        found = tower(images, added)
        assert len(found) == 3 and relative(found[0], features) < 2e-5 and relative(found[2], outputs) < 2e-5
        assert found[1].shape == (5, 16, 48)


def test_dropout_of_a_low_rank_change_is_the_same_when_a_layer_is_computed_again():
    model = uneven_vit()
    images, found = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)), []
    for checkpoint in (False, True):
        changes = factors(model.visual.transformer.resblocks, 128, 1, [1])
        for change in changes.values():
            change.dropout = 0.5
        torch.manual_seed(3)
        ImageTower(model, checkpoint)(images, Additions(changes=changes)).sum().backward()
        found.append([change.down.grad for change in changes.values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_towers_are_not_touched():
    model = copy.deepcopy(uneven_vit())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    text = TextTower(model)
    prompts = NameTokens(text, WORDS).fill(draw(1, 2, text.width), torch.zeros(4).long())
    changes = factors(text.blocks, text.width, 1, [0, 1])
    text(prompts, Additions(changes=changes)).sum().backward()
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(value, before[name]) for name, value in after.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_that_learn_get_their_gradient():
    """A part of a tower may be trained by other means; the MLP's special backward pass is for frozen weights only."""
    model = copy.deepcopy(uneven_vit())
    weight = model.visual.transformer.resblocks[2].mlp.c_fc.weight.requires_grad_()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ImageTower(model)(images).sum().backward()
    found = weight.grad.clone()
    weight.grad = None
    model.encode_image(images).sum().backward()
    assert found.norm() > 0 and relative(found, weight.grad) < 1e-4


def test_mistakes():
    tower, visual = TextTower(tiny_vit()), ImageTower(uneven_vit())
    prompts, images = tower.texts(WORDS), torch.zeros(2, 3, 32, 32)
    low, two = (LowRank(torch.zeros(*lead, 1, 64), torch.zeros(*lead, 64, 1)) for lead in ((), (2,)))
    three, pair = Tokens(torch.zeros(3, 1, K, 64)), torch.tensor([0, 1])
    for added, message in (
        (Additions(Tokens(torch.zeros(1, 1, K, 7))), "width 7: the text tower has width 64"),
        (Additions(Tokens(torch.zeros(1, 1, K, 64), [3])), "layers 3 to 3: the text tower has layers 0 to 2"),
        (Additions(Tokens(torch.zeros(3, 1, K, 64))), "3 sets of additions for 4 prompts"),
        (Additions(Tokens(torch.zeros(1, 1, 9, 64))), "9 tokens cannot replace"),
        (Additions(Tokens(torch.zeros(1, 1, 70, 64), insert=True)), "does not fit the context of 77"),
        (Additions(three, {(0, "q"): two}, torch.tensor([0, 1, 2, 0])), "in one set or in 3 sets"),
        (Additions(changes={(0, "fc"): low}), r"expected \(\[G,\] r, 64\) and \(\[G,\] 256, r\)"),
        (Additions(changes={(0, "v"): two}, group=pair), "2 sets of additions for 4 prompts, and a group of 2"),
        (Additions(changes={(3, "q"): low}), "projection 'q' in layer 3"),
        (Additions(changes={(0, "query"): low}), "projection 'query' in layer 0: expected one of q, k, v, out"),
        (Additions(Tokens(torch.zeros(1, 1, K, 64), normed=True)), "text tower with normed: only the image tower"),
        (Additions(Tokens(torch.zeros(1, 1, K, 64), dropout=0.1)), "text tower with dropout: only the image tower"),
        (Additions(Tokens(torch.zeros(1, 1, 0, 64), keep=True)), "expected K > 0 tokens"),
        (Additions(local=True), "only the image tower has local tokens"),
    ):
        with pytest.raises(UserError, match=message):
            tower(prompts, added)
    with pytest.raises(UserError, match="in layers 0 to 3 of the image tower"):
        visual(images, Additions(changes={(4, "fc"): low}))
    width = visual.visual.conv1.weight.shape[0]
    for options, message in (
        ({"insert": True}, "image tower with insert: only the text"),
        ({"keep": True}, "expected K > 0 tokens"),
    ):
        with pytest.raises(UserError, match=message):
            visual(images, Additions(Tokens(torch.zeros(1, 1, K if "insert" in options else 0, width), **options)))
    with pytest.raises(UserError, match="shape .2, 64.: expected .G, I, K, W."):
        Tokens(torch.zeros(2, 64))
    with pytest.raises(UserError, match="expected one layer in rising order for each of the 2 sets"):
        Tokens(torch.zeros(1, 2, K, 64), [2])
