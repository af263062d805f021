"""Take a trained classifier apart: the image tower, its prompts, and a matrix or a program on its features.

Nothing here knows the methods. The learner is asked: which additions it makes to the image tower, and which function of
the tower's output its logits are. If they are linear in the normalised feature, x -> s x W + b, then W and b are read
off at the unit vectors. Whether they are linear is tested at features of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from clip.additions import Additions, TowerAdditions
from clip.merging import merged_copy
from clip.text_tower import TextTower
from dassl.config import method_name
from dassl.utils import UserError
from trainers.base import MultiTaskTrainer

PROBES = 16  # images whose features test whether a function is linear
SAME = 1e-5  # relative difference of logits that counts as rounding


class NotPortable(UserError):
    """The classifier cannot be given as an image tower and a function of its feature."""


@dataclass
class Matrix:
    """Logits scale x W + bias of features x (B, d), normalised if `normalize` is set.

    `weight` W (d, N) has unit columns if `unit` is set.
    """

    weight: Tensor
    scale: float
    bias: Tensor | None = None
    normalize: bool = True
    unit: bool = True

    def __call__(self, features: Tensor) -> Tensor:
        x = F.normalize(features, dim=-1) if self.normalize else features
        found = self.scale * x @ self.weight
        return found if self.bias is None else found + self.bias


class Program(nn.Module):
    """Logits (B, N) of features (B, d) as the learner computes them, for methods that are not a matrix."""

    def __init__(self, trainer: MultiTaskTrainer):
        super().__init__()
        self.learner, self.text, self.columns = trainer.model, trainer.prepared_text, trainer.all_columns
        self.by_task = trainer.by_task

    def forward(self, features: Tensor) -> Tensor:
        task = features.new_zeros(features.shape[0], dtype=torch.long) if self.by_task else None
        found = self.learner.logits(self.learner.image(features, task), self.text, self.columns, task)
        return found[0] if isinstance(found, tuple) else found


@dataclass
class Parts:
    """A classifier as an image tower of open_clip and a head on its features.

    Attributes:
        visual: open_clip's module of the image tower; with low-rank changes and a learned projection in its weights.
        changed: whether its weights differ from the backbone's.
        prompts: {layer: tokens (K, W)} that follow [CLS] and the patches from this layer on.
        head: features (B, d) -> logits (B, N).
    """

    visual: nn.Module
    changed: bool
    prompts: dict[int, Tensor] = field(default_factory=dict)
    head: Matrix | Program | None = None

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, N) of images (B, 3, H, W), computed by open_clip's own tower."""
        handles = [
            block.register_forward_pre_hook(_with_tokens(self.prompts[layer], self.count))
            for layer, block in enumerate(self.visual.transformer.resblocks if self.prompts else ())
            if layer in self.prompts
        ]
        try:
            return self.head(self.visual(images))
        finally:
            for handle in handles:
                handle.remove()

    @property
    def count(self) -> int:
        """1 + P, tokens of an image without prompts."""
        return self.visual.positional_embedding.shape[0]


def _with_tokens(tokens: Tensor, count: int) -> Callable:
    def hook(_, args):
        x = args[0]
        return (torch.cat([x[:, :count], tokens.expand(len(x), -1, -1)], 1), *args[1:])

    return hook


def take_apart(trainer: MultiTaskTrainer) -> Parts:
    """The parts of a trained classifier, on the CPU, in fp32.

    `trainer` has one task if the features of an image depend on the task (`trainer.by_task`).

    Raises:
        NotPortable: the text says which part of the method has no such form.
    """
    name = method_name(trainer.cfg)
    if not isinstance(trainer, MultiTaskTrainer):
        raise NotPortable(f"{name} is a trainer of its own kind: expected a learner on a frozen CLIP.")
    if trainer.by_task and trainer.space.num_tasks > 1:
        raise ValueError("features depend on the task: expected a trainer of one task")
    # A first call, after which the learner has the text features that it computes once and keeps.
    trainer.model_inference(probe_images(trainer)[:2], _task(trainer, 2))
    parts = _tower(trainer, name)
    features = trainer.tower_output(probe_images(trainer), _task(trainer, PROBES))  # (PROBES, d) or (PROBES, W)
    program = Program(trainer).eval()
    with _calls_of_text_tower() as calls:
        program(features[:2])
    if calls:
        raise NotPortable(f"{name}: its text features depend on the image, so the text tower is needed as well.")
    if trainer.part == "unprojected":
        learner, task = trainer.model, _task(trainer, 1)
        weight, bias = _linear(lambda x: learner.image(x, _as_many(task, x)), features, name)
        _set_projection(parts.visual, weight, bias)
        parts.changed, features = True, learner.image(features, _as_many(task, features))
        program = _AfterImage(program)
    parts.head = _matrix(program, features, float(trainer.model.scale)) or program
    return parts


