"""The user's own images as a task, described by an entry of DATASET.TASKS (docs/own-data.md)."""

from datasets.own.entry import KEYS, OwnSource, own_tasks

__all__ = ["KEYS", "OwnSource", "own_tasks"]
