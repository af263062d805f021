"""Shards of images on a Ray cluster, with Ray Data (docs/scale.md)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import ray
import ray.data

from dassl.utils import UserError
from sweeps.ray import connect, nodes

from .model import load
from .shards import Done, Shard, make_part


class Worker:
    """Holds a model on a node, and makes the parts of the shards that Ray gives it."""

    def __init__(self, run: str, folder: str, task: str | None, topk: int):
        self.model, self.where = load(run), (folder, task, topk)

    def __call__(self, row: dict) -> dict:
        return asdict(make_part(Shard(row["name"], tuple(row["images"])), self.model, *self.where))


def ray_engine(address: str = "", cpus: float = 1, gpus: float = 0, jobs: int | None = None) -> Callable:
    """An engine for `make_parts`: workers with `cpus` processors and `gpus` GPUs each, at most `jobs`.

    If a worker or a node is lost, Ray starts the worker again elsewhere and repeats its shard.

    Args:
        address: of the cluster; "": a running cluster, or one on this machine.

    Raises:
        UserError: there is no cluster at the address, or no node can hold a worker.
    """

    def engine(run, shards: Sequence[Shard], folder, task: str | None, topk: int) -> Iterator[Done]:
        if not shards:
            return
        connect(address)
        try:
            most = min(len(shards), jobs or len(shards), _held(cpus, gpus))
            pool = ray.data.ActorPoolStrategy(min_size=1, max_size=most)
            ray.data.DataContext.get_current().enable_progress_bars = False
            logging.getLogger("ray.data").setLevel(logging.ERROR)  # its plans are not the user's
            rows = [
                {"name": shard.name, "images": [os.path.abspath(path) for path in shard.images]} for shard in shards
            ]
            values = {"run": os.path.abspath(run), "folder": os.path.abspath(folder), "task": task, "topk": topk}
            found = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                Worker, fn_constructor_kwargs=values, num_cpus=cpus, num_gpus=gpus or None, compute=pool
            )
            for row in found.iter_rows():
                yield Done(**row)
        finally:
            ray.shutdown()

    return engine


def _held(cpus: float, gpus: float) -> int:
    """Workers that the cluster can hold at a time. Raises UserError for none."""
    each = [(name, amount) for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount]
    counts = [min(int(node["Resources"].get(name, 0) / amount) for name, amount in each) for node in nodes()]
    if not any(counts):
        there = "; ".join(
            f"{n['Resources'].get('CPU', 0):g} CPUs, {n['Resources'].get('GPU', 0):g} GPUs" for n in nodes()
        )
        raise UserError(
            f"no node of the Ray cluster can hold a worker, which asks for {cpus:g} CPUs and {gpus:g} GPUs. "
            f"Nodes: {there}. Change --cpus-per-run or --gpus-per-run, or add a node."
        )
    return sum(counts)
