"""Compare the packed, prefix-sharing tower with a plain tower that computes all 77 positions of every prompt."""

import pytest
import torch

from clip import clip, text_tower
from clip.additions import Additions, Tokens
from clip.text_tower import Prompts, TextTower
from dassl.utils import UserError
from tests.models import embedded, relative, tiny_rn, tiny_vit
from trainers.prompts import POSITIONS, SHARING, NameTokens, PromptLearner

NAMES = ["cat", "great_pyrenees dog", "hard-leaved pocket orchid (wild)", "a", "cat", "king protea " * 10, "x1"]
TASKS = torch.tensor([0, 0, 1, 1, 1, 2, 2])


def plain_features(model, tower, name, context, position):
    """Encode one prompt token by token, padded with noise to 77 tokens; the feature (d,) at [EOS]."""
    bpe = clip.tokenizer()
    name = name.replace("_", " ")
    ids = bpe.encode(name + ".")
    at = len(bpe.encode(name))
    body = tower.embed(torch.tensor(ids))
    sos, eos = tower.embed(torch.tensor([49406])), tower.embed(torch.tensor([49407]))
    half = len(context) // 2
    pieces = {
        "end": [sos, context, body, eos],
        "front": [sos, body[:at], context, body[at:], eos],
        "middle": [sos, context[:half], body[:at], context[half:], body[at:], eos],
    }[position]
    x = torch.cat(pieces)
    last = len(x) - 1
    x = torch.cat([x, torch.randn(77 - len(x), x.shape[1])]) + model.positional_embedding
    x = model.transformer(x[:, None])[:, 0]  # (77, 1, D), OpenAI's convention
    return model.ln_final(x[last]) @ model.text_projection


def own_context(learner, index):
    if learner.sharing == "all":
        return learner.ctx
    return learner.ctx[index] if learner.sharing == "class" else learner.learners[TASKS[index]]["ctx"]


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("position", POSITIONS)
def test_features_and_gradients_equal_the_plain_tower(position, sharing):
    torch.manual_seed(0)
    model = tiny_vit()
    tower = TextTower(model)
    learner = PromptLearner(tower, NAMES, 5, "", position, sharing, TASKS)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.normal_(std=0.5)
    found = tower(learner())
    expected = torch.stack(
        [plain_features(model, tower, name, own_context(learner, i), position) for i, name in enumerate(NAMES)]
    )
    assert relative(found, expected) < 1e-5
    weights = torch.randn(found.shape)
    parameters = list(learner.parameters())
    grads = torch.autograd.grad((found * weights).sum(), parameters)
    expected_grads = torch.autograd.grad((expected * weights).sum(), parameters)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert relative(grad, expected_grad) < 1e-4


@pytest.mark.parametrize("select", [[6], [5, 0, 3], [2, 2]])
def test_a_selection_gives_the_same_features(select):
    tower = TextTower(tiny_rn())
    for sharing in SHARING:
        learner = PromptLearner(tower, NAMES, 3, sharing=sharing, task_of_name=TASKS)
        whole = tower(learner())
        assert relative(tower(learner(torch.tensor(select))), whole[select]) < 1e-5


def test_prompts_of_mixed_groups_come_back_in_their_order():
    torch.manual_seed(0)
    tower = TextTower(tiny_vit())
    names = NameTokens(tower, NAMES)
    context = torch.randn(3, 4, tower.width)
    group = torch.tensor([2, 0, 1, 2, 0, 1, 1])
    mixed = tower(names.fill(context, group))
    for g in range(3):
        alone = tower(names.fill(context[g : g + 1], torch.zeros(len(NAMES), dtype=torch.long)))
        assert relative(mixed[group == g], alone[group == g]) < 1e-5


def test_plain_texts_equal_the_models_own_encode_text():
    texts = ["a photo of a cat.", "a photo of a very old house by the sea.", "a photo of a.", "x"]
    for model in (tiny_vit(), embedded()):
        assert relative(TextTower(model).encode(texts), model.encode_text(clip.tokenize(texts))) < 1e-5
    assert relative(TextTower(embedded()).encode(texts[:1]), model.encode_text(clip.tokenize(texts[:1]))) < 1e-5


def test_no_token_is_computed_twice_and_none_after_eos(monkeypatch):
    model = tiny_vit()
    tower = TextTower(model)
    learner = PromptLearner(tower, NAMES, 5, sharing="task", task_of_name=TASKS)
    rows = []
    mlp = text_tower.mlp
    monkeypatch.setattr(text_tower, "mlp", lambda layers, x, *rest: rows.append(x.shape[0]) or mlp(layers, x, *rest))
    prompts = learner()
    tower(prompts)
    lengths = [len(clip.tokenizer().encode(name.replace("_", " ") + ".")) + 1 for name in NAMES]
    assert rows[0] == 3 * (1 + 5) + sum(lengths) == prompts.num_tokens
    assert rows[-1] == len(NAMES)  # the last layer computes [EOS] only


