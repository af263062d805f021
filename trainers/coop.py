"""CoOp (Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, eq. 3), trainer name CoOp.

The context of the prompts is learned: one for all classes, or one per class (CSC). In joint training on a suite, TSC
gives each task its own context. `MTCoOpHard` is the same method with the settings' names of the SoftCPT comparison.
"""

from __future__ import annotations

from dassl.engine import TRAINER_REGISTRY

from .contexts import ContextTrainer
from .settings import declare_shared

declare_shared("COOP", PREC="fp16", N_CTX=16, CTX_INIT="", CSC=False, TSC=False, CLASS_TOKEN_POSITION="end")


@TRAINER_REGISTRY.register()
class CoOp(ContextTrainer):
    """Learn contexts (L, D), (T, L, D) with TSC, or (N, L, D) with CSC, by the cross-entropy."""

    section = "COOP"
