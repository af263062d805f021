"""Settings that many methods share: defined once, with allowed values and help."""

from __future__ import annotations

from clip.backbones import PRECISIONS
from dassl.config import at_least, between, declare

POSITIONS = ("end", "middle", "front")  # positions of the class name, as in CoOp: at the end, …

PRECISION = "precision of the frozen towers (prompts: fp32). fp16 and amp need CUDA, a CPU uses fp32; bf16 always works"
SHARED = {  # name: (allowed values, help)
    "PREC": (PRECISIONS, PRECISION),
    "N_CTX": (at_least(1), "L, number of context tokens"),
    "CTX_INIT": (None, "initial words of the context (N_CTX tokens); '': random values from N(0, 0.02)"),
    "CSC": (None, "one context per class"),
    "TSC": (None, "one context per task of a suite"),
    "CLASS_TOKEN_POSITION": (POSITIONS, "position of the class name"),
    "DROPOUT": (between(0, 0.9), "dropout rate of the visual prompts"),
}


def declare_shared(section: str, **defaults) -> None:
    """Declare settings of SHARED for the method in cfg.TRAINER.<section>, with its defaults: N_CTX=16, …"""
    for name, default in defaults.items():
        allowed, text = SHARED[name]
        declare(f"TRAINER.{section}.{name}", default, allowed=allowed, help=text)
