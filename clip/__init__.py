"""The frozen CLIP: architectures, weights and tokenizer come from open_clip; names and towers are this project's.

`from clip import clip` gives what CoOp-style code imports; trainers here use `TextTower` and `ImageTower`.
"""

import dassl  # noqa: F401  before the packages both need: it says which are missing

from .clip import available_models, build_model, load, tokenize

__all__ = ["available_models", "build_model", "load", "tokenize"]
