"""CoCoOp (Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022), trainer name CoCoOp.

A small network h turns the image feature x into a bias that is added to every context token, v_m(x) = v_m + h(x)
(section 3.2), so each image has prompts of its own and its classes are encoded for it alone:
p(y | x) = softmax_y s cos(x, g(t_y(x))) (eq. 3).

The prompts of one image begin with the same context, which the text tower computes once an image; a batch of images is
one call with an image a group, so the batch need not be of size 1 as in the published code. Only the classes of the
image's own task are encoded, in training and in testing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import at_least, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError

from .base import PRECISION_HELP, PRECISIONS
from .mtcoop_hard import MTCoOpHard
from .prompts import PromptLearner

KEY = "TRAINER.COCOOP."
declare(KEY + "PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)
declare(KEY + "N_CTX", 4, allowed=at_least(1), help="L, context tokens")
declare(
    KEY + "CTX_INIT",
    "a photo of a",
    help="initial words of the context, of N_CTX tokens; '': drawn from N(0, 0.02)",
)
declare(KEY + "TSC", False, help="a context and a meta network of its own for every task of a suite")

PIECE = 1024  # prompts that a test encodes at a time: some 100 MiB of activations with CLIP's own text towers


class MetaNet(nn.Module):
    """Linear(d, d // 16), ReLU, Linear(d // 16, D): normalised image features (B, d) -> biases (B, D)."""

    def __init__(self, d: int, width: int):
        super().__init__()
        self.linear1 = nn.Linear(d, max(d // 16, 1))
        self.linear2 = nn.Linear(max(d // 16, 1), width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(x)))


class ConditionalPromptLearner(PromptLearner):
    """Contexts and meta networks, shared by all tasks (`ctx`, `meta_net`) or one a task (`learners.<t>`,
    `meta_nets.<t>`).
    """

    per_task = ("learners", "meta_nets")

    def __init__(self, tower: TextTower, space: TaskSpace, n_ctx: int, init: str, sharing: str):
        super().__init__(
            tower,
            space.classnames,
            n_ctx,
            init,
            sharing=sharing,
            task_of_name=space.task_of_column,
            owners=[task.owner for task in space.tasks],
        )
        if sharing == "task":
            self.meta_nets = nn.ModuleList(MetaNet(tower.output_dim, tower.width) for _ in space.tasks)
        else:
            self.meta_net = MetaNet(tower.output_dim, tower.width)

    def conditioned(self, features: Tensor, task: Tensor) -> Tensor:
        """Image features (G, d) and the task each is to be classified in (G,) -> contexts (G, L, D)."""
        x = F.normalize(features.float(), dim=-1)
        if self.sharing == "all":
            return self.ctx + self.meta_net(x)[:, None]
        # Every network runs, on no image if need be: an absent task gets a zero gradient, as its context does.
        bias = x.new_zeros(len(x), self.names.start.shape[-1])
        for t, net in enumerate(self.meta_nets):
            mine = (task == t).nonzero()[:, 0]
            bias = bias.index_add(0, mine, net(x[mine]).to(bias.dtype))
        return torch.stack([learner["ctx"] for learner in self.learners])[task] + bias[:, None]


class ConditionalPrompts(nn.Module):
    """What CoCoOp learns, and the text features of pairs of an image and a class."""

    def __init__(
        self, tower: TextTower, space: TaskSpace, *, n_ctx: int = 4, init: str = "a photo of a", sharing: str = "all"
    ):
        super().__init__()
        self.tower, self.tasks = tower, space.num_tasks
        self.task_of_column = space.task_of_column.to(tower.device)
        self.prompt_learner = ConditionalPromptLearner(tower, space, n_ctx, init, sharing)

    def forward(self, features: Tensor, image: Tensor, column: Tensor) -> Tensor:
        """Text features (M, d) of the classes `column` (M,) for the images `image` (M,) of `features` (B, d)."""
        shared = self.prompt_learner.sharing == "all"
        owner = torch.zeros_like(column) if shared else self.task_of_column[column]
        contexts, group = (image * self.tasks + owner).unique(return_inverse=True)  # one an image and owner
        ctx = self.prompt_learner.conditioned(features[contexts // self.tasks], contexts % self.tasks)  # (G, L, D)
        return self.tower(self.prompt_learner.names.fill(ctx, group, column))


@TRAINER_REGISTRY.register()
class CoCoOp(MTCoOpHard):
    """Contexts that depend on the image. With TSC every task of a suite has a context and a network of its own."""

    section = "COCOOP"
    prompts = ConditionalPrompts
    position = ""
    words_set_length = False

    def step(self, features: Tensor, columns: Tensor, task: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        wanted = self.task_of_column[columns] == task[:, None]
        logits = self._logits(features, columns, wanted, piece=0)
        return self.loss(logits, columns, task, target), logits

    def parse_batch_test(self, batch: dict) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """((images, task (B,)), labels (B,)): the task says which classes an image's prompts are needed of."""
        image, label = super().parse_batch_test(batch)
        return (image, batch["task"].to(self.device)), label

    def model_inference(self, images: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Images, or (images, task (B,)) -> logits (B, N).

        With their tasks given, the classes of other tasks are not computed and have -inf, which no argmax and no
        softmax can take for a prediction. Without, each class has the prompts of its own task.
        """
        images, task = images if isinstance(images, tuple) else (images, None)
        features = self.encode_images(images)
        if task is None:
            wanted = torch.ones(len(features), len(self.all_columns), dtype=torch.bool, device=self.device)
        else:
            wanted = self.space.mask(task)
        return self._logits(features, self.all_columns, wanted, PIECE)

    def text_features(self) -> Tensor:
        raise UserError("CoCoOp has no text features of a class as such: they depend on the image")

    def _logits(self, features: Tensor, columns: Tensor, wanted: Tensor, piece: int) -> Tensor:
        """s cos(x_b, w_c(x_b)) (B, N') where `wanted` (B, N') says so, else -inf; `piece` pairs at a time, 0: all."""
        x = F.normalize(features.float(), dim=-1)
        row, position = wanted.nonzero(as_tuple=True)  # (M,), image by image
        found = []
        for rows, positions in zip(*(part.split(piece or max(len(row), 1)) for part in (row, position)), strict=True):
            with self.autocast():
                text = self.model(features, rows, columns[positions])
            found.append((x[rows] * F.normalize(text.float(), dim=-1)).sum(-1))
        empty = torch.full(wanted.shape, float("-inf"), device=x.device)
        return empty.index_put((row, position), self.scale.float() * torch.cat(found))
