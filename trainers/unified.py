"""Unified prompts (Zang et al., "Unified Vision and Language Prompt Learning", section 3.3): one set of tokens for both
towers, and the ablations of their Table 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.image_tower import ImageTower
from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.utils import UserError

from .deep import DeepLearner
from .prompt_sets import LearnedPrompts, TaskPrompts
from .rows import task_owners
from .settings import arguments, declare_shared, unread_problems

MODES = ("upt", "joint", "shared", "mlp")
READERS = {"WIDTH": ("upt", "shared", "mlp"), "HEADS": ("upt",), "HIDDEN": ("upt", "mlp")}  # setting: modes


def declare_unified(section: str) -> None:
    """Declare the settings of unified prompts in cfg.TRAINER.<section>."""
    key = f"TRAINER.{section}."
    declare_shared(section, PREC="fp16")
    declare(
        key + "MODE",
        "upt",
        allowed=MODES,
        help="maker of both halves; upt: a transformer; joint: independent prompts; shared: one prompt; mlp: an MLP",
    )
    declare(
        key + "N_CTX",
        8,
        allowed=between(2, 1000),
        help="n, number of unified prompts per layer, half of them for each tower",
    )
    declare(
        key + "DEPTH", 0, allowed=between(0, 1000), help="layers of each tower with prompts; 1: the input only, 0: all"
    )
    declare(
        key + "WIDTH",
        0,
        allowed=between(0, 16_384),
        help="D_u, width of the unified prompts; 0: width of the text tower",
    )
    declare(key + "HEADS", 0, allowed=between(0, 1024), help="attention heads of mode upt; 0: D_u / 64")
    declare(key + "HIDDEN", 0, allowed=between(0, 16_384), help="hidden width of the FFN (upt) or MLP (mlp); 0: 4 D_u")
    declare_shared(section, DROPOUT=0.0)


def unified_problems(key: str, c) -> list[str]:
    """Contradictions among the settings of section `c`, whose keys begin with `key`."""
    found = []
    if c.N_CTX % 2:
        found.append(f"{key}N_CTX {c.N_CTX}: each tower gets half of the prompts, expected an even number")
    found += unread_problems(key, c, "MODE", READERS)
    if c.MODE == "upt" and c.WIDTH and c.HEADS and c.WIDTH % c.HEADS:
        found.append(f"{key}HEADS {c.HEADS} does not divide {key}WIDTH {c.WIDTH}")
    return found


def unified_settings(c) -> dict:
    """Keyword arguments of `Unify` from a section of the configuration."""
    return arguments(c, "MODE", "N_CTX", "DEPTH", "WIDTH", "HEADS", "HIDDEN")


def unified_critical_settings(c, width: int) -> dict[str, object]:
    """Settings of a section that a checkpoint's shapes do not reveal. `width`: width of the text tower."""
    return {"HEADS": c.HEADS or default_heads(c.WIDTH or width)} if c.MODE == "upt" else {}


def default_heads(width: int) -> int:
    """One head per 64 dimensions, as in CLIP's layers; fewer if this number does not divide the width."""
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)


class UnifiedTransformer(nn.Module):
    """U' = SA(U) + LN(U), U^ = FFN(LN(U')) + LN(U'): (..., n, D_u) -> (..., n, D_u).

    The n tokens of a layer attend to each other; layers and tasks are independent. As in the paper, attention takes the
    unnormalised U, and both residual paths are normalised.
    """

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        if width % heads:
            raise UserError(f"Unified prompts of width {width} cannot have {heads} heads: HEADS must divide WIDTH.")
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ffn = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, u: Tensor) -> Tensor:
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for t in self.qkv(u).chunk(3, -1)
        )  # (.., h, n, e)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)
        mixed = self.norm_2(self.merge(attended) + self.norm_1(u))
        return self.ffn(mixed) + mixed


class Unify(nn.Module):
    """Map raw prompts to the prompts of both towers: text (..., I_t, m, D) and visual (..., I_v, m, W), m = n / 2.

    `shapes` lists the shapes of the raw prompts (..., *shape) that `forward` takes. I is the depth of the deeper tower;
    a tower with fewer layers ignores the rest of U.

    upt, mlp: U (I, n, D_u); a network mixes the tokens of each layer (upt) or maps each token separately (mlp). The
        first m tokens are for the text tower, the others for the image tower.
    shared: U (I, m, D_u), the same tensor for both towers.
    joint: independent prompts (I_t, m, D) and (I_v, m, W).

    If the width of a half differs from its tower, a linear map (shared by all layers) is applied.
    """

    def __init__(
        self,
        tower: TextTower,
        *,
        mode: str = "upt",
        n_ctx: int = 8,
        depth: int = 0,
        width: int = 0,
        heads: int = 0,
        hidden: int = 0,
    ):
        super().__init__()
        visual_layers, W, self.patch = ImageTower(tower.clip).require_prompts()
        D, D_u, m = tower.width, width or tower.width, n_ctx // 2
        if depth > max(len(tower.blocks), visual_layers):
            raise UserError(
                f"DEPTH {depth}: the text tower has {len(tower.blocks)} layers and the image tower {visual_layers}; "
                "0 stands for all layers."
            )
        self.mode, self.m = mode, m
        self.depths = tuple(min(depth or layers, layers) for layers in (len(tower.blocks), visual_layers))
        if mode == "joint":
            self.shapes = [(self.depths[0], m, D), (self.depths[1], m, W)]
            return
        self.shapes = [(max(self.depths), m if mode == "shared" else n_ctx, D_u)]
        if mode == "upt":
            self.network = UnifiedTransformer(D_u, heads or default_heads(D_u), hidden or 4 * D_u)
        elif mode == "mlp":
            hidden = hidden or 4 * D_u
            self.network = nn.Sequential(nn.Linear(D_u, hidden), nn.GELU(), nn.Linear(hidden, D_u))
        self.text_map = nn.Linear(D_u, D) if D_u != D else nn.Identity()
        self.visual_map = nn.Linear(D_u, W) if D_u != W else nn.Identity()
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # a random bias would hide initial differences of tokens

    def initial(self) -> list[nn.Parameter]:
        """Initial raw prompts as parameters: N(0, 0.02) as in CoOp; visual prompts of joint as in VPT."""
        found = [nn.Parameter(torch.empty(*shape).normal_(std=0.02)) for shape in self.shapes]
        if self.mode == "joint":
            bound = (6 / (3 * self.patch**2 + self.shapes[1][-1])) ** 0.5
            nn.init.uniform_(found[1], -bound, bound)
        return found

    def forward(self, *raw: Tensor) -> tuple[Tensor, Tensor]:
        text = visual = raw[0]
        if self.mode == "joint":
            return raw
        if self.mode != "shared":
            text, visual = self.network(raw[0]).split(self.m, -2)
        text, visual = text[..., : self.depths[0], :, :], visual[..., : self.depths[1], :, :]
        return self.text_map(text), self.visual_map(visual)


def learned_sets(
    tower: TextTower, space: TaskSpace, *, shared: bool = True, dropout: float = 0.0, **unified
) -> DeepLearner:
    """Learner with directly learned raw prompts and network: one set for all tasks (`shared`) or one per task."""
    owners = None if shared else task_owners(space)
    sets = TaskPrompts(lambda: LearnedPrompts(Unify(tower, **unified)), owners)
    return DeepLearner(tower, space, sets, unified["n_ctx"] // 2, dropout)
