"""Text towers that are not causal, pool otherwise, or come from Hugging Face: compared with open_clip's own modules."""

import copy

import pytest
import torch
import torch.nn.functional as F

from clip.additions import Additions, LowRank, Tokens, TowerAdditions
from clip.building import finish
from clip.checking import SENTENCES, own_features, small_model
from clip.merging import merged_copy
from clip.text_tower import TextTower
from clip.tokenizers import pad_ids
from dassl.utils import UserError
from tests.models import relative
from trainers.prompts import POSITIONS, SHARING, NameTokens, PromptLearner

PLAIN = {  # one backbone for each way in which open_clip's text towers read their tokens
    "siglip": "ViT-B-16-SigLIP:webli",
    "siglip2": "ViT-B-32-SigLIP2-256:webli",  # another activation, another padding
    "siglip-i18n": "ViT-SO400M-16-SigLIP-i18n-256:webli",  # no projection
    "clipa": "ViT-H-14-CLIPA:datacomp1b",  # a start token, no end token
    "mobileclip": "MobileCLIP-S1:datacompdr",  # reads [EOS] and attends to padding
    "coca": "coca_ViT-B-32:laion2b_s13b_b90k",  # a class token
}
SHARED = {"metaclip2": "ViT-H-14-worldwide:metaclip2_worldwide", "mobileclip-b": "MobileCLIP-B:datacompdr"}
HUB = {"roberta": "roberta-ViT-B-32:laion2b_s12b_b32k", "nllb": "nllb-clip-base:v1"}
NAMES = ["cat", "great_pyrenees dog", "hard leaved pocket orchid", "a", "x1 y2"]
TASKS = torch.tensor([0, 0, 1, 1, 1])


def built(kind):
    if kind in HUB:
        pytest.importorskip("transformers")
    return small_model({**PLAIN, **SHARED, **HUB}[kind])


def plain_ids(tower, texts):
    tokens = tower.tokenizer
    ids = [[*tokens.start, *tokens.encode(text), *tokens.end] for text in texts]
    return pad_ids(ids, tokens.pad, tower.context_length)


@pytest.mark.parametrize("kind", [*PLAIN, *SHARED, *HUB])
def test_plain_texts_equal_open_clips_encode_text(kind):
    model, inner = built(kind)
    tower = TextTower(model)
    ids = plain_ids(tower, SENTENCES)
    with torch.no_grad():
        expected = own_features(inner, ids)
        assert relative(tower.encode(list(SENTENCES)), expected) < 1e-5
        assert relative(model.encode_text(ids), expected) < 1e-5
    assert len(expected) == 4 and F.cosine_similarity(expected[:1], expected[1:]).max() < 0.999  # texts differ
    assert tower.output_dim == model.visual.output_dim == expected.shape[1]
    assert tower.shares_prefixes == (kind in SHARED)


def open_clip_features(model, inner, x, count):
    """Feature (d,) of one prompt x (n, D), by open_clip's own modules: the embeddings stand in for those of ids."""
    text, reading = getattr(inner, "text", inner), model.reading
    table = model.token_embedding.weight
    padding = model.tokenizer.pad
    end = reading.end_id if reading.end_id is not None else table.shape[0] - 1
    ids = torch.full((1, model.context_length), padding)
    ids[0, :count] = 9  # any words; only padding and the end token matter
    if model.tokenizer.end:
        ids[0, count - 1] = end if reading.pool == "end" else model.tokenizer.end[-1]
    given = F.embedding(ids, table).clone()
    given = torch.cat([x[None], given[:, count:]], 1)
    embedding = text.token_embedding
    hook = embedding.register_forward_hook(lambda *_: given)
    try:
        return own_features(inner, ids)[0]
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("kind", "position"),
    [*((kind, position) for kind in ("siglip", "clipa") for position in POSITIONS)]
    + [("siglip2", "end"), ("siglip-i18n", "front"), ("mobileclip", "middle"), ("coca", "end"), ("coca", "middle")],
)
def test_learned_contexts_equal_open_clips_own_transformer(kind, position):
    """Features and gradients for contexts of every sharing, prompt by prompt."""
    torch.manual_seed(0)
    model, inner = built(kind)
    tower = TextTower(model)
    tokens = tower.tokenizer
    for sharing in SHARING:
        learner = PromptLearner(tower, NAMES, 4, "", position, sharing, TASKS)
        expected = []
        for i, name in enumerate(NAMES):
            own = learner.ctx if sharing == "all" else learner.ctx[i] if sharing == "class" else None
            own = learner.learners[TASKS[i]]["ctx"] if own is None else own
            name = name.replace("_", " ")
            words, body = tokens.encode(f"{name}."), len(tokens.encode(name))
            words = [tower.embed(torch.tensor(ids, dtype=torch.long)) for ids in (tokens.start, words, tokens.end)]
            start, words, end = words
            before = {"end": 4, "middle": 2, "front": 0}[position]
            parts = [start, own[:before], words[:body], own[before:], words[body:], end]
            x = torch.cat(parts)
            expected.append(open_clip_features(model, inner, x, len(x)))
        found, expected = tower(learner()), torch.stack(expected)
        assert relative(found, expected) < 1e-5
        weights, parameters = torch.randn(found.shape), list(learner.parameters())
        grads = torch.autograd.grad((found * weights).sum(), parameters)
        for grad, other in zip(grads, torch.autograd.grad((expected * weights).sum(), parameters), strict=True):
            assert relative(grad, other) < 1e-4


