"""Independent vision-language prompts (IVLP; Khattak et al., "MaPLe", CVPR 2023, and "PromptSRC", ICCV 2023), trainer
name IVLP.

Deep prompts in both towers that are learned independently, placed as MaPLe's. PROMPT_DEPTH_VISION 0 leaves the image
tower frozen (deep language prompts); PROMPT_DEPTH_TEXT 0 keeps the text features of hand-made prompts (deep visual
prompts). Published settings: 2 + 2 prompts in all 12 layers (MaPLe's repository), 4 + 4 in 9 layers (PromptSRC's).
"""

from __future__ import annotations

from torch import Tensor, nn

from clip.image_tower import ImageTower
from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.engine import TRAINER_REGISTRY

from .deep_trainer import DeepTrainer, declare_deep, depth_of, drawn, first_words
from .settings import declare_shared


def declare_independent(section: str, prompts: int, depth: int) -> None:
    """Declare the settings of independent prompts in cfg.TRAINER.<section>."""
    key = f"TRAINER.{section}."
    declare_shared(section, PREC="fp16", CTX_INIT="a photo of a")
    declare(key + "N_CTX_TEXT", prompts, allowed=between(0, 1000), help="text prompts per layer")
    declare(key + "N_CTX_VISION", prompts, allowed=between(0, 1000), help="visual prompts per layer")
    text = "layers of the text tower with prompts, 1: the input only, -1: all, 0: none (hand-made prompts)"
    declare(key + "PROMPT_DEPTH_TEXT", depth, allowed=between(-1, 1000), help=text)
    text = "layers of the image tower with prompts, 1: the input only, -1: all, 0: none (frozen features)"
    declare(key + "PROMPT_DEPTH_VISION", depth, allowed=between(-1, 1000), help=text)
    declare_deep(section)


class Independent(nn.Module):
    """Maker of independent prompts: text (I_t, n_t, D) and visual (I_v, n_v, W), or None where the depth is 0.

    `text`, `visual`: (depth, prompts per layer) of each tower.
    """

    def __init__(self, tower: TextTower, text: tuple[int, int], visual: tuple[int, int], init: str):
        super().__init__()
        self.start, self.shapes, self.text, self.visual = None, [], bool(text[0]), bool(visual[0])
        if self.text:
            depth = depth_of("PROMPT_DEPTH_TEXT", text[0], len(tower.blocks))
            self.shapes.append((depth, text[1], tower.width))
            self.start = first_words(tower, text[1], init)[0]
        if self.visual:
            layers, W, _ = ImageTower(tower.clip).require_prompts()
            self.shapes.append((depth_of("PROMPT_DEPTH_VISION", visual[0], layers), visual[1], W))

    def initial(self) -> list[nn.Parameter]:
        return drawn(self.shapes, self.start)

    def forward(self, *raw: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return raw[0] if self.text else None, raw[-1] if self.visual else None


declare_independent("IVLP", prompts=2, depth=12)


@TRAINER_REGISTRY.register()
class IVLP(DeepTrainer):
    """Independent prompts: one set for all tasks, one per task (TSC), or generated from task names (SHARING soft)."""

    section = "IVLP"

    @classmethod
    def maker(cls, c, tower: TextTower) -> Independent:
        text, visual = (c.PROMPT_DEPTH_TEXT, c.N_CTX_TEXT), (c.PROMPT_DEPTH_VISION, c.N_CTX_VISION)
        return Independent(tower, text, visual, c.CTX_INIT)

    @classmethod
    def text_prompts(cls, c) -> int:
        return c.N_CTX_TEXT if c.PROMPT_DEPTH_TEXT else 0

    def problems(self, cfg) -> list[str]:
        c, key = cfg.TRAINER[self.section], f"TRAINER.{self.section}."
        found = self.image_problems(cfg) if c.PROMPT_DEPTH_VISION else []
        for kind in ("TEXT", "VISION"):
            if c[f"PROMPT_DEPTH_{kind}"] and not c[f"N_CTX_{kind}"]:
                found.append(f"{key}N_CTX_{kind} 0 needs {key}PROMPT_DEPTH_{kind} 0, found {c[f'PROMPT_DEPTH_{kind}']}")
        if not c.PROMPT_DEPTH_TEXT and not c.PROMPT_DEPTH_VISION:
            found.append(f"{key}PROMPT_DEPTH_TEXT 0 and {key}PROMPT_DEPTH_VISION 0: nothing would be learned")
        return found + super().problems(cfg)