class _AfterImage(nn.Module):
    """A program without the learner's `image`, which is part of the tower."""

    def __init__(self, program: Program):
        super().__init__()
        self.program = program

    def forward(self, features: Tensor) -> Tensor:
        p = self.program
        found = p.learner.logits(features, p.text, p.columns, None)
        return found[0] if isinstance(found, tuple) else found


def _task(trainer, count: int) -> Tensor | None:
    return torch.zeros(count, dtype=torch.long) if trainer.by_task else None


def _as_many(task: Tensor | None, x: Tensor) -> Tensor | None:
    return None if task is None else task[:1].expand(len(x))


# ---- the image tower ----


def _tower(trainer, name: str) -> Parts:
    added = trainer.additions().image or Additions()
    tokens = added.tokens
    if added.local:
        raise NotPortable(f"{name} compares texts with every local feature of an image, not with one feature.")
    if tokens is not None and (tokens.keep or tokens.share < 1):
        raise NotPortable(f"{name} reads the outputs of its tokens in the image tower beside the feature.")
    merged = replace(added, tokens=None)
    clip = merged_copy(trainer.clip, TowerAdditions(image=merged)) if merged.changes else trainer.clip
    visual = deepcopy(clip.visual).float().requires_grad_(False).eval()
    prompts = {}
    if tokens is not None and added.alters:
        for layer in tokens.layers:
            value = tokens.at(layer)[0].detach().float()
            prompts[layer] = visual.ln_pre(value) if layer == 0 and tokens.normed else value
    return Parts(visual, bool(merged.changes), {layer: value.contiguous() for layer, value in prompts.items()})


def _set_projection(visual: nn.Module, weight: Tensor, bias: Tensor) -> None:
    if isinstance(visual, ModifiedResNet):
        visual.attnpool.c_proj.weight.copy_(weight.t())
        visual.attnpool.c_proj.bias.copy_(bias)
    elif bias.abs().max() > SAME * weight.abs().max():
        raise NotPortable("The learned projection of the image tower has a bias, which a ViT has no place for.")
    else:
        visual.proj.copy_(weight)


# ---- asking the learner ----


def probe_images(trainer) -> Tensor:
    """Images (PROBES, 3, H, W) of coarse random colours, normalised like all others. Always the same."""
    draw, cfg = torch.Generator().manual_seed(0), trainer.cfg.INPUT
    coarse = [torch.rand(1, 3, 2 + i % 7, 2 + i % 7, generator=draw) for i in range(PROBES)]
    images = torch.cat([F.interpolate(one, tuple(cfg.SIZE), mode="bilinear") for one in coarse])
    mean, std = (torch.tensor(values)[:, None, None] for values in (cfg.PIXEL_MEAN, cfg.PIXEL_STD))
    return (images - mean) / std


@contextmanager
def _calls_of_text_tower() -> Iterator[list]:
    """A list that gets an entry for every call of a text tower within the block."""
    calls, original = [], TextTower.__call__

    def counted(tower, *args, **how):
        calls.append(1)
        return original(tower, *args, **how)

    TextTower.__call__ = counted
    try:
        yield calls
    finally:
        TextTower.__call__ = original


def _differ(found: Tensor, expected: Tensor) -> bool:
    """Whether values (n, N) differ by more than rounding, in relation to the largest one of their column."""
    return bool(((found - expected).abs().amax(0) > SAME * expected.abs().amax(0).clamp_min(1)).any())


@torch.no_grad()
def _values(function: Callable, x: Tensor) -> Tensor:
    return torch.cat([function(part).float() for part in x.split(256)])


def _linear(function: Callable, features: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """(W, b) of a function x W + b of unnormalised features. Raises NotPortable if it has another form."""
    bias = _values(function, torch.zeros_like(features[:1]))[0]
    weight = _values(function, torch.eye(features.shape[1])) - bias
    if _differ(features @ weight + bias, _values(function, features)):
        raise NotPortable(f"{name} changes unprojected image features by a function that is not linear.")
    return weight, bias


def _matrix(function: Callable, features: Tensor, scale: float) -> Matrix | None:
    """The matrix of a function of `features` (PROBES, d), or None if it is not one.

    A linear function of normalised features has f(x) = f(2 x), and f(x) + f(-x) = 2 b for all x.
    """
    x = features.float()
    found, twice, opposite = (_values(function, factor * x) for factor in (1, 2, -1))
    bias = (found + opposite) / 2
    if _differ(bias, bias[:1].expand_as(bias)):
        return None
    normalize = not _differ(twice, found)
    unit = torch.eye(x.shape[1])
    at, against = _values(function, unit), _values(function, -unit)
    weight, bias = (at - against) / 2, (at + against).mean(0) / 2
    norms = weight.norm(dim=0)
    same = bool(norms.min() > 0) and not _differ(norms, norms.mean().expand_as(norms))
    scale = norms.mean().item() if same else scale
    weight = F.normalize(weight, dim=0) if same else weight / scale
    known = Matrix(weight, scale, bias if bias.abs().max() > SAME else None, normalize, same)
    return None if _differ(known(x), found) else known
