"""DataManager: from a config to loaders of training, validation and test batches."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from dassl.data.datasets import build_dataset
from dassl.data.datasets.base_dataset import label_of, labels_of
from dassl.data.images import read_image
from dassl.data.samplers import build_sampler
from dassl.data.tasks import TaskSpace
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.data.views import Epoch, KeyedViews, relocate, replace_prefix
from dassl.program import ignore_interrupts


class DatasetWrapper(Dataset):
    """Items of a dataset as dicts of tensors.

    Args:
        cfg: settings.
        data_source: M items, Datum or DatumMT.
        transform: function from a PIL image to a tensor; a list of functions gives img, img2, …; None gives PIL images.
        is_train: whether DATALOADER.K_TRANSFORMS and RETURN_IMG0 apply; they are for training only.

    Items: {"img": (3, H, W), "task": int, "label": int within the task, "domain": int, "impath": str, "index": int}.
    If `space` is set, the label of an item with lists of labels and tasks is coded as in `TaskSpace.encode` (N,), and
    "task" is the first of its tasks. With a tagging task, all labels are.
    With K_TRANSFORMS k > 1, "img" is a list of k views. With RETURN_IMG0, "img0" is the resized image.

    Raises:
        ValueError: K_TRANSFORMS > 1 without a transform.
    """

    def __init__(self, cfg, data_source: Sequence, transform=None, is_train: bool = False):
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0 if is_train else False
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, which needs a transform; found none")
        mode = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
        steps = [T.Resize(tuple(cfg.INPUT.SIZE), interpolation=mode, antialias=True), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            steps.append(T.Normalize(list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD)))
        self.to_tensor = T.Compose(steps)
        self.space = None  # TaskSpace, for items whose labels are lists

    def __len__(self):
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict:
        item = self.data_source[idx]
        if self.space is not None and (isinstance(item.label, (list, tuple)) or self.space.tagging is not None):
            pairs = labels_of(item)
            task, label = pairs[0][0], self.space.encode(pairs)
        else:
            task, label = label_of(item)
        output = {
            "task": int(task),
            "label": label if isinstance(label, torch.Tensor) else int(label),
            "domain": int(item.domain),
            "impath": item.impath,
            "index": idx,
        }
        image = read_image(item.impath, self.cfg.INPUT.EXIF_ROTATE)
        if self.transform is None:
            output["img"] = image
        elif isinstance(self.transform, (list, tuple)):
            for i, transform in enumerate(self.transform):
                output["img" if i == 0 else f"img{i + 1}"] = self._transform_image(transform, image)
        else:
            output["img"] = self._transform_image(self.transform, image)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _transform_image(self, tfm, img0):  # Dassl's name, which subclasses override
        views = [tfm(img0) for _ in range(self.k_tfm)]
        return views[0] if len(views) == 1 else views


class Loader(DataLoader):
    """A loader whose workers start anew if an attribute of its dataset was set, e.g. `loader.dataset.transform`."""

    _seen = 0

    def __iter__(self):
        if self._iterator is not None and self._seen != self.dataset.changes:
            self._iterator._shutdown_workers()
            self._iterator = None
        self._seen = self.dataset.changes
        return super().__iter__()

    def __getstate__(self):
        return {**self.__dict__, "_iterator": None}  # copies do not share workers


def build_data_loader(
    cfg,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm=None,
    is_train: bool = True,
    dataset_wrapper=None,
    *,
    seed: int | None = None,
    image_root: str | Sequence[str] | None = None,
    tasks: Sequence[str] = (),
    places: Sequence[str] = (),
    advice: str = "",
    space: TaskSpace | None = None,
    drop_last: bool = True,
) -> DataLoader:
    """Build a loader over `data_source`. Its order and its views are functions of (seed, epoch).

    Call `loader.epoch.set(n)` (`dassl.data.views.Epoch`) before each pass. Another loader over `loader.dataset` gets
    new views in each pass, see `dassl.data.views`. Training loaders keep their workers between epochs.

    Args:
        data_source: M items, at least one.
        tfm: see DatasetWrapper.
        dataset_wrapper: class with the arguments of DatasetWrapper.
        seed: seed of the run; default: cfg.SEED, or 0 if it is negative.
        image_root: folder or folders to which image keys are relative; default: DATASET.ROOT.
        tasks: T names of the tasks, for messages.
        places: M texts with the position of each item in its split, for messages.
        advice: command that lists all unreadable images, for messages.
        space: the tasks, for items with lists of labels.
        drop_last: whether a training loader drops a last short batch, unless it is the only one.

    Raises:
        ValueError: `data_source` is empty, or the sampler cannot fill a batch from it.
    """
    if not data_source:
        raise ValueError(f"dataset {cfg.DATASET.NAME}: no {'training' if is_train else 'test'} image to load")
    seed = max(cfg.SEED, 0) if seed is None else seed
    old, new = cfg.DATALOADER.OLD_DATA_PATH, cfg.DATALOADER.NEW_DATA_PATH
    data_source = relocate(data_source, old, new)
    root = cfg.DATASET.ROOT if image_root is None else image_root
    roots = [root] if isinstance(root, (str, os.PathLike)) else root
    roots = [replace_prefix(os.path.abspath(os.path.expanduser(folder)), old, new) for folder in roots if folder]
    epoch = Epoch()
    sampler = build_sampler(sampler_type, None, data_source, batch_size, n_domain, n_ins, seed=seed, epoch=epoch)
    if not len(sampler):
        raise ValueError(
            f"dataset {cfg.DATASET.NAME}: {sampler_type} cannot fill a batch of {batch_size} from {len(data_source)} "
            f"images; use a smaller BATCH_SIZE or RandomSampler"
        )
    items = (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train)
    if isinstance(items, DatasetWrapper):
        items.space = space
    views = KeyedViews(
        items,
        data_source,
        seed=seed,
        epoch=epoch if is_train else None,
        image_root=roots[0] if len(roots) == 1 else roots,
        name=cfg.DATASET.NAME,
        tasks=tasks,
        places=places,
        advice=advice,
        cycle=cfg.DATALOADER.VIEWS if is_train else 0,
    )
    workers = cfg.DATALOADER.NUM_WORKERS
    with warnings.catch_warnings():
        # torch warns about more workers than cores; with the default of 4 workers that is not a user's mistake
        warnings.filterwarnings("ignore", message=".*worker processes in total.*")
        loader = Loader(
            views,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            worker_init_fn=ignore_interrupts,
            drop_last=drop_last and is_train and len(data_source) >= batch_size,
            pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
            persistent_workers=is_train and workers > 0,
            multiprocessing_context=(cfg.DATALOADER.START_METHOD or None) if workers > 0 else None,
            generator=torch.Generator().manual_seed(seed),  # otherwise the loader draws from the run's own generator
        )
    loader.epoch = epoch
    return loader


class DataManager:
    """The dataset of a run and its loaders.

    Args:
        cfg: settings.
        custom_tfm_train, custom_tfm_test: used instead of `build_transform`; a list gives several images per item.
        dataset_wrapper: class used instead of DatasetWrapper.

    Attributes:
        dataset, space (the TaskSpace of the run), num_classes (N), lab2cname ({column: class name}),
        num_source_domains;
        train_loader_x, train_loader_u, val_loader, test_loader, unknown_loader (test images of no class of their
        task): None if the dataset has no images for them.
    """

    def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None):
        dataset = build_dataset(cfg)
        train = custom_tfm_train if custom_tfm_train is not None else build_transform(cfg, is_train=True)
        test = custom_tfm_test if custom_tfm_test is not None else build_transform(cfg, is_train=False)
        shared = {
            "dataset_wrapper": dataset_wrapper,
            "seed": cfg.SEED if cfg.SEED >= 0 else secrets.randbits(31),
            "image_root": getattr(dataset, "image_root", "") or cfg.DATASET.ROOT,
            "tasks": [f"{task.id} ({task.key})" for task in dataset.space.tasks],
            "advice": getattr(dataset, "advice", ""),
            "space": dataset.space,
        }

        def loader(part, settings, tfm, is_train):
            items = getattr(dataset, part, ())
            if not items:
                return None
            groups = {}
            if is_train:
                groups = {"n_domain": settings.N_DOMAIN, "n_ins": settings.N_INS, "drop_last": settings.DROP_LAST}
            extra = {**groups, **shared, "places": getattr(dataset, "places", {}).get(part, ())}
            if part == "unknown":  # the labels are -1, which cannot be coded
                extra["space"] = None
            return build_data_loader(
                cfg, settings.SAMPLER, items, settings.BATCH_SIZE, tfm=tfm, is_train=is_train, **extra
            )

        of_x, of_u = cfg.DATALOADER.TRAIN_X, cfg.DATALOADER.TRAIN_U
        self.train_loader_x = loader("train_x", of_x, train, True)
        self.train_loader_u = loader("train_u", of_x if of_u.SAME_AS_X else of_u, train, True)
        self.val_loader = loader("val", cfg.DATALOADER.TEST, test, False)
        self.test_loader = loader("test", cfg.DATALOADER.TEST, test, False)
        self.unknown_loader = loader("unknown", cfg.DATALOADER.TEST, test, False)

        self.dataset = dataset
        self._num_classes, self._lab2cname = dataset.num_classes, dataset.lab2cname
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    # Properties, as in Dassl: subclasses that build data of their own set the attributes.
    num_classes = property(lambda self: self._num_classes)
    lab2cname = property(lambda self: self._lab2cname)
    num_source_domains = property(lambda self: self._num_source_domains)

    @property
    def space(self) -> TaskSpace | None:
        """TaskSpace of the run; None for a dataset that is not a DatasetBase."""
        return getattr(self.dataset, "space", None)

    def set_epoch(self, epoch: int):
        """Set the epoch (0, 1, …) that decides order and views of the training images. Call it before each epoch."""
        for loader in (self.train_loader_x, self.train_loader_u):
            if isinstance(getattr(loader, "epoch", None), Epoch):  # a subclass may build loaders of its own
                loader.epoch.set(epoch)

    def show_dataset_summary(self, cfg):
        """Print how many tasks, classes and images there are."""
        dataset, space = self.dataset, self.space
        rows = [("dataset", cfg.DATASET.NAME)]
        for name, domains in (("source", cfg.DATASET.SOURCE_DOMAINS), ("target", cfg.DATASET.TARGET_DOMAINS)):
            if domains:
                rows.append((name, ", ".join(domains)))
        if space is not None and space.num_tasks > 1:
            rows.append(("tasks", f"{space.num_tasks:,}"))
        rows.append(("classes", f"{self.num_classes:,}"))
        for name in ("train_x", "train_u", "val", "test"):
            items = getattr(dataset, name, None)
            if items:
                rows.append((name, f"{len(items):,}"))
        print("\n".join(f"{name:<10}{value}" for name, value in rows))
