"""What a method needs of a backbone, checked by the backbone's name before weights are loaded."""

from __future__ import annotations

import os

from clip.backbones import tokenizer_of
from clip.image_tower import output_error, prompt_error
from clip.names import image_tower_kind, text_tower_kind, tokenizer_name
from clip.text_tower import layers_error
from dassl.config import method_name


class BackboneNeeds:
    """Checks that a trainer calls in its `problems`. Each returns the problems of a configuration, one text each."""

    reads_weights = True  # False (dry run): neither weight files nor tokenizers are read

    def image_problems(self, cfg, first: int = 0) -> list[str]:
        """Problems of a method that adds to the image tower from layer `first` on: a backbone without additions, or
        the feature bank where there are no frozen layers before.
        """
        found = [bank_problem(cfg)] if cfg.DATALOADER.FEATURE_BANK and not first else []
        name, weights = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS
        if not self.reads_weights and (weights or os.path.isfile(name)):
            return found
        kind = image_tower_kind(name, weights)
        return found if kind in ("ViT", "a ViT with a pool") else [*found, prompt_error(name, kind)]

    def output_problems(self, cfg, what: str) -> list[str]:
        """Problems of a method that reads `what`, outputs that only the ViT and the ResNet of CLIP give."""
        name = cfg.MODEL.BACKBONE.NAME
        kind = "ViT" if os.path.isfile(name) else image_tower_kind(name)
        return [] if kind in ("ViT", "a ResNet") else [output_error(name, what, kind)]

    def text_problems(self, cfg) -> list[str]:
        """Problems of a method that adds to layers of the text tower: a backbone whose layers take no additions."""
        name = cfg.MODEL.BACKBONE.NAME
        return [layers_error(name)] if text_tower_kind(name) == "Hugging Face" else []

    def count_tokens(self, cfg, text: str) -> int:
        """Number of tokens of a text for the backbone; 0 in a dry run whose tokenizer would have to be fetched."""
        name, weights = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS
        if tokenizer_name(name) and not self.reads_weights:
            return 0
        return len(tokenizer_of(name, weights).encode(text.replace("_", " ")))


def bank_problem(cfg) -> str:
    return (
        f"DATALOADER.FEATURE_BANK True: {method_name(cfg)} needs the images themselves, not features of the frozen "
        "tower; set it to False"
    )
