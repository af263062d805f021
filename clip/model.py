"""A CLIP with OpenAI's attribute names over open_clip's modules."""

from __future__ import annotations

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet  # noqa: F401
from open_clip.transformer import LayerNorm, QuickGELU  # noqa: F401
from torch import Tensor, nn

from dassl.utils.names import imported

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
DTYPES = {"fp32": torch.float32, "amp": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class SequenceFirst(nn.Module):
    """open_clip's text transformer with OpenAI's calling convention, (S, N, D) -> (S, N, D), and the causal mask."""

    def __init__(self, transformer: nn.Module, mask: Tensor):
        super().__init__()
        self.resblocks = transformer.resblocks
        self.width = transformer.width
        self.layers = transformer.layers
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)  # (N, S, D)
        mask = self.mask[: x.shape[1], : x.shape[1]]
        for block in self.resblocks:
            x = block(x, attn_mask=mask)
        return x.transpose(0, 1)


class CLIP(nn.Module):
    """The frozen two-tower model around open_clip's `inner`, always in eval mode.

    It has the attributes of OpenAI's class (`visual`, `transformer`, `token_embedding`, `positional_embedding`,
    `ln_final`, `text_projection`, `logit_scale`, `dtype`, `encode_image`, `encode_text`) and further ones: `name`,
    `precision`, `weights_hash` (SHA-256 of the weight file), `image_mean`, `image_std`, and `text_unsupported` (the
    reason why the text tower cannot take prompts, or ""). `context_length` and `vocab_size` exist if it can.
    """

    def __init__(self, inner: nn.Module, precision: str = "fp32"):
        super().__init__()
        text = getattr(inner, "text", inner)  # open_clip's custom models keep their text tower in `text`
        self.text_unsupported = _why_no_prompts(inner, text)
        self.visual = inner.visual
        if self.text_unsupported:
            self.text_inner = inner  # for encode_text, which works without prompts
        else:
            self.transformer = SequenceFirst(text.transformer, text.attn_mask)
            self.token_embedding = text.token_embedding
            self.positional_embedding = text.positional_embedding
            self.ln_final = text.ln_final
            self.text_projection = text.text_projection
            self.context_length = text.positional_embedding.shape[0]
            self.vocab_size = text.token_embedding.num_embeddings
        self.logit_scale = inner.logit_scale
        size = getattr(inner.visual, "image_size", 224)
        self.visual.input_resolution = size if isinstance(size, int) else max(size)
        self.precision = precision
        self.name, self.weights_hash = "", ""
        self.image_mean, self.image_std = CLIP_MEAN, CLIP_STD
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> CLIP:
        """Stay in eval mode: a training loop must not change the BatchNorm statistics of the frozen towers."""
        return super().train(False)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the matrices, also after `float()`, `half()` or `convert_weights`."""
        first = getattr(self.visual, "conv1", None)  # towers of timm have none
        return DTYPES[self.precision] if first is None else first.weight.dtype

    def encode_image(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, d)."""
        return self.visual(image.type(self.dtype))

    def encode_text(self, text: Tensor) -> Tensor:
        """Token ids (N, S) -> (N, d), read at [EOS], the token with the largest id. S is 77 at most."""
        if self.text_unsupported:
            return self.text_inner.encode_text(text)
        x = (self.token_embedding(text) + self.positional_embedding[: text.shape[1]]).type(self.dtype)
        x = self.ln_final(self.transformer(x.transpose(0, 1)).transpose(0, 1)).type(self.dtype)
        return project(x[torch.arange(len(x)), text.argmax(-1)], self.text_projection)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits per image (B, N) and per text (N, B), like OpenAI's model."""
        image, text = self.encode_image(image), self.encode_text(text)
        image, text = image / image.norm(dim=-1, keepdim=True), text / text.norm(dim=-1, keepdim=True)
        logits = self.logit_scale.exp() * image @ text.t()
        return logits, logits.t()

    def preprocess(self):
        """The test transform: PIL image -> (3, H, W)."""
        from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

        size = self.visual.input_resolution
        return Compose(
            [
                Resize(size, interpolation=InterpolationMode.BICUBIC),
                CenterCrop(size),
                lambda image: image.convert("RGB"),
                ToTensor(),
                Normalize(self.image_mean, self.image_std),
            ]
        )


