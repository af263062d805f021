"""Low-rank changes of projections in both towers: their factors, how tasks share them, and the learner with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.additions import PROJECTIONS, Additions, LowRank, TowerAdditions, low_rank_shapes
from clip.layers import at_least_fp32
from clip.merging import merged_copy
from clip.model import CLIP
from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace
from dassl.utils import UserError

from .learner import Learner
from .prompt_sets import GeneratedPrompts
from .templates import Forms, class_texts

# Position: (a, b, c), the layers from a L / c to b L / c of L layers.
POSITIONS = {"all": (0, 1, 1), "bottom": (0, 1, 3), "mid": (1, 2, 3), "up": (2, 3, 3)}
POSITIONS |= {"half-bottom": (0, 1, 2), "half-up": (1, 2, 2)}


class Changed(NamedTuple):
    """One projection that is changed in I layers of a tower.

    tower: "text" or "image".
    projection: one of clip.additions.PROJECTIONS.
    layers: the I layers, counted from 0.
    inputs, outputs: widths of the projection.
    """

    tower: str
    projection: str
    layers: tuple[int, ...]
    inputs: int
    outputs: int


def layers_at(position: str, count: int, numbers: Sequence[int] = (), setting: str = "") -> tuple[int, ...]:
    """Layers at a position in a tower of `count` layers, or the layers `numbers` of a setting.

    Raises UserError if a layer does not exist, or if the position has no layer in the tower.
    """
    if numbers:
        if max(numbers) >= count:
            raise UserError(f"{setting} {tuple(numbers)}: this tower has the layers 0 to {count - 1}")
        return tuple(sorted(set(numbers)))
    first, last, parts = POSITIONS[position]
    if not (found := tuple(range(count * first // parts, count * last // parts))):
        raise UserError(f"The position {position} has no layer in a tower of {count} layers: use another position")
    return found


def changed_projections(tower: str, blocks: nn.Module, layers: Sequence[int], names: Collection[str]) -> list[Changed]:
    """The projections `names` in the `layers` of a tower with these residual attention `blocks`."""
    shapes = low_rank_shapes(blocks[0].mlp.c_fc.in_features, blocks[0].mlp.c_fc.out_features)
    return [Changed(tower, name, tuple(layers), *shapes[name]) for name in PROJECTIONS if name in names]


class Factors(nn.Module):
    """Factors of each changed projection: A `down.<tower>_<projection>` (I, r, in), uniform in +-1 / sqrt(in), and
    B `up.<tower>_<projection>` (I, out, r), zero. A call returns all A, then all B.

    With `generated`, the module has no B of its own: a call takes B' (T, I, r, out) of T tasks for each projection, as
    a maker of `GeneratedPrompts` does, and returns all A (T, I, r, in), then all B (T, I, out, r).
    """

    def __init__(self, changed: Sequence[Changed], rank: int, generated: bool = False):
        super().__init__()
        self.shapes = [(len(each.layers), rank, each.outputs) for each in changed]
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for each, (layers, _, outputs) in zip(changed, self.shapes, strict=True):
            name, bound = f"{each.tower}_{each.projection}", each.inputs**-0.5
            self.down[name] = nn.Parameter(torch.empty(layers, rank, each.inputs).uniform_(-bound, bound))
            if not generated:
                self.up[name] = nn.Parameter(torch.zeros(layers, outputs, rank))

    def forward(self, *generated: Tensor) -> tuple[Tensor, ...]:
        if not generated:
            return (*self.down.values(), *self.up.values())
        down = [part.expand(len(generated[0]), -1, -1, -1) for part in self.down.values()]
        return (*down, *(part.transpose(-1, -2) for part in generated))


class GeneratedFactors(GeneratedPrompts):
    """A for all tasks, and B of each task from the name of the task by SoftCPT's linear meta network, zero at first.

    Task features have the norm 1 / sqrt(d). So a step of Adam moves a generated B about as far as a learned one.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, make: Callable[[], Factors]):
        super().__init__(tower, space, make, pg_type="lin")
        for network in self.prompt_gen:
            nn.init.zeros_(network.proj)

    def task_features(self) -> Tensor:
        return F.normalize(at_least_fp32(self.features), dim=-1) * self.features.shape[-1] ** -0.5


class LowRankLearner(Learner):
    """Learner with low-rank changes W + gain B A of the towers. The weights W themselves are never touched.

    Args:
        tower, space: as for every learner.
        changed: the changed projections of both towers.
        sets: the learned module; a call returns all A (G, I, r, in), then all B (G, I, out, r), in the order of
            `changed`, with G = 1 for all tasks or G = T.
        gain: factor of the changes.
        dropout: in training, share of the inputs of each low-rank path that is set to zero, by a mask of its own. The
            words with which all prompts begin have one mask for all prompts, as the tower computes them once.
        templates: the texts of each task, see `HandPrompts`. Several of a class count as the mean of normalised
            features.
    """

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        changed: Sequence[Changed],
        sets: nn.Module,
        *,
        gain: float,
        dropout: float,
        templates: list[Forms],
    ):
        super().__init__(tower, space)
        self.changed, self.sets, self.gain, self.dropout, self.prompts = changed, sets, gain, dropout, None
        first = min((min(each.layers) for each in changed if each.tower == "text"), default=None)
        if first is None:
            return  # the text features are those of hand-made prompts
        classes = [
            own
            for task, forms in zip(space.tasks, templates, strict=True)
            for own in class_texts(task.classnames, forms)
        ]
        counts = torch.tensor([len(own) for own in classes])
        self.column = torch.arange(len(classes)).repeat_interleave(counts).to(tower.device)  # (M,) class of each prompt
        texts = tower.texts([text for own in classes for text in own])
        self.prompts = tower.before(texts, first)  # frozen layers are computed once

    def factors(self) -> list[tuple[Changed, Tensor, Tensor]]:
        """The changed projections with their A (G, I, r, in) and B (G, I, out, r)."""
        with torch.autocast(self.tower.device.type, enabled=False):  # the same result in a step and in a test
            parts = self.sets()
        count = len(self.changed)
        return list(zip(self.changed, parts[:count], parts[count:], strict=True))

    def additions(self) -> TowerAdditions:
        dropout, changes = self.dropout if self.training else 0.0, {"text": {}, "image": {}}
        for each, down, up in self.factors():
            for i, layer in enumerate(each.layers):
                change = LowRank(down[:, i], up[:, i], self.gain, dropout)
                changes[each.tower][layer, each.projection] = change
        return TowerAdditions(*(Additions(changes=own) if own else None for own in changes.values()))

    def text(self, select: Tensor, added: Additions | None = None) -> Tensor:
        if self.prompts is None:
            return super().text(select)
        rows = torch.isin(self.column, select).nonzero()[:, 0]  # the prompts of the selected classes
        own = self.column[rows]
        features = self.tower(self.prompts.part(rows), self.text_additions(own, added))
        features = F.normalize(at_least_fp32(features), dim=-1)
        total = features.new_zeros(self.space.num_classes, features.shape[1]).index_add(0, own, features)
        return F.normalize(total[select], dim=-1)

    def merged(self, task: int = 0) -> CLIP:
        """A copy of the CLIP with the changes of a task added to its weights."""
        return merged_copy(self.tower.clip, self.additions(), task)

    def task_vectors(self) -> dict[str, Tensor]:
        """B of all changed projections (T, I, out, r), if tasks have their own."""
        return {f"{each.tower} {each.projection}": up for each, _, up in self.factors() if len(up) > 1}
