"""Decoding every image of a dataset, to find the bad ones before a run does."""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Iterable

from tqdm import tqdm

from dassl.data.images import read_image
from datasets.source import SPLITS, Source


def decode_all(source: Source, tasks: Collection[int], workers: int = 1) -> list[str]:
    """A line for every image that cannot be decoded: its split, its path, what is wrong. With a progress bar.

    Args:
        source: the dataset.
        tasks: indices of the tasks whose images are decoded.
        workers: number of processes.
    """
    wanted = ((split, item) for split in SPLITS for item in getattr(source, split) if item.task in tasks)
    images = [(split, f"{source.root}/{item.path}") for split, item in wanted]
    paths = [path for _, path in images]
    bar = {"total": len(paths), "desc": source.name, "unit": "image", "disable": None, "leave": False}
    if workers == 1:
        found = list(tqdm(map(_wrong, paths), **bar))
    else:
        with multiprocessing.get_context().Pool(workers) as pool:
            found = list(tqdm(pool.imap(_wrong, paths, chunksize=32), **bar))
    return list(_lines(images, found))


def _wrong(path: str) -> str:
    """What is wrong with an image file, "" if nothing is."""
    try:
        read_image(path)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _lines(images: Iterable[tuple[str, str]], found: Iterable[str]) -> Iterable[str]:
    for (split, path), text in zip(images, found, strict=True):
        if text:
            yield f"{split} {text if path in text else f'{path}: {text}'}"
