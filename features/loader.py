"""Load image features in place of images: test features shared by all runs, and the feature bank for training.

A frozen image tower computes the same feature for the same view every time. Validation and test images have one view
each, and so have training images without augmentation; an augmented view is a function of (seed, epoch, image). The key
of a feature in the store (`features.store`) consists of these inputs. So all runs, methods and numbers of shots that
need the same features share them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dassl.config import at_least, declare
from dassl.data.datasets.base_dataset import label_of, labels_of
from dassl.data.images import image_stamp
from dassl.data.transforms import build_transform
from dassl.data.views import KeyedViews, image_key
from dassl.engine.progress import progress
from dassl.program import ignore_interrupts
from dassl.utils import counted
from features.store import FeatureStore, digest, prune

declare("DATALOADER.FEATURE_CACHE", True, help="keep features of validation and test images on disk for all runs")
declare("DATALOADER.FEATURE_BANK", False, help="train from features of training views, computed once for all runs")
declare("DATALOADER.FEATURE_CACHE_DIR", "", help="folder of cache and bank; '': $SOFTCPT_CACHE or ~/.cache/softcpt")
declare(
    "DATALOADER.FEATURE_CACHE_GB", 20.0, allowed=at_least(0), help="size limit; features unused for longest are removed"
)

# A file holds at most this many views or bytes, which is the most that an interrupted run loses.
SHARD, SHARD_BYTES = 2048, 64 * 2**20
LARGEST_BATCH = 1024  # images that are encoded at a time; the last batch is filled up to this number

NAMELESS = re.compile(r"<[^<>]* at 0x[0-9a-f]+>|\bLambda\(\)")  # a repr that does not identify its object


class FeatureLoader:
    """Yield a loader's batches with `features` in place of `img`: same images, same order, same batches.

    Args:
        loader: the image loader, as `build_data_loader` makes it.
        store: the store for the features of the loader's views.
        epochs: the epochs whose views are needed (training), without repetition; None: each image has a single view.
        encode: function from images (B, 3, H, W) to features (B, ...).
        what: name of the images in messages and in the progress bar.
        view_bytes: size of one view's feature in bytes.
        batch_size: images per call of `encode`; default: that of the loader.
        key: name of the features in the batches.
        beside: another loader of features of the same views, which the batches contain, too.
    """

    def __init__(
        self,
        loader: DataLoader,
        store: FeatureStore,
        epochs: Sequence[int] | None,
        encode: Callable[[Tensor], Tensor],
        what: str,
        view_bytes: int = 0,
        batch_size: int | None = None,
        key: str = "features",
        beside: FeatureLoader | None = None,
    ):
        self.stores = {key: store} | ({} if beside is None else beside.stores)
        self.loader, self.store, self.view_bytes = loader, store, view_bytes
        self.encode_batch_size = batch_size or loader.batch_size
        self.dataset, self.batch_size, self.epoch = loader.dataset, loader.batch_size, loader.epoch
        views: KeyedViews = loader.dataset
        self.items = views.data_source
        self.seed = None if epochs is None else views.seed
        # (task, label) pairs of each image; with several pairs of one image or a tagging task, labels are coded (B, N)
        self._labels = [labels_of(item) for item in self.items]
        space = getattr(views, "space", None)
        coded = any(len(pairs) > 1 for pairs in self._labels) or getattr(space, "tagging", None) is not None
        self._space = space if coded else None
        self._stamps = [image_stamp(item.impath) for item in self.items]
        self._keys = [None if epochs is None else image_key(item, views.image_root) for item in self.items]
        # In the order of images, so that each image is decoded once for all its views.
        self._fill([(epoch, i) for i in range(len(self.items)) for epoch in epochs or (0,)], encode, what)

    def name(self, epoch: int, index: int) -> bytes:
        """Key in the store of the feature of image `index` in `epoch`."""
        if self.seed is None:
            return digest(self._stamps[index])
        return digest(self._stamps[index], self.seed, self.dataset.view(epoch), self._keys[index])

    def rows(self, epoch: int) -> Tensor:
        """Features (M, ...) of all images in `epoch`, in the order of `items`."""
        return torch.from_numpy(self.store.rows([self.name(epoch, i) for i in range(len(self.items))]))

    @property
    def labels(self) -> Tensor:
        """(R, 3): image, task and label within the task of each label; R = M if every image has one label."""
        return label_rows(self.items)

    def _fill(self, pairs: list[tuple[int, int]], encode: Callable[[Tensor], Tensor], what: str) -> None:
        """Compute the features of the (epoch, index) `pairs` that are missing from the store."""
        names = [self.name(*pair) for pair in pairs]
        self.store.refresh()
        if not self.store.missing(names):
            return
        with self.store.filling("test" if self.seed is None else f"seed{self.seed}"):
            self.store.refresh()
            if missing := self.store.missing(names):
                self._compute([names[i] for i in missing], [pairs[i] for i in missing], encode, what)

    def _compute(self, names: list[bytes], pairs: list[tuple[int, int]], encode: Callable, what: str) -> None:
        print(
            f"Computing the features of {len(pairs):,} {what} ({size(len(pairs) * self.view_bytes)}), "
            f"to be reused by later runs from {self.store.folder}"
        )
        # Reading few images in this process is faster than starting workers.
        workers = self.loader.num_workers if len(pairs) > 1000 else 0
        batch = min(self.encode_batch_size, LARGEST_BATCH)
        pending: list[Tensor] = []
        todo = DataLoader(
            _Views(self.dataset, pairs),
            batch_size=batch,
            num_workers=workers,
            worker_init_fn=ignore_interrupts,
            multiprocessing_context=self.loader.multiprocessing_context if workers else None,
            generator=torch.Generator(),  # otherwise the loader would draw from the run's generator
        )
        done = 0
        for images in progress(todo, f"features of {len(pairs):,} {what}"):
            # The last bits of a result depend on the batch size. With batches of one size a feature does not depend
            # on the other features that are missing.
            padding = batch - len(images)
            full = torch.cat([images, images[:1].expand(padding, *images.shape[1:])]) if padding else images
            pending.append(encode(full)[: len(images)].float().cpu())
            count = sum(map(len, pending))
            if count >= SHARD or count * self.view_bytes >= SHARD_BYTES or done + count == len(pairs):
                self.store.add(names[done : done + count], torch.cat(pending).numpy())
                pending, done = [], done + count

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict]:
        for indices in self.loader.batch_sampler:
            epoch = 0 if self.seed is None else self.epoch.value
            items, names = [self.items[i] for i in indices], [self.name(epoch, i) for i in indices]
            yield {
                **{key: torch.from_numpy(store.rows(names)) for key, store in self.stores.items()},  # (B, ...) each
                "label": self._label(indices),
                "task": torch.tensor([self._labels[i][0][0] for i in indices]),
                "domain": torch.tensor([item.domain for item in items]),
                "index": torch.tensor(list(map(int, indices))),
                "impath": [item.impath for item in items],
            }

    def _label(self, indices: Sequence[int]) -> Tensor:
        """Labels (B,) within the task, or coded labels (B, N)."""
        if self._space is not None:
            return torch.stack([self._space.encode(self._labels[i]) for i in indices])
        return torch.tensor([label_of(self.items[i])[1] for i in indices])


def label_rows(items: Sequence) -> Tensor:
    """(R, 3): position of the item, task, and label within the task of every label of M items."""
    rows = [(i, task, label) for i, item in enumerate(items) for task, label in labels_of(item)]
    return torch.tensor(rows, dtype=torch.long).view(-1, 3)


class _Views(Dataset):
    """Images of (epoch, index) pairs, in the order of the pairs."""

    def __init__(self, views: KeyedViews, pairs: list[tuple[int, int]]):
        self.keyed, self.pairs = views, pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, position: int):
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: list[int]) -> list[Tensor]:
        return [item["img"] for item in self.keyed.views([self.pairs[position] for position in positions])]


def why_not(loader: DataLoader | None) -> str:
    """Reason why features cannot replace a loader's images, or "" if they can."""
    if not isinstance(getattr(loader, "dataset", None), KeyedViews):
        return "the trainer uses a custom data loader"
    items = loader.dataset.dataset
    if not callable(getattr(items, "transform", None)):
        return "the dataset yields several images per item"
    if getattr(items, "k_tfm", 1) > 1 or getattr(items, "return_img0", False):
        return "DATALOADER.K_TRANSFORMS or RETURN_IMG0 asks for several images per item"
    if nameless := NAMELESS.search(repr(items.transform)):
        return f"the transform contains {nameless[0]}, whose __repr__ does not show its settings"
    return ""


