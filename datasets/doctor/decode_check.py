"""Decode every image of a dataset to find the damaged ones before a run does."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor

from tqdm import tqdm

from dassl.data.images import read_image
from datasets.source import SPLITS, Source


def decode_all(source: Source, tasks: Collection[int], workers: int = 1) -> list[str]:
    """Decode images with a progress bar; returns a line (split, path, error) for each that cannot be decoded.

    Args:
        source: the dataset.
        tasks: indices of the tasks whose images are decoded.
        workers: number of processes.
    """
    wanted = ((split, item) for split in SPLITS for item in getattr(source, split) if item.task in tasks)
    images = list(dict.fromkeys((split, f"{source.root}/{item.path}") for split, item in wanted))
    paths = [path for _, path in images]
    pool = ProcessPoolExecutor(workers, initializer=_quiet) if workers > 1 else None
    bad = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pool.map(_wrong, paths, chunksize=32) if pool else map(_wrong, paths)
            bar = tqdm(found, source.name, total=len(paths), unit="image", disable=None, leave=False)
            for (split, path), text in zip(images, bar, strict=True):
                if text:
                    bad.append(f"{split} {text if path in text else f'{path}: {text}'}")
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
    return bad


def _quiet() -> None:
    """Leave interrupts to the main process and hide warnings, which would disturb the bar. Called in each worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")


def _wrong(path: str) -> str:
    """The error of decoding an image file, "" without one."""
    try:
        read_image(path)
    except (ValueError, OSError) as error:
        return str(error).replace("image cannot be read: ", "")
    return ""
