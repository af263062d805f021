"""Small networks on features after the towers: one for all tasks, or one per task."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rows import OwnedRows


class Adapters(OwnedRows):
    """A(x) = relu(U relu(V x)) for all tasks, or one per task: `down` V (G, d / 4, d), `up` U (G, d, d / 4)."""

    def __init__(self, d: int, owners: list[str] | None):
        super().__init__()
        drawn = [(nn.Linear(d, d // 4, bias=False), nn.Linear(d // 4, d, bias=False)) for _ in owners or "x"]
        self.down = nn.Parameter(torch.stack([first.weight.detach() for first, _ in drawn]))
        self.up = nn.Parameter(torch.stack([last.weight.detach() for _, last in drawn]))
        self.own(owners, "task", "adapter")

    def forward(self, x: Tensor, row: Tensor | None) -> Tensor:
        """x (M, d) -> (M, d). `row` (M,): task of each x; only read if there is one adapter per task."""
        x = x.float()
        if len(self.down) == 1:
            return F.linear(F.linear(x, self.down[0]).relu(), self.up[0]).relu()
        hidden = torch.einsum("md,mhd->mh", x, self.down[row]).relu()
        return torch.einsum("mh,mdh->md", hidden, self.up[row]).relu()
