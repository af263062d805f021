"""Images drawn through `loader.dataset` are as in the original Dassl; the loops of this project keep their views."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision import transforms as T

from dassl.config import get_cfg_default
from dassl.data import DataManager
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum


@DATASET_REGISTRY.register(force=True)
class SpotsForClients(DatasetBase):
    """Two classes with four noisy images each."""

    def __init__(self, cfg):
        items = [Datum(f"{cfg.DATASET.ROOT}/{i}.png", i % 2, classname="ab"[i % 2]) for i in range(8)]
        super().__init__(train_x=items, val=items[:4], test=items)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spots")
    noise = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(noise.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return str(folder)


@pytest.fixture
def dm(root):
    return DataManager(_config(root))


def _config(root, workers=0):
    cfg = get_cfg_default()
    cfg.merge_from_list(["SEED", 1, "VERBOSE", False, "DATASET.ROOT", root, "DATASET.NAME", "SpotsForClients"])
    cfg.merge_from_list(["INPUT.SIZE", (16, 16), "DATALOADER.NUM_WORKERS", workers])
    cfg.merge_from_list(["DATALOADER.TRAIN_X.BATCH_SIZE", 4, "DATALOADER.TEST.BATCH_SIZE", 4])
    return cfg


def _pass(loader):
    """{position of an image: its pixels} of one pass."""
    return {
        int(index): image.numpy().tobytes()
        for batch in loader
        for index, image in zip(batch["index"], batch["img"], strict=True)
    }


def _different(first, second):
    """How many images have another view."""
    assert first.keys() == second.keys()
    return sum(first[index] != second[index] for index in first)


ROUTES = {
    "shuffled": lambda loader: DataLoader(loader.dataset, batch_size=3, shuffle=True),
    "copied, same sampler": lambda loader: DataLoader(copy.deepcopy(loader.dataset), 3, sampler=loader.sampler),
    "same batches": lambda loader: DataLoader(loader.dataset, batch_sampler=loader.batch_sampler),
    "part": lambda loader: DataLoader(Subset(loader.dataset, [1, 2, 5]), 2),
    "copied loader": copy.deepcopy,
    "the loader itself": lambda loader: loader,
}


@pytest.mark.parametrize("in_training", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_augmented_passes_differ(dm, route, in_training):
    if in_training:
        dm.set_epoch(3)  # as the engine does before each epoch
    loader = ROUTES[route](dm.train_loader_x)
    first, second, third = _pass(loader), _pass(loader), _pass(loader)
    assert len(first) in (3, 8)
    assert min(_different(first, second), _different(second, third), _different(first, third)) >= len(first) - 1


def test_workers_of_another_loader_draw_new_views(dm):
    loader = DataLoader(dm.train_loader_x.dataset, batch_size=4, num_workers=1)
    assert _different(_pass(loader), _pass(loader)) >= 7


def test_the_seed_of_the_run_decides_the_views_of_another_loader(root):
    def drawn():
        torch.manual_seed(4)
        return _pass(DataLoader(DataManager(_config(root)).train_loader_x.dataset, shuffle=True))

    assert drawn() == drawn()


def test_other_passes_leave_the_views_of_the_training_loop(dm, root):
    dm.set_epoch(2)
    expected = _pass(dm.train_loader_x)
    other = DataManager(_config(root))
    for loader in (other.train_loader_x, DataLoader(other.train_loader_x.dataset, shuffle=True)):
        _pass(loader)
    other.set_epoch(2)
    assert _pass(other.train_loader_x) == expected


GREY = T.Compose([T.Resize((16, 16)), T.Grayscale(3), T.ToTensor()])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transform_that_is_set_counts(root, workers):
    dm = DataManager(_config(root, workers))
    loader = dm.train_loader_x
    before = _pass(loader)  # workers that are kept have the old transform now
    old, loader.dataset.transform = loader.dataset.transform, GREY
    assert loader.dataset.transform is GREY
    assert _different(before, _pass(loader)) == 8
    grey = next(iter(loader))["img"]
    assert torch.equal(grey[:, 0], grey[:, 1])
    loader.dataset.transform = old
    colours = next(iter(loader))["img"]
    assert not torch.equal(colours[:, 0], colours[:, 1])


def test_a_random_transform_of_test_images_differs_per_pass(dm):
    assert _pass(dm.test_loader) == _pass(dm.test_loader)
    dm.test_loader.dataset.transform = dm.train_loader_x.dataset.transform
    assert _different(_pass(dm.test_loader), _pass(dm.test_loader)) >= 7
    cached = copy.deepcopy(dm.train_loader_x)
    cached.dataset.transform = dm.val_loader.dataset.transform
    assert _pass(cached) == _pass(cached)


def test_items_that_are_set_count(dm):
    dm.train_loader_x.dataset.data_source = dm.dataset.train_x[:5]
    assert len(dm.train_loader_x.dataset) == 5
    loader = DataLoader(dm.train_loader_x.dataset, batch_size=5)
    assert next(iter(loader))["impath"] == [item.impath for item in dm.dataset.train_x[:5]]
