"""What `Classifier` accepts as images: paths, folders, PIL images and tensors, one or many; and how they are read."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dassl.data.archives import ENDINGS as ARCHIVES
from dassl.data.archives import members, split_archive
from dassl.data.images import read_image, to_rgb
from dassl.utils import UserError
from datasets.readers import IMAGE_ENDINGS

READERS = 8  # threads at most


@dataclass(frozen=True)
class Entry:
    """One image: its path, or the image itself; or the reason why there is none."""

    path: str = ""
    image: Image.Image | Tensor | None = None
    error: str = ""


def entries(images) -> list[Entry]:
    """The images among `images`, which may be nested, in order. A folder or an archive stands for the images in it,
    sorted by path.

    Raises:
        FileNotFoundError: there is no image; the text names paths that do not exist, and folders without images.
        UserError: something that is not an image.
    """
    found = list(_entries(images))
    if all(entry.error for entry in found):
        gone = [entry.error for entry in found] or ["nothing was given"]
        raise FileNotFoundError(f"no such image: {', '.join(gone[:5])}" + (", ..." if len(gone) > 5 else ""))
    return [Entry(one.path, error=f"no such image: {one.error}") if one.error else one for one in found]


def _entries(images) -> Iterator[Entry]:
    if isinstance(images, (str, os.PathLike)):
        yield from _of_path(os.fspath(images))
    elif isinstance(images, Image.Image):
        yield Entry(getattr(images, "filename", "") or "", images)
    elif isinstance(images, np.ndarray):
        raise UserError("found a NumPy array: give paths, PIL images (Image.fromarray), or tensors from preprocess")
    elif isinstance(images, Tensor):
        yield from (Entry(image=image) for image in (images if images.ndim == 4 else [images]))
    elif isinstance(images, Iterable):
        for image in images:
            yield from _entries(image)
    else:
        raise UserError(f"found {type(images).__name__}: expected paths, folders, PIL images or tensors")


def is_image(name: str) -> bool:
    """Whether a file is taken for an image by its name."""
    return name.lower().endswith(IMAGE_ENDINGS) and not os.path.basename(name).startswith(".")


def _of_path(path: str) -> Iterator[Entry]:
    if os.path.isdir(path):
        inside = [os.path.join(where, name) for where, _, names in os.walk(path) for name in names if is_image(name)]
        yield from map(Entry, sorted(inside))
        if not inside:
            yield Entry(path, error=f"{path} (a folder without an image)")
    elif os.path.isfile(path) and path.lower().endswith(ARCHIVES):
        inside = [f"{path}/{name}" for name in members(path) if is_image(name)]
        yield from map(Entry, inside)
        if not inside:
            yield Entry(path, error=f"{path} (an archive without an image)")
    elif os.path.isfile(path) or split_archive(path):
        yield Entry(path)
    else:
        yield Entry(path, error=path)


def prepare(entry: Entry, transform: Callable, size: Sequence[int], upright: bool) -> Tensor | str:
    """The image of `entry` as the input (3, H, W) of the model; or in one line why it cannot be read."""
    if entry.error:
        return entry.error
    if isinstance(entry.image, Tensor):
        found, want = entry.image, (3, *size)
        if tuple(found.shape) == want and found.is_floating_point():
            return found
        kind = str(found.dtype).removeprefix("torch.")
        return f"found a tensor {tuple(found.shape)} of {kind}: expected {want} of floats, from model.preprocess"
    try:
        return transform(read_image(entry.path, upright) if entry.image is None else to_rgb(entry.image))
    except (ValueError, OSError) as error:
        return f"image cannot be read: {error}" if entry.image is not None else str(error)


def in_batches(items: Sequence, function: Callable, size: int) -> Iterator[tuple[list, list]]:
    """Yield (items, values of `function`) in batches of `size`. Threads read the next two batches meanwhile."""
    with ThreadPoolExecutor(max(1, min(READERS, os.cpu_count() or 1))) as pool:
        waiting, starts = deque(), range(0, len(items), size)
        try:
            for start in starts:
                batch = items[start : start + size]
                waiting.append((batch, [pool.submit(function, item) for item in batch]))
                if len(waiting) > 2:
                    yield _done(waiting.popleft())
            while waiting:
                yield _done(waiting.popleft())
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


def _done(part: tuple[list, list]) -> tuple[list, list]:
    batch, futures = part
    return batch, [future.result() for future in futures]


def stacked(images: Sequence[Tensor | str]) -> Tensor | None:
    """The readable images of a batch (B, 3, H, W); None if there is none."""
    readable = [image for image in images if isinstance(image, Tensor)]
    return torch.stack([image.float().cpu() for image in readable]) if readable else None
