"""Hard sharing: CoOp (Zhou et al., "Learning to Prompt for Vision-Language Models") on several tasks, trainer name
MTCoOpHard.

CoOp-MT: one context for all tasks. CoOp-CA (TSC): one per task. CoOp-CS (CSC): one per class.
"""

from __future__ import annotations

from dassl.config import between, declare
from dassl.engine import TRAINER_REGISTRY

from .contexts import ContextTrainer
from .settings import POSITIONS, declare_shared

KEY = "TRAINER.MTCOOPH."
declare_shared("MTCOOPH", PREC="fp16")
declare(KEY + "N_CTX", 16, allowed=between(0, 1000), help="L, number of context tokens")
declare(KEY + "CTX_INIT", "", help="initial words of the context; their number of tokens sets L")
declare(KEY + "CSC", False, help="one context per class (CoOp-CS)")
declare(KEY + "TSC", False, help="one context per task (CoOp-CA)")
declare(KEY + "TOKEN_POSITION", "end", allowed=POSITIONS, help="position of the class name")


@TRAINER_REGISTRY.register()
class MTCoOpHard(ContextTrainer):
    """Trainer of CoOp-MT, CoOp-CA and CoOp-CS."""

    section = "MTCOOPH"
    position = "TOKEN_POSITION"
    words_set_length = True