def test_what_stands_after_eos_does_not_matter():
    tower = TextTower(tiny_vit())
    prompts = PromptLearner(tower, NAMES, 2)()
    noise = torch.randn_like(prompts.suffix)
    real = torch.arange(prompts.suffix.shape[1]) < prompts.length[:, None]
    spoilt = torch.where(real[..., None], prompts.suffix, noise)
    assert torch.equal(tower(prompts), tower(Prompts(prompts.prefix, spoilt, prompts.group, prompts.length)))


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_chunks_change_nothing(sharing, chunk):
    torch.manual_seed(0)
    learner = PromptLearner(TextTower(tiny_vit()), NAMES, 5, sharing=sharing, task_of_name=TASKS)
    found = []
    for size in (0, chunk):
        features = TextTower(tiny_vit(), size)(learner())
        weights = torch.linspace(-1, 1, features.numel()).view_as(features)
        found.append((features, *torch.autograd.grad((features * weights).sum(), list(learner.parameters()))))
    for whole, chunked in zip(*found, strict=True):
        assert relative(chunked, whole) < 1e-5


def test_chunks_bound_what_is_kept_for_the_backward_pass():
    names = [f"name number {i}" for i in range(40)]
    learner = PromptLearner(TextTower(tiny_vit()), names, 5)

    def kept(size):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            TextTower(tiny_vit(), size)(learner())
        return sum(sizes)

    assert kept(5) < kept(0) / 5


def test_deep_prompts_equal_a_plain_loop():
    """Tokens replace the context before layers 1 and 2; group by group, with gradients."""
    torch.manual_seed(0)
    model, tower = tiny_vit(), TextTower(tiny_vit())
    names = NameTokens(tower, ["cat", "red fox", "a house by the sea"])
    context = torch.randn(2, 4, tower.width, requires_grad=True)
    deep = torch.randn(2, 2, 3, tower.width, requires_grad=True)
    group = torch.tensor([1, 0, 1])
    prompts = names.fill(context, group)
    found = tower(prompts, Additions(Tokens(deep, [1, 2]), group=prompts.group))
    expected = []
    for n, g in enumerate(group.tolist()):
        x = torch.cat([names.start, context[g], names.tokens[n, : names.length[n]]])
        x = (x + model.positional_embedding[: len(x)])[None]
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
        for i, block in enumerate(model.transformer.resblocks):
            if i > 0:
                x = torch.cat([x[:, :1], deep[g : g + 1, i - 1], x[:, 4:]], 1)
            x = block(x, attn_mask=mask)
        expected.append(model.ln_final(x[0, -1]) @ model.text_projection)
    expected = torch.stack(expected)
    assert relative(found, expected) < 1e-5
    weights = torch.randn(found.shape)
    for ours, theirs in zip(
        torch.autograd.grad((found * weights).sum(), [context, deep]),
        torch.autograd.grad((expected * weights).sum(), [context, deep]),
        strict=True,
    ):
        assert relative(ours, theirs) < 1e-4


def test_gradients_agree_with_finite_differences():
    import copy

    tower = TextTower(copy.deepcopy(tiny_vit()).double())
    names = NameTokens(tower, ["cat", "red fox"])
    direction = torch.randn(2, 48, dtype=torch.float64)

    def objective(context):
        return (tower(names.fill(context, torch.tensor([0, 1]))) * direction).sum()

    context = torch.randn(2, 2, tower.width, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(objective, context, atol=1e-6, fast_mode=True)


def test_too_long_a_name_is_named():
    tower = TextTower(tiny_vit())
    with pytest.raises(UserError, match="'word word.*takes 87 tokens with 16 context tokens"):
        PromptLearner(tower, ["cat", "word " * 68], 16)
    with pytest.raises(UserError, match="shorten"):
        tower.encode(["word " * 80])


def test_initial_words_set_value_and_length():
    tower = TextTower(tiny_vit())
    learner = PromptLearner(tower, ["cat"], 16, "a photo of a")
    assert learner.n_ctx == 4
    assert torch.equal(learner.ctx, tower.embed(torch.tensor([320, 1125, 539, 320])))
    # with these words and the name at the end, the prompt equals the hand-made prompt
    assert relative(tower(learner()), tower.encode(["a photo of a cat."])) < 1e-5


def test_bf16_tower_is_close_and_returns_gradients():
    from clip.backbones import load_backbone

    model = load_backbone("tiny", precision="bf16")
    assert model.dtype == torch.bfloat16
    learner = PromptLearner(TextTower(model), ["cat", "red fox"], 4)
    features = TextTower(model)(learner())
    with torch.no_grad():
        exact = TextTower(embedded())(learner())
    assert relative(features.float(), exact) < 0.03
    features.float().sum().backward()
    assert learner.ctx.grad.dtype == torch.float32 and learner.ctx.grad.abs().sum() > 0
