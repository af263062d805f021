"""Compare the text features of this project with open_clip's own, on small random models of its architectures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn

from dassl.utils import UserError

from .additions import Additions, Tokens
from .building import create_open_clip, finish
from .model import CLIP
from .names import architecture, check_name, context_length, model_config, text_tower_kind, tokenizer_name
from .text_tower import TextTower
from .tokenizers import Tokenizer, clip_tokens, pad_ids

SENTENCES = ("a photo of a cat.", "a very old house by the sea", "x", "Wow?!?!?! a dog")
WIDTH, LAYERS, WORDS = 64, 2, 400
# Start, end and padding of the tokenizers that open_clip names, by a part of their name; sep: dropped by CLIPA.
SPECIAL = {
    "siglip2": ((), (1,), 0),
    "siglip": ((), (1,), 1),
    "bert-base-uncased": ((101,), (), 0),
    "nllb": ((256,), (2,), 1),
    "roberta": ((0,), (2,), 1),
    "xlm-v": ((0,), (2,), 1),
    "bert": ((2,), (3,), 0),
}
FAMILIES = {"nllb": "m2m_100", "xlm-roberta": "xlm-roberta", "roberta": "roberta", "mt5": "mt5", "bert": "bert"}


@dataclass
class NumberedWords:
    """A stand-in for tokenizers of Hugging Face, whose files are elsewhere: one id per word."""

    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int
    limit: int

    def encode(self, text: str, inside: bool = False) -> list[int]:
        return [10 + sum(word.encode()) % 80 for word in text.split()]

    def word(self, token: int) -> str:
        return str(token)


def small_model(name: str, seed: int = 0) -> tuple[CLIP, nn.Module]:
    """A random CLIP with a small text tower of the architecture of backbone `name`, and open_clip's text tower in it.

    Widths, layers and vocabulary are small; everything else is as open_clip's configuration says. The image tower is a
    small ViT. Raises UserError if open_clip cannot build it.
    """
    config = model_config(name) or model_config("ViT-B-16")
    text = {**config["text_cfg"], "width": WIDTH, "heads": 2, "layers": LAYERS}
    tokens: Tokenizer = clip_tokens()
    if hub := tokenizer_name(name):
        start, end, pad = next((value for key, value in SPECIAL.items() if key in hub.lower()), ((), (1,), 0))
        tokens = NumberedWords(start, end, pad, context_length(name))
        text["vocab_size"] = WORDS
    kind = text_tower_kind(name)
    joint = WIDTH if text.get("proj_type") == "none" else 48
    vision = {"layers": 1, "width": WIDTH, "patch_size": 8, "image_size": 16}
    own = {"embed_dim": joint, "vision_cfg": vision, "text_cfg": text}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "Hugging Face":
            inner = create_open_clip("ViT-B-16-SigLIP", **own | {"text_cfg": {"width": WIDTH, "heads": 1, "layers": 1}})
            inner.text = _small_hub_text(config["text_cfg"], joint, tokens)
        else:
            if "multimodal_cfg" in config:
                own["multimodal_cfg"] = {**config["multimodal_cfg"], "width": WIDTH, "heads": 1, "layers": 1}
            inner = create_open_clip(architecture(name) if model_config(name) else "ViT-B-16", **own)
        for parameter in inner.parameters():  # open_clip's own start hides mistakes: equal norms, no biases
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    inner.eval()
    model = finish(inner, "fp32", tokens)
    model.name = name
    return model, inner


def _small_hub_text(text: dict, joint: int, tokens: Tokenizer) -> nn.Module:
    """A small random text tower of Hugging Face, of the family of open_clip's configuration `text`."""
    try:
        from transformers import AutoConfig
    except ImportError:
        raise UserError("its text tower needs the package transformers: pip install -r requirements-hf.txt") from None
    name = text["hf_model_name"]
    family = next((value for key, value in FAMILIES.items() if key in name.lower()), "bert")
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 96}
    if family == "m2m_100":
        ends = {
            f"{side}_{what}" for side in ("encoder", "decoder") for what in ("layers", "attention_heads", "ffn_dim")
        }
        sizes = {"d_model": WIDTH, **dict.fromkeys(ends, 2)}
    elif family == "mt5":
        sizes = {"d_model": WIDTH, "num_layers": LAYERS, "num_heads": 2, "d_kv": 32, "d_ff": 96}
    config = AutoConfig.for_model(family, vocab_size=WORDS, pad_token_id=tokens.pad, **sizes)
    pool, projection = text.get("hf_pooler_type", "mean_pooler"), text.get("hf_proj_type", "mlp")
    found = HFTextEncoder("", joint, config, pool, projection)
    if config.is_encoder_decoder:  # as open_clip does if it reads the configuration from the hub
        found.transformer = found.transformer.encoder
    return found


def own_features(inner: nn.Module, ids: Tensor) -> Tensor:
    """Text features (N, d) of token ids (N, S) as open_clip's own `encode_text` computes them, not normalised."""
    found = inner.encode_text(ids, normalize=False)
    return found[0] if isinstance(found, tuple) else found


@torch.no_grad()
def check(name: str) -> float:
    """Largest relative difference between open_clip's text features and those of prompts, for sentences that fit.

    Prompts of learned tokens are built, too. Raises UserError: the backbone takes no prompts; the message says why.
    """
    check_name(name)
    model, inner = small_model(name)
    tower = TextTower(model)
    tokens, limit = tower.tokenizer, tower.context_length
    ids = [[*tokens.start, *tokens.encode(text), *tokens.end] for text in SENTENCES]
    fitting = [text for text, row in zip(SENTENCES, ids, strict=True) if len(row) <= limit]
    expected = own_features(inner, pad_ids([row for row in ids if len(row) <= limit], tokens.pad, limit))
    found = tower.encode(fitting)
    worst = max(((a - b).norm() / b.norm()).item() for a, b in zip(found, expected, strict=True))
    prompts = tower.texts(fitting[:1])
    if model.reading is not None:  # prompts in every layer
        values = torch.zeros(1, LAYERS, 1, tower.width)
        worst = max(worst, 0.0 if tower(prompts, Additions(Tokens(values, insert=True))).isfinite().all() else math.inf)
    return worst


def check_all(names: list[str], tolerance: float = 1e-5) -> int:
    """Check backbones and print a line for each; return the exit code: 1 if one differs or takes no prompts."""
    wrong = 0
    for name in names:
        try:
            difference = check(name)
            state = f"differs from open_clip by {difference:.1e}" if not difference < tolerance else f"{difference:.1e}"
            wrong += not difference < tolerance
        except UserError as error:
            state, wrong = f"no prompts: {error}", wrong + 1
        print(f"{name:<50}  {state}", flush=True)
    print(f"{len(names) - wrong} of {len(names)} backbones build prompts whose features equal open_clip's")
    return int(bool(wrong))