def project(x: Tensor, projection: Tensor | nn.Linear | None) -> Tensor:
    """Text projection, (…, D) -> (…, d): a matrix (D, d), a linear layer, or None for the identity."""
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Module) else x @ projection


# The parameters of a transformer block that the towers read, and the two that a block may have.
_LAYERS = ("ln_1", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
_READ = {f"{layer}.{kind}" for layer in _LAYERS for kind in ("weight", "bias")}
_READ |= {"attn.in_proj_weight", "attn.in_proj_bias"}
_MAY_HAVE = {"ls_1.gamma", "ls_2.gamma"}


def is_plain_block(block: nn.Module) -> bool:
    """Whether the towers can compute `block` from its parameters, whatever the class of its attention module.

    The attention needs `num_heads` and one projection for queries, keys and values (`in_proj_weight`, `in_proj_bias`,
    `out_proj`), like `nn.MultiheadAttention` and the module that open_clip's next major release has in its place. A
    block with further parameters (norms of the queries, scales of the heads) computes something else.
    """
    names = {name for name, _ in block.named_parameters()}
    return _READ <= names <= _READ | _MAY_HAVE and hasattr(block.attn, "num_heads")


def _why_no_prompts(inner: nn.Module, text: nn.Module) -> str:
    """The reason why the text tower of `inner` cannot take prompts, or "".

    Prompts need a causal tower whose feature is read at [EOS].
    """
    if not all(hasattr(text, name) for name in ("transformer", "token_embedding", "positional_embedding", "ln_final")):
        return "its text tower is a Hugging Face model"
    if not hasattr(text.transformer, "resblocks") or not all(map(is_plain_block, text.transformer.resblocks)):
        return "its text tower has attention blocks of another kind"
    if getattr(text, "attn_mask", None) is None:
        return "its text tower is not causal"
    if getattr(text, "cls_emb", None) is not None:
        return "its text feature is read at a class token"
    pool = getattr(inner, "text_pool_type", getattr(text, "pool_type", "argmax"))
    if pool == "eos":
        return "its text feature is read at an [EOS] of another vocabulary"
    if pool != "argmax":
        return f"its text feature is pooled by {pool!r} and not read at [EOS]"
    return ""


# ---- names of OpenAI's clip.model, for code that imports them; the towers of this project do not use them ----


class Transformer(open_clip.transformer.Transformer):
    """Residual attention blocks with OpenAI's arguments and order of dimensions: (S, N, width) -> (S, N, width)."""

    def __init__(self, width: int, layers: int, heads: int, attn_mask: Tensor | None = None):
        super().__init__(width, layers, heads, act_layer=QuickGELU, batch_first=False)
        self.attn_mask = attn_mask

    def forward(self, x: Tensor) -> Tensor:
        return (
            super().forward(x.transpose(0, 1), attn_mask=self.attn_mask).transpose(0, 1)
        )  # open_clip's takes (N, S, D)


class _AnyVisionTransformer(type(nn.Module)):
    def __instancecheck__(cls, instance):
        return isinstance(instance, open_clip.transformer.VisionTransformer)


class VisionTransformer(open_clip.transformer.VisionTransformer, metaclass=_AnyVisionTransformer):
    """A ViT with OpenAI's arguments, (B, 3, H, W) -> (B, output_dim). Every ViT of a CLIP counts as an instance."""

    def __init__(self, input_resolution: int, patch_size: int, width: int, layers: int, heads: int, output_dim: int):
        super().__init__(
            input_resolution, patch_size, width, layers, heads, 4.0, output_dim=output_dim, act_layer=QuickGELU
        )


def convert_weights(model: nn.Module) -> None:
    """Convert the matrices of a model to fp16, in place. Norms and embeddings keep their precision."""
    open_clip.model.convert_weights_to_lp(model, torch.float16)
    if isinstance(model, CLIP) and isinstance(getattr(model, "text_projection", None), nn.Parameter):
        model.text_projection.data = model.text_projection.data.half()


def __getattr__(name: str):
    if name == "build_model":  # defined in a module that imports this one
        return imported("clip.backbones").build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
