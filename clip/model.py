"""A CLIP with OpenAI's attribute names over open_clip's modules."""

from __future__ import annotations

import math

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet  # noqa: F401
from open_clip.transformer import LayerNorm, QuickGELU  # noqa: F401
from torch import Tensor, nn

from dassl.utils.names import imported

from .layers import project
from .plain_text import PlainText, Reading
from .tokenizers import Tokenizer, clip_tokens

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
DTYPES = {"fp32": torch.float32, "amp": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class SequenceFirst(nn.Module):
    """open_clip's text transformer with OpenAI's calling convention, (S, N, D) -> (S, N, D), and its mask, if any."""

    def __init__(self, transformer: nn.Module, mask: Tensor | None):
        super().__init__()
        self.resblocks = transformer.resblocks
        self.width = transformer.width
        self.layers = transformer.layers
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)  # (N, S, D)
        mask = None if self.mask is None else self.mask[: x.shape[1], : x.shape[1]]
        for block in self.resblocks:
            x = block(x, attn_mask=mask)
        return x.transpose(0, 1)


class CLIP(nn.Module):
    """The frozen two-tower model around open_clip's `inner`, always in eval mode.

    It has the attributes of OpenAI's class (`visual`, `transformer`, `token_embedding`, `positional_embedding`,
    `ln_final`, `text_projection`, `logit_scale`, `dtype`, `encode_image`, `encode_text`) and further ones:

    - `name`, `precision`, `weights_hash` (SHA-256 of the weight file), `tokenizer`, `context_length`, `vocab_size`;
    - `image_mean`, `image_std`, `interpolation` and `squash` (images are resized to a square, not cropped): the
      preprocessing that the model was trained with;
    - `logit_bias`: a constant that SigLIP adds to its logits, or None. It changes no softmax and no ranking.
    - `reading`: how open_clip's text tower reads its tokens; None for a Hugging Face text tower, which is `text_inner`
      and has no `transformer`, `positional_embedding`, `ln_final` and `text_projection`;
    - `text_unsupported`: the reason why the text tower cannot take prompts, or "".
    """

    def __init__(self, inner: nn.Module, precision: str = "fp32", tokenizer: Tokenizer | None = None):
        super().__init__()
        text = getattr(inner, "text", inner)  # open_clip's custom models keep their text tower in `text`
        self.text_unsupported = _why_no_prompts(text)
        self.visual = inner.visual
        self.tokenizer = clip_tokens() if tokenizer is None else tokenizer
        self.reading = None
        if self.text_unsupported or hasattr(text, "pooler"):
            self.text_inner = text  # for encode_text, which works without prompts
            if hasattr(text, "pooler"):
                self.token_embedding = text.transformer.get_input_embeddings()
                self.context_length = min(text.context_length or math.inf, getattr(tokenizer, "limit", 77))
        else:
            self.transformer = SequenceFirst(text.transformer, text.attn_mask)
            self.token_embedding = text.token_embedding
            self.positional_embedding = text.positional_embedding
            self.ln_final = text.ln_final
            self.text_projection = text.text_projection
            self.cls_emb = getattr(text, "cls_emb", None)
            self.context_length = text.positional_embedding.shape[0] - (self.cls_emb is not None)
            self.vocab_size = text.token_embedding.num_embeddings
            self.reading = _reading(inner, text)
        self.logit_scale = inner.logit_scale
        self.logit_bias = getattr(inner, "logit_bias", None)
        size = getattr(inner.visual, "image_size", 224)
        self.visual.input_resolution = size if isinstance(size, int) else max(size)
        if not hasattr(self.visual, "output_dim"):  # timm's towers
            self.visual.output_dim = self.output_dim
        self.precision = precision
        self.name, self.weights_hash = "", ""
        self.image_mean, self.image_std = CLIP_MEAN, CLIP_STD
        self.interpolation, self.squash = "bicubic", False
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> CLIP:
        """Stay in eval mode: a training loop must not change the BatchNorm statistics of the frozen towers."""
        return super().train(False)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the matrices, also after `float()`, `half()` or `convert_weights`."""
        first = getattr(self.visual, "conv1", None)  # towers of timm have none
        return DTYPES[self.precision] if first is None else first.weight.dtype

    @property
    def output_dim(self) -> int:
        """d, the dimension of the features of both towers."""
        if self.reading is None:
            return self.text_inner.output_dim
        projection = self.text_projection
        if projection is None:
            return self.token_embedding.embedding_dim
        return projection.out_features if isinstance(projection, nn.Module) else projection.shape[1]

    def encode_image(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, d)."""
        found = self.visual(image.type(self.dtype))
        return found[0] if isinstance(found, tuple) else found  # CoCa's tower also returns tokens

    def encode_text(self, text: Tensor) -> Tensor:
        """Token ids (N, S) -> (N, d), not normalised. S is `context_length` at most, and exactly that for a tower that
        attends to padding or reads its last position.
        """
        if self.reading is None:
            found = self.text_inner(text)
            return found[0] if isinstance(found, tuple) else found
        if not self.reading.shares_prefixes:
            return PlainText(self).ids(text)
        x = (self.token_embedding(text) + self.positional_embedding[: text.shape[1]]).type(self.dtype)
        x = self.ln_final(self.transformer(x.transpose(0, 1)).transpose(0, 1)).type(self.dtype)
        return project(x[torch.arange(len(x)), self.reading.ends(text) - 1], self.text_projection)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits per image (B, N) and per text (N, B), like OpenAI's model."""
        image, text = self.encode_image(image), self.encode_text(text)
        image, text = image / image.norm(dim=-1, keepdim=True), text / text.norm(dim=-1, keepdim=True)
        logits = self.logit_scale.exp() * image @ text.t()
        logits = logits if self.logit_bias is None else logits + self.logit_bias
        return logits, logits.t()

    def preprocess(self):
        """The test transform: PIL image -> (3, H, W)."""
        from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

        size = self.visual.input_resolution
        return Compose(
            [
                Resize((size, size) if self.squash else size, interpolation=InterpolationMode(self.interpolation)),
                CenterCrop(size),
                lambda image: image.convert("RGB"),
                ToTensor(),
                Normalize(self.image_mean, self.image_std),
            ]
        )


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


