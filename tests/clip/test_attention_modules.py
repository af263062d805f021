"""Test that the towers accept any attention module with the parameters of `nn.MultiheadAttention`."""

import copy

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP as OpenClip
from open_clip.transformer import Attention, CustomResidualAttentionBlock
from torch import nn

from clip import clip
from clip.additions import Additions, Tokens
from clip.image_tower import ImageTower
from clip.model import CLIP
from clip.text_tower import TextTower
from dassl.utils import UserError
from tests.models import relative
from trainers.prompts import NameTokens


class OwnAttention(nn.Module):
    """A stand-in with the parameters and the call of `nn.MultiheadAttention`, but another forward pass."""

    def __init__(self, source: nn.MultiheadAttention):
        super().__init__()
        self.in_proj_weight, self.in_proj_bias = source.in_proj_weight, source.in_proj_bias
        self.out_proj, self.num_heads = source.out_proj, source.num_heads

    def forward(self, q, k=None, v=None, attn_mask=None, need_weights=False):
        q, k, v = F.linear(q, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)  # (N, S, D)
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # (N, h, S, D / h)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(x.transpose(1, 2).flatten(2)), None


def open_clip_model() -> OpenClip:
    """Random towers of two layers with two heads: image 32, patch 8, width 128, joint dim 48."""
    torch.manual_seed(0)
    vision = {"layers": 2, "width": 128, "patch_size": 8, "head_width": 64, "image_size": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2}
    return OpenClip(embed_dim=48, vision_cfg=vision, text_cfg=text, quick_gelu=True)


def blocks_of(model):
    return [*model.transformer.resblocks, *model.visual.transformer.resblocks]


@pytest.fixture(scope="module")
def pair():
    """The same model with `nn.MultiheadAttention` and with the stand-in."""
    inner = open_clip_model()
    other = copy.deepcopy(inner)
    for block in blocks_of(other):
        block.attn = OwnAttention(block.attn)
    return CLIP(inner), CLIP(other)


def test_features_are_equal(pair):
    images, texts = torch.randn(3, 3, 32, 32), ["a cat", "a photo of a red fox."]
    usual, own = ([*ImageTower(model)(images, Additions(local=True)), TextTower(model).encode(texts)] for model in pair)
    for found, expected in zip(own, usual, strict=True):
        assert torch.equal(found, expected)
    assert relative(own[0], pair[1].encode_image(images)) < 1e-5  # by the stand-in's own forward pass
    assert relative(own[2], pair[1].encode_text(clip.tokenize(texts))) < 1e-5


def test_prompts_of_both_towers_work(pair):
    torch.manual_seed(1)
    images, visual = torch.randn(3, 3, 32, 32), torch.randn(1, 2, 4, 128, requires_grad=True)
    context, deep = torch.randn(1, 3, 128, requires_grad=True), torch.randn(1, 1, 3, 128, requires_grad=True)
    results = []
    for model in pair:
        assert ImageTower(model).require_prompts() == (2, 128, 8)
        text = TextTower(model)
        names = NameTokens(text, ["cat", "red fox"])
        prompts = names.fill(context, torch.zeros(2, dtype=torch.long))
        features = text(prompts, Additions(Tokens(deep, [1])))  # (2, 48)
        logits = ImageTower(model)(images, Additions(Tokens(visual))) @ features.t()
        results.append([logits, *torch.autograd.grad(logits.square().sum(), [visual, context, deep])])
    for usual, own in zip(*results, strict=True):
        assert torch.equal(usual, own) and own.abs().sum() > 0


def no_in_proj(attn):
    """An attention module with three projections instead of one."""
    found = nn.MultiheadAttention(128, 2, kdim=64, vdim=64, batch_first=True)
    assert found.in_proj_weight is None
    return found


def normed_queries(attn):
    """An attention module with all parameters that the towers read, and a norm that they ignore."""
    return Attention(128, 2, qk_norm=True)


@pytest.mark.parametrize("replace", [no_in_proj, normed_queries])
def test_attention_of_another_kind_is_refused(replace):
    inner = open_clip_model()
    for block in blocks_of(inner):
        block.attn = replace(block.attn)
    model = CLIP(inner)
    model.name = "other"
    with pytest.raises(UserError, match="other cannot take prompts: its text tower has attention blocks of another"):
        TextTower(model)
    with pytest.raises(
        UserError, match="MODEL.BACKBONE.NAME other: additions to the image tower need a ViT of open_clip"
    ):
        ImageTower(model).require_prompts()


def test_a_block_with_further_norms_is_refused():
    inner = open_clip_model()
    inner.transformer.resblocks[0] = CustomResidualAttentionBlock(128, 2, scale_fc=True)
    assert "another kind" in CLIP(inner).text_unsupported
    inner.transformer.resblocks[0] = CustomResidualAttentionBlock(128, 2)
    assert CLIP(inner).text_unsupported == ""
