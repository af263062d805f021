"""Small models in open_clip's published format: a folder with open_clip_config.json, weights, and a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file

from clip.building import create_open_clip

VISION = {"layers": 3, "width": 64, "patch_size": 8, "image_size": 32, "head_width": 32}
TIMM = {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none", "image_size": 160}
SIGLIP = {  # as open_clip's configuration of SigLIP, but small
    "context_length": 32,
    "width": 64,
    "heads": 2,
    "layers": 3,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}
SIZES = {"vit": (VISION, 32), "timm": (TIMM, 160)}
SQUASHED = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}


def siglip(folder: Path, image: str = "vit", words: int = 49408, text: dict | None = None, **settings) -> str:
    """Make a random SigLIP-like model in `folder`; returns its name, local-dir:FOLDER.

    image: "vit" (32 pixels) or "timm" (160 pixels). words: size of the vocabulary. text: a whole other configuration of
    the text tower. settings: more settings of the text tower, e.g. hf_tokenizer_name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": SIZES[image][0],
        "text_cfg": text or {**SIGLIP, "vocab_size": words, **settings},
    }
    released = {"model_cfg": config, "preprocess_cfg": SQUASHED}
    (folder / "open_clip_config.json").write_text(json.dumps(released))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_open_clip(f"local-dir:{folder}")
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    assert isinstance(model, CustomTextCLIP)
    save_file(model.state_dict(), str(folder / "open_clip_model.safetensors"))
    return f"local-dir:{folder}"


def word_tokenizer(folder: Path, end: str = "</s>", start: str = "", pad: str = "</s>") -> int:
    """Save a tokenizer of whole words, as `transformers` reads it, in `folder`; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    names = "a photo of cat dog red dark green light blue white black only cross ring dot star the image shades colours"
    table = ["<unk>", "</s>", "<s>", "<pad>", *dict.fromkeys(f"{names} marks paper task with one class on".split())]
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(table)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [(token, table.index(token)) for token in {start, end} if token]
    words.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}".strip(), special_tokens=special)
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token=pad, eos_token="</s>")
    fast.save_pretrained(folder)
    return len(table)
