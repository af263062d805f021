"""Backbone name -> frozen CLIP: OpenAI's models, any open_clip pair, a local file, the embedded model.

One way: name -> weight file (`fetch_weights`) -> tensors -> open_clip's module -> `CLIP`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import open_clip
import torch

from dassl import program
from dassl.config import declare
from dassl.utils.arguments import Parser
from dassl.utils.errors import UserError

from . import checking, listing
from .building import build_model, build_open_clip
from .model import CLIP
from .names import (
    FOLDER,
    HUB,
    OPENAI,
    TINY,
    architecture,
    check_name,
    of_open_clip,
    pair,
    pretrained_cfg,
    tokenizer_name,
)
from .tokenizers import Tokenizer, clip_tokens, hub_tokens
from .weights import cache_dir, download, hub_within_reach, read_state_dict, sha256

declare(
    "MODEL.BACKBONE.NAME",
    "RN50",
    help="a name that `python -m clip.backbones` lists, hf-hub:ORG/REPOSITORY, local-dir:FOLDER, or a file",
)
declare(
    "MODEL.BACKBONE.PRETRAINED", True, help="for trainers with a backbone of their own; a CLIP is always pretrained"
)
declare(
    "MODEL.BACKBONE.WEIGHTS", "", help="a local weight file (.pt, .pth, .safetensors) used instead of the named weights"
)

DESCRIPTION = """List all backbones and what works on each.

    python -m clip.backbones siglip clipa          only the names that contain one of the words
    python -m clip.backbones --config ViT-B-16-SigLIP2:webli
    python -m clip.backbones --check mobileclip    compare text features with open_clip's own
"""
PRECISIONS = ("fp32", "fp16", "amp", "bf16")

TINY_FILE = Path(__file__).parent / "weights" / "tinyclip.safetensors"
TINY_SHA256 = "782a45f947e370c4a665845aecba4de583af3949d72b8ba1274938f8f8fb923b"
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # weights in a folder or repository of open_clip


def effective_precision(precision: str, device: str | torch.device) -> tuple[str, str]:
    """The precision that runs on `device`, and a one-line message if it differs from `precision` (else "")."""
    if precision not in PRECISIONS:
        raise UserError(f"PREC: unknown precision {precision!r}, expected one of {', '.join(PRECISIONS)}.")
    if torch.device(device).type == "cpu" and precision in ("fp16", "amp"):
        return (
            "fp32",
            f"PREC {precision} needs a CUDA device: the towers run in fp32 here (the half precision of CPUs is bf16)",
        )
    return precision, ""


def tokenizer_of(name: str, weights: str = "", cache: str | os.PathLike | None = None) -> Tokenizer:
    """The tokenizer of backbone `name`: CLIP's, or from files beside `weights` or the hub (see `hub_tokens`)."""
    if not tokenizer_name(name):
        return clip_tokens()
    folder = name.removeprefix(FOLDER) if name.startswith(FOLDER) else str(Path(weights).parent) if weights else ""
    return hub_tokens(name, folder, str(cache) if cache else None)


def load_backbone(
    name: str,
    *,
    weights: str = "",
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    cache: str | os.PathLike | None = None,
) -> CLIP:
    """The frozen model `name` in eval mode on `device`.

    Args:
        name: one of `available_models()`, an open_clip pair ARCHITECTURE:TAG, a model in open_clip's format as
            hf-hub:ORG/REPOSITORY or local-dir:FOLDER, or a weight file.
        weights: a local weight file to use instead of the named weights.
        precision: one of PRECISIONS.
        device: of torch.
        cache: folder for downloads, see `fetch_weights`.

    Raises:
        UserError: unknown name, failed download, or unsuitable weights. The message says what to do.
        FileNotFoundError: `weights` does not exist.
    """
    check_name(name, weights)
    if name not in OPENAI and name != TINY and os.path.isfile(name):
        name, weights = Path(name).name, name
    path = Path(weights) if weights else fetch_weights(name, cache)
    tensors = read_state_dict(path)
    if of_open_clip(name) and "token_remap" not in tensors:
        tokenizer = tokenizer_of(name, weights, cache)
        model = build_open_clip(architecture(name), tensors, precision, pretrained_cfg(name), tokenizer)
    else:
        model = build_model(tensors, precision)
    model.name = name
    model.weights_hash = sha256(path)
    return model.to(device)


def weights_source(name: str) -> str:
    """Source of the weights of a named model: a URL, a repository of the Hugging Face hub, or the embedded file.

    OpenAI's names prefer the URL, which OpenAI published; pairs prefer the hub, as open_clip does.
    """
    if name == TINY:
        return str(TINY_FILE)
    if name.startswith((FOLDER, HUB)):
        return name.partition(":")[2]
    found = open_clip.get_pretrained_cfg(*pair(name))
    first, second = ("url", "hf_hub") if name in OPENAI else ("hf_hub", "url")
    return found.get(first) or found.get(second, "")


def fetch_weights(name: str, cache: str | os.PathLike | None = None) -> Path:
    """Path of the weight file of a named model or pair, downloaded on first use.

    A URL of OpenAI's models is downloaded into `cache` (default `~/.cache/clip`, OpenAI's own). For everything else
    open_clip's downloader is used, whose default is the cache of the Hugging Face hub.

    Raises UserError if the file cannot be downloaded, or is damaged.
    """
    source = weights_source(name)
    if name == TINY:
        if sha256(TINY_FILE) != TINY_SHA256:
            raise UserError(
                f"{source} is damaged (its SHA-256 is not {TINY_SHA256}): restore it with `git checkout -- {source}`."
            )
        return TINY_FILE
    if name in OPENAI and source.startswith(("http:", "https:")):
        return download(source, cache or cache_dir())
    if name.startswith(FOLDER):
        if found := [path for file in FILES if (path := Path(source) / file).is_file()]:
            return found[0]
        raise UserError(f"MODEL.BACKBONE.NAME {name}: no weights in {source}; expected {' or '.join(FILES)}.")
    found, unreachable = {"hf_hub": source} if name.startswith(HUB) else open_clip.get_pretrained_cfg(*pair(name)), ""
    try:
        if found.get("hf_hub"):
            with hub_within_reach() as unreachable:
                return Path(open_clip.download_pretrained(found, cache_dir=str(cache) if cache else None))
        return download(source, cache or cache_dir())
    except UserError:
        raise
    except Exception as error:  # the downloaders have many classes of errors
        reason = unreachable or (str(error).splitlines() or [type(error).__name__])[0][:200]
        place = source if source.startswith("http") else f"the Hugging Face repository {source.rstrip('/')}"
        raise UserError(
            f"The weights of {name} cannot be downloaded ({reason}). "
            f"Download them by hand from {place} and give the file as MODEL.BACKBONE.WEIGHTS; "
            f"MODEL.BACKBONE.NAME stays {name}."
        ) from None


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", metavar="WORD", nargs="*", help="list only the names that contain a WORD")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--config", metavar="NAME", help="print the settings of a configuration for backbone NAME")
    choice.add_argument("--check", action="store_true", help="build and compare small models (minutes for all)")
    choice.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.config:
        print(listing.as_yaml(options.config))
        return 0
    wanted = [word.lower() for word in options.words]
    names = [name for name in listing.all_names() if not wanted or any(word in name.lower() for word in wanted)]
    if not names:
        raise UserError(f"No backbone has {' or '.join(options.words)} in its name; without a WORD all are listed.")
    if options.check:
        return checking.check_all(names)
    found = [listing.describe(name) for name in names]
    print(json.dumps([asdict(each) for each in found], indent=2) if options.json else listing.table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