@pytest.mark.parametrize("kind", [*PLAIN, *SHARED, *HUB])
def test_initial_words_give_the_hand_made_prompt(kind):
    model, _ = built(kind)
    tower = TextTower(model)
    learner = PromptLearner(tower, ["cat"], 16, "a photo of a")
    assert learner.n_ctx == len(tower.tokenizer.encode("a photo of a"))
    assert relative(tower(learner()), tower.encode(["a photo of a cat."])) < 1e-5


@pytest.mark.parametrize("kind", [*PLAIN, *HUB])
def test_gradients_agree_with_finite_differences(kind):
    model, _ = built(kind)
    tower = TextTower(copy.deepcopy(model).double())
    names = NameTokens(tower, ["cat", "red fox"])
    direction = torch.randn(2, tower.output_dim, dtype=torch.float64)

    def objective(context):
        return (tower(names.fill(context, torch.tensor([0, 1]))) * direction).sum()

    context = torch.randn(2, 2, tower.width, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(objective, context, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("kind", ["siglip", "coca", "roberta"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_and_selections_change_nothing(kind, chunk):
    model, _ = built(kind)
    torch.manual_seed(0)
    learner = PromptLearner(TextTower(model), NAMES, 3, sharing="task", task_of_name=TASKS)
    found = []
    for size in (0, chunk):
        features = TextTower(model, size)(learner())
        weights = torch.linspace(-1, 1, features.numel()).view_as(features)
        found.append((features, *torch.autograd.grad((features * weights).sum(), list(learner.parameters()))))
    for whole, chunked in zip(*found, strict=True):
        assert relative(chunked, whole) < 1e-5
    select = torch.tensor([4, 1])
    assert relative(TextTower(model)(learner(select)), found[0][0][select]) < 1e-5


def test_padding_of_a_prompt_does_not_matter():
    """What stands behind a prompt's last token in the batch is replaced by the tower's own padding."""
    for kind in ("siglip", "coca", "mobileclip"):
        model, _ = built(kind)
        tower = TextTower(model)
        prompts = PromptLearner(tower, NAMES, 2)()
        noise = torch.randn_like(prompts.suffix)
        real = torch.arange(prompts.suffix.shape[1]) < prompts.length[:, None]
        spoilt = copy.copy(prompts)
        spoilt.suffix = torch.where(real[..., None], prompts.suffix, noise)
        assert torch.equal(tower(prompts), tower(spoilt))


# ---- additions ----


def looped(model, x, count, tokens=(), change=lambda block, layer: block, insert=False):
    """Feature (d,) of one prompt x (S, D) with padding and positions, by a loop over open_clip's own blocks.

    tokens: {layer: (K, D)} that replace the K tokens behind the start token, or at the first layer are inserted.
    """
    first, at = len(model.tokenizer.start), min(tokens, default=0)
    for i, block in enumerate(model.transformer.resblocks):
        if i in tokens:
            K = len(tokens[i])
            rest = x[first:] if insert and i == at else x[first + K :]
            count = count + (K if insert and i == at else 0)
            x = torch.cat([x[:first], tokens[i], rest])
        x = change(block, i)(x[None])[0]
    return model.ln_final(x), count


def padded(model, tower, text):
    ids = plain_ids(tower, [text])
    count = len(tower.tokenizer.start) + len(tower.tokenizer.encode(text)) + len(tower.tokenizer.end)
    return model.token_embedding(ids)[0] + model.positional_embedding[: ids.shape[1]], count


@pytest.mark.parametrize("kind", ["siglip", "clipa", "mobileclip"])
@pytest.mark.parametrize("insert", [False, True])
def test_deep_prompts_equal_a_plain_loop(kind, insert):
    torch.manual_seed(0)
    model, _ = built(kind)
    tower, layers = TextTower(model), len(model.transformer.resblocks)
    texts = ["a photo of a cat now", "a very old house by the sea"]
    values = torch.randn(2, layers, 2, tower.width, requires_grad=True)
    found, kept = tower(tower.texts(texts), Additions(Tokens(values, insert=insert, keep=True)))
    expected, outputs = [], []
    for n, text in enumerate(texts):
        x, count = padded(model, tower, text)
        x, count = looped(model, x, count, dict(enumerate(values[n])), insert=insert)
        pooled = x[count - 1] if model.reading.pool == "end" else x[-1]
        projection = model.text_projection
        expected.append(projection(pooled) if isinstance(projection, torch.nn.Module) else pooled @ projection)
        first = len(tower.tokenizer.start)
        outputs.append(x[first : first + 2])
    expected, outputs = torch.stack(expected), torch.stack(outputs)
    assert relative(found, expected) < 1e-5 and relative(kept, outputs) < 1e-5
    weights = torch.randn(found.shape)
    (ours,) = torch.autograd.grad((found * weights).sum(), values)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), values)
    assert relative(ours, theirs) < 1e-4


@pytest.mark.parametrize("kind", PLAIN)
def test_low_rank_changes_equal_changed_weights(kind):
    torch.manual_seed(0)
    model, _ = built(kind)
    tower, D = TextTower(model), model.token_embedding.embedding_dim
    hidden = tower.blocks[0].mlp.c_fc.out_features
    shapes = {"q": (D, D), "v": (D, D), "out": (D, D), "fc": (D, hidden), "proj": (hidden, D)}
    changes = {(1, name): LowRank(torch.randn(2, i) / 9, torch.randn(o, 2) / 9) for name, (i, o) in shapes.items()}
    found = tower(tower.texts(list(SENTENCES)), Additions(changes=changes))
    merged = TextTower(merged_copy(model, TowerAdditions(Additions(changes=changes))))
    expected = merged.encode(list(SENTENCES))
    assert relative(found, expected) < 1e-5 and relative(found, tower.encode(list(SENTENCES))) > 1e-3
    stacked = {
        key: LowRank(torch.stack([part.down, -part.down]), torch.stack([part.up] * 2)) for key, part in changes.items()
    }
    both = tower(tower.texts(list(SENTENCES)), Additions(changes=stacked, group=torch.tensor([0, 1, 1, 0])))
    assert relative(both[[0, 3]], expected[[0, 3]]) < 1e-5 and relative(both[[1, 2]], expected[[1, 2]]) > 1e-3


@pytest.mark.parametrize("kind", ["siglip", "coca"])
def test_frozen_layers_may_be_asked_for(kind):
    model, _ = built(kind)
    tower = TextTower(model)
    added = Additions(Tokens(torch.randn(1, 1, 2, tower.width), [1], insert=True))
    prompts = tower.texts(list(SENTENCES))
    assert relative(tower(tower.before(prompts, 1), added), tower(prompts, added)) < 1e-5


# ---- what does not work ----


def test_a_hugging_face_tower_takes_prompts_at_its_input_only():
    model, _ = built("roberta")
    tower = TextTower(model)
    with pytest.raises(UserError, match="roberta-ViT-B-32:laion2b_s12b_b32k: its text tower is a Hugging Face model"):
        tower(tower.texts(["a cat"]), Additions(Tokens(torch.zeros(1, 1, 2, tower.width))))
    with pytest.raises(UserError, match="such as that of ViT-B/16"):
        tower.blocks  # noqa: B018


def test_lengths_and_names_that_do_not_fit():
    model, _ = small_model("ViT-SO400M-14-SigLIP:webli")
    tower = TextTower(model)
    with pytest.raises(UserError, match="the context length is 16; shorten"):
        tower.encode(["word " * 16])
    assert tower.encode(["word " * 15]).shape == (1, tower.output_dim)
    with pytest.raises(UserError, match="takes 17 tokens with 14 context tokens, but the text tower takes at most 16"):
        PromptLearner(tower, ["red cat"], 14)
    assert tower(PromptLearner(tower, ["cat"], 14)()).isfinite().all()
    with pytest.raises(UserError, match="16 tokens cannot replace|does not fit"):
        tower(tower.texts(["a"]), Additions(Tokens(torch.zeros(1, 1, 16, tower.width))))


def test_a_tokenizer_of_another_model_is_refused():
    model, _ = built("metaclip2")
    model.tokenizer.end = (7,)
    with pytest.raises(UserError, match="end token 2, and its tokenizer ends texts with .7.: tokenizer and weights"):
        TextTower(model)


def test_bf16_towers_are_close_and_return_gradients():
    for kind in ("siglip", "coca", "clipa", "roberta"):
        model, inner = built(kind)
        exact = TextTower(model)
        learner = PromptLearner(exact, NAMES, 3)
        expected = exact(learner()).detach()
        half = TextTower(finish(copy.deepcopy(inner), "bf16", model.tokenizer))
        found = half(learner())
        assert relative(found.float(), expected) < 0.05, kind
        (grad,) = torch.autograd.grad(found.float().sum(), learner.ctx)
        assert grad.dtype == torch.float32 and grad.isfinite().all() and grad.any()
