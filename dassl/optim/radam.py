"""Dassl's names of optimisers that PyTorch provides."""

from torch.optim import AdamW, RAdam

PlainRAdam = RAdam

__all__ = ["AdamW", "PlainRAdam", "RAdam"]
