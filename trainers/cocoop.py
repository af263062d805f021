"""CoCoOp (Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022), trainer name CoCoOp.

A small network h maps the image feature x to a bias that is added to every context token, v_m(x) = v_m + h(x) (section
3.2). So each image has its own prompts, and the classes are encoded for each image:
p(y | x) = softmax_y s cos(x, g(t_y(x))) (eq. 3).

All prompts of one image begin with the same context, which the text tower computes once per image. A batch of images is
one call with one group per image, so larger batches than in the published code (1 image) are possible. Only the classes
of the image's task are encoded, in training and in testing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .contexts import ContextLearner, ContextTrainer
from .prompts import PromptLearner
from .rows import apply_by_task
from .settings import declare_shared

declare_shared("COCOOP", PREC="fp16", N_CTX=4, CTX_INIT="a photo of a", TSC=False)

PIECE = 1024  # prompts encoded at a time in a test: about 100 MiB of activations with CLIP's own text towers


class MetaNet(nn.Module):
    """Linear(d, d // 16), ReLU, Linear(d // 16, D): normalised image features (B, d) -> biases (B, D)."""

    def __init__(self, d: int, width: int):
        super().__init__()
        self.linear1 = nn.Linear(d, max(d // 16, 1))
        self.linear2 = nn.Linear(max(d // 16, 1), width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(x)))


class ConditionalPromptLearner(PromptLearner):
    """Contexts and meta networks, shared by all tasks (`ctx`, `meta_net`) or one per task (`learners.<t>`,
    `meta_nets.<t>`).
    """

    per_task = ("learners", "meta_nets")

    def __init__(self, tower: TextTower, names, n_ctx: int = 4, init: str = "a photo of a", **options):
        super().__init__(tower, names, n_ctx, init, **options)
        if self.sharing == "task":
            self.meta_nets = nn.ModuleList(MetaNet(tower.output_dim, tower.width) for _ in self.owners)
        else:
            self.meta_net = MetaNet(tower.output_dim, tower.width)

    def conditioned(self, features: Tensor, task: Tensor) -> Tensor:
        """Compute contexts (G, L, D) from image features (G, d); task (G,): task in which each image is classified."""
        x = F.normalize(features.float(), dim=-1)
        if self.sharing == "all":
            return self.ctx + self.meta_net(x)[:, None]
        bias = apply_by_task(x, task, self.meta_nets)
        return torch.stack([learner["ctx"] for learner in self.learners])[task] + bias[:, None]


class ConditionalPrompts(ContextLearner):
    """The learner of CoCoOp: logits of pairs of an image and a class."""

    def __init__(self, tower: TextTower, space: TaskSpace, **options):
        super().__init__(tower, space, prompts=ConditionalPromptLearner, **options)

    def text(self, select: Tensor, added=None) -> None:
        """Return None: text features depend on the image, see `pairs`."""

    def pairs(self, features: Tensor, image: Tensor, column: Tensor) -> Tensor:
        """Text features (M, d) of the classes `column` (M,) for the images `image` (M,) of `features` (B, d)."""
        shared, tasks = self.prompt_learner.sharing == "all", self.space.num_tasks
        owner = torch.zeros_like(column) if shared else self.task_of_column[column]
        contexts, group = (image * tasks + owner).unique(return_inverse=True)  # one per image and owner
        ctx = self.prompt_learner.conditioned(features[contexts // tasks], contexts % tasks)  # (G, L, D)
        return self.tower(self.prompt_learner.names.fill(ctx, group, column))

    def logits(self, image: Tensor, text: None, columns: Tensor, task: Tensor | None = None) -> Tensor:
        """Logits s cos(x_b, w_c(x_b)) (B, N'). With `task`, other tasks' classes are not encoded: -inf."""
        x = F.normalize(image.float(), dim=-1)
        wanted = torch.ones(len(x), len(columns), dtype=torch.bool, device=x.device)
        if task is not None:
            wanted = self.task_of_column[columns] == task[:, None]
        row, position = wanted.nonzero(as_tuple=True)  # (M,), image by image
        piece = max(len(row), 1) if torch.is_grad_enabled() else PIECE
        found = []
        for rows, positions in zip(row.split(piece), position.split(piece), strict=True):
            with self.tower.autocast():
                w = self.pairs(image, rows, columns[positions])
            found.append((x[rows] * F.normalize(w.float(), dim=-1)).sum(-1))
        empty = torch.full(wanted.shape, float("-inf"), device=x.device)
        return empty.index_put((row, position), self.scale.float() * torch.cat(found))


@TRAINER_REGISTRY.register()
class CoCoOp(ContextTrainer):
    """Contexts that depend on the image. With TSC, each task has its own context and network."""

    section = "COCOOP"
    learner = ConditionalPrompts
    position = ""
