"""The frozen CLIP: open_clip provides architectures, weights and tokenizer; this project provides names and towers.

CoOp-style code uses `from clip import clip`; the trainers of this project use `TextTower` and `ImageTower`.
"""

from dassl import program  # first, because dassl reports which required packages are missing

if program.runs(__name__):  # python -m clip.backbones; this module must not be imported before it runs
    program.begin()
else:
    from .clip import available_models, build_model, load, tokenize

__all__ = ["available_models", "build_model", "load", "tokenize"]