def _why_no_prompts(text: nn.Module) -> str:
    """The reason why the text tower `text` of open_clip cannot take prompts, or ""."""
    if hasattr(text, "pooler"):
        return ""  # a Hugging Face model, which takes them as input embeddings
    if not all(hasattr(text, name) for name in ("transformer", "token_embedding", "positional_embedding", "ln_final")):
        return f"its text tower is a {type(text).__name__}, which has no table of token embeddings"
    if not hasattr(text.transformer, "resblocks") or not all(map(is_plain_block, text.transformer.resblocks)):
        return "its text tower has attention blocks of another kind"
    if getattr(text, "use_pad_mask", False):
        return "its text tower masks padding"
    return ""


def _reading(inner: nn.Module, text: nn.Module) -> Reading:
    """How the text tower `text` of `inner` reads its tokens. open_clip's `CLIP` has other names for its settings."""
    pool = getattr(inner, "text_pool_type", getattr(text, "pool_type", "argmax"))
    end = getattr(inner, "text_eos_id", getattr(text, "eos_id", None)) if pool == "eos" else None
    if getattr(text, "cls_emb", None) is not None:
        pool = "class"
    return Reading(
        {"argmax": "end", "eos": "end"}.get(pool, pool),
        causal=getattr(text, "attn_mask", None) is not None,
        end_id=end,
        pad_id=getattr(text, "pad_id", 0),
        whole_mask=getattr(text, "correct_cls_mask", False),
    )


def convert_matrices(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert the matrices of a model of open_clip to `dtype`, in place. Norms and embeddings keep their precision.

    open_clip's own function fails for text projections with a bias (SigLIP), and forgets the queries of pools (CoCa).
    """
    for module in model.modules():
        names = [*(f"{part}_proj_weight" for part in ("in", "q", "k", "v")), "in_proj_bias"]
        names += ["text_projection", "proj", "query"]
        names += ["weight", "bias"] if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)) else []
        for name in names:
            if isinstance(value := getattr(module, name, None), nn.Parameter):
                value.data = value.data.to(dtype)


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
    convert_matrices(model, torch.float16)


def __getattr__(name: str):
    if name == "build_model":  # defined in a module that imports this one
        return imported("clip.building").build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
