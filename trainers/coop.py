"""CoOp (Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, eq. 3), trainer name CoOp.

The context of the prompts is learned: one for all classes, or one per class (CSC). On a suite that is trained jointly,
TSC gives every task a context of its own; `MTCoOpHard` is the same under the names of the SoftCPT comparison.
"""

from __future__ import annotations

from dassl.config import at_least, declare
from dassl.engine import TRAINER_REGISTRY

from .base import PRECISION_HELP, PRECISIONS
from .mtcoop_hard import MTCoOpHard
from .prompts import POSITIONS

KEY = "TRAINER.COOP."
declare(KEY + "PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)
declare(KEY + "N_CTX", 16, allowed=at_least(1), help="L, context tokens")
declare(KEY + "CTX_INIT", "", help="initial words of the context, of N_CTX tokens; '': drawn from N(0, 0.02)")
declare(KEY + "CSC", False, help="a context of its own for every class")
declare(KEY + "TSC", False, help="a context of its own for every task of a suite")
declare(KEY + "CLASS_TOKEN_POSITION", "end", allowed=POSITIONS, help="of the class name")


@TRAINER_REGISTRY.register()
class CoOp(MTCoOpHard):
    """Learned contexts: (L, D), (T, L, D) with TSC, or (N, L, D) with CSC. Cross-entropy as everywhere."""

    section = "COOP"
    position = "CLASS_TOKEN_POSITION"
    words_set_length = False