def one_view(loader: DataLoader, cfg) -> bool:
    """Whether a loader yields images as a test does, so that an image has the same view in every epoch."""
    return repr(loader.dataset.dataset.transform) == repr(build_transform(cfg, is_train=False))


def too_large(loader: DataLoader, epochs: Sequence[int] | None, view_bytes: int, cfg) -> str:
    """Reason why the features are not stored (they would exceed the size limit), or "" if they fit."""
    needed = len(loader.dataset) * view_bytes * (1 if epochs is None else len(epochs))
    limit = cfg.DATALOADER.FEATURE_CACHE_GB
    if needed <= limit * 2**30:
        return ""
    return f"the features would take {size(needed)}, but DATALOADER.FEATURE_CACHE_GB allows {limit:g} GB"


def size(count: int) -> str:
    """Format a number of bytes: "3.9 GB" (2^30) or "12 MB" (2^20)."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.3g} MB"


def store_for(
    loader: DataLoader, cfg, clip, device: torch.device, features: str = "", shape: tuple[int, ...] | None = None
) -> FeatureStore:
    """Store for the features of `shape` that `clip` computes under this loader's transform.

    `features`: "" for the joint features, "local" for one feature per patch, "unprojected" for features before the last
    projection, "tokens <l>" for tokens before layer l.
    """
    kind = {
        "weights": clip.weights_hash,
        "precision": clip.precision,
        "device": device.type,
        "transform": repr(loader.dataset.dataset.transform),
        "versions": [version(package) for package in ("torch", "torchvision", "pillow")],
    }
    if features:
        kind["features"] = features
    if cfg.INPUT.EXIF_ROTATE:
        kind["exif"] = "rotated"
    return FeatureStore(kind, cfg.DATALOADER.FEATURE_CACHE_DIR or None, shape)


def keep_limit(cfg) -> None:
    """Remove the least recently used features that exceed DATALOADER.FEATURE_CACHE_GB."""
    if removed := prune(cfg.DATALOADER.FEATURE_CACHE_GB * 2**30, cfg.DATALOADER.FEATURE_CACHE_DIR or None):
        limit = cfg.DATALOADER.FEATURE_CACHE_GB
        print(f"Feature cache: removed {counted(removed, 'file')} to stay within {limit:g} GB")
