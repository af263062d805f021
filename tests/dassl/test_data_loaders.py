"""DataManager, DatasetWrapper and loaders: images and views do not depend on how they are read."""

import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from dassl.config import get_cfg_default
from dassl.data import DataManager, DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, DatasetBaseMT, Datum, DatumMT
from dassl.data.tasks import Task, TaskSpace
from dassl.data.transforms import build_transform
from dassl.data.views import image_key
from dassl.utils import is_user_error, read_image

NAMES = ("cat", "dog", "owl")


@DATASET_REGISTRY.register(force=True)
class PetsForLoaders(DatasetBase):
    """A dataset written for Dassl: 3 classes with 8 images each."""

    def __init__(self, cfg):
        items = [
            Datum(impath=f"{cfg.DATASET.ROOT}/{name}/{i}.png", label=label, domain=i % 2, classname=name)
            for label, name in enumerate(NAMES)
            for i in range(8)
        ]
        unlabelled = [Datum(item.impath, -1) for item in items[:10]]
        super().__init__(train_x=items[:21], train_u=unlabelled, test=items[21:] + items[:4])


@DATASET_REGISTRY.register(force=True)
class TwoTasksForLoaders(DatasetBaseMT):
    def __init__(self, cfg):
        space = TaskSpace((Task("birds", "birds", ("owl",)), Task("pets", "pets", ("cat", "dog"), id=3)))
        of = {"owl": (0, 0), "cat": (1, 0), "dog": (1, 1)}
        items = [DatumMT(f"{cfg.DATASET.ROOT}/{n}/{i}.png", of[n][1], of[n][0]) for n in NAMES for i in range(8)]
        super().__init__(space, train_x=items[::2], val=None, test=items[1::2])


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for name in NAMES:
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(8):
            image = Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8))
            image.save(tmp_path / "data" / name / f"{i}.png")
    return str(tmp_path / "data")


@pytest.fixture
def cfg(root):
    cfg = get_cfg_default()
    cfg.SEED = 1
    cfg.VERBOSE = False
    cfg.DATASET.ROOT = root
    cfg.DATASET.NAME = "PetsForLoaders"
    cfg.INPUT.SIZE = (16, 16)
    cfg.INPUT.TRANSFORMS = (
        "random_resized_crop",
        "random_flip",
        "colorjitter",
        "cutout",
        "gaussian_noise",
        "normalize",
    )
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 6
    return cfg


def _epochs(loader, epochs):
    """Image paths and pixels of every batch of the epochs."""
    seen = []
    for epoch in epochs:
        loader.epoch.set(epoch)
        seen += [(tuple(batch["impath"]), batch["img"].numpy().tobytes()) for batch in loader]
    return seen


def _views(loader, epoch):
    """{last two parts of the path: pixels} of one epoch."""
    loader.epoch.set(epoch)
    return {
        path[-9:]: image.numpy().tobytes()
        for batch in loader
        for path, image in zip(batch["impath"], batch["img"], strict=True)
    }


def test_a_dataset_written_for_dassl(cfg):
    dm = DataManager(cfg)
    assert (dm.num_classes, dm.lab2cname) == (3, {0: "cat", 1: "dog", 2: "owl"})
    assert dm.dataset.classnames == ["cat", "dog", "owl"]
    assert (dm.num_source_domains, dm.space.num_tasks, dm.val_loader) == (0, 1, None)
    batch = next(iter(dm.train_loader_x))
    assert batch["img"].shape == (6, 3, 16, 16) and batch["img"].dtype == torch.float32
    assert [NAMES[label] for label in batch["label"]] == [path.split("/")[-2] for path in batch["impath"]]
    assert batch["label"].dtype == batch["task"].dtype == torch.int64
    assert batch["task"].tolist() == [0] * 6
    assert [dm.dataset.train_x[i].impath for i in batch["index"]] == batch["impath"]
    assert [dm.dataset.train_x[i].domain for i in batch["index"]] == batch["domain"].tolist()


def test_several_tasks(cfg):
    cfg.DATASET.NAME = "TwoTasksForLoaders"
    dm = DataManager(cfg)
    assert (dm.num_classes, dm.train_loader_u) == (3, None)
    for batch in dm.test_loader:
        columns = dm.space.column(batch["task"], batch["label"])
        assert [dm.lab2cname[int(c)] for c in columns] == [path.split("/")[-2] for path in batch["impath"]]


def test_the_last_short_batch(cfg):
    dm = DataManager(cfg)
    assert [len(b["label"]) for b in dm.train_loader_x] == [6, 6, 6]  # of 21
    assert sum(len(b["label"]) for b in dm.test_loader) == 7
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 32
    assert [len(b["label"]) for b in DataManager(cfg).train_loader_x] == [21]
    cfg.DATALOADER.TRAIN_X.DROP_LAST = False
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 6
    assert [len(batch["label"]) for batch in DataManager(cfg).train_loader_x] == [6, 6, 6, 3]


def test_order_and_views_are_functions_of_seed_and_epoch(cfg):
    first = DataManager(cfg)
    reference = _epochs(first.train_loader_x, (0, 1, 2))
    assert len(set(reference)) == len(reference)
    resumed = DataManager(cfg)
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    resumed.set_epoch(2)
    assert [(tuple(b["impath"]), b["img"].numpy().tobytes()) for b in resumed.train_loader_x] == reference[6:]
    cfg.SEED = 0
    assert _epochs(DataManager(cfg).train_loader_x, (0,))[0] != reference[0]


@pytest.mark.parametrize(("workers", "method"), [(1, ""), (2, "fork"), (2, "spawn")])
def test_workers_change_nothing(cfg, workers, method):
    reference = _epochs(DataManager(cfg).train_loader_x, (0, 1, 5))
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.START_METHOD = method
    loader = DataManager(cfg).train_loader_x
    assert loader.persistent_workers
    assert _epochs(loader, (0, 1, 5)) == reference


def test_workers_that_end_with_the_epoch_change_nothing(cfg):
    lasting = DataManager(cfg).train_loader_x
    passing = DataLoader(lasting.dataset, 6, sampler=lasting.sampler, num_workers=2, drop_last=True)
    passing.epoch = lasting.epoch
    assert _epochs(passing, (0, 4)) == _epochs(lasting, (0, 4))


def test_a_view_depends_on_nothing_but_its_key(cfg, root, tmp_path):
    dm = DataManager(cfg)
    reference = _views(dm.train_loader_x, 3)
    assert len(reference) == 18
    turned = build_data_loader(
        cfg, "SequentialSampler", dm.dataset.train_x[::-1], 5, tfm=build_transform(cfg), is_train=True
    )
    views = _views(turned, 3)
    assert all(views[key] == reference[key] for key in views.keys() & reference.keys())
    assert _views(turned, 2) != views
    shutil.move(root, tmp_path / "elsewhere")
    cfg.DATASET.ROOT = str(tmp_path / "elsewhere")
    assert _views(DataManager(cfg).train_loader_x, 3) == reference


@pytest.mark.parametrize("workers", [0, 2])
def test_the_random_state_outside_is_left_alone(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    dm = DataManager(cfg)
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    np.random.normal()  # keeps the second number of a pair, which is part of the state
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    for _ in dm.train_loader_x:
        pass
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(before[1], np.random.get_state(), strict=True))
    assert before[2] == random.getstate()


def test_evaluation_is_the_same_in_every_epoch(cfg):
    dm = DataManager(cfg, custom_tfm_test=T.Compose([T.RandomCrop(16), T.ToTensor()]))

    def images():
        return torch.cat([b["img"] for b in dm.test_loader])

    first = images()
    dm.set_epoch(7)
    assert torch.equal(first, images())


def test_several_views_and_the_plain_image(cfg):
    cfg.DATALOADER.K_TRANSFORMS = 2
    cfg.DATALOADER.RETURN_IMG0 = True
    dm = DataManager(cfg)
    batch = next(iter(dm.train_loader_x))
    assert [v.shape for v in batch["img"]] == [(6, 3, 16, 16)] * 2
    assert not torch.equal(*batch["img"])
    plain = T.Compose([T.Resize((16, 16), T.InterpolationMode.BICUBIC), T.ToTensor()])(read_image(batch["impath"][0]))
    expected = T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)(plain)
    torch.testing.assert_close(batch["img0"][0], expected)
    test = next(iter(dm.test_loader))
    assert test["img"].shape == (7, 3, 16, 16) and "img0" not in test
    with pytest.raises(ValueError, match="K_TRANSFORMS is 2"):
        DatasetWrapper(cfg, dm.dataset.train_x, is_train=True)


def test_a_list_of_transforms_gives_several_images(cfg):
    weak, strong = build_transform(cfg, choices=["random_flip"]), build_transform(cfg, choices=["randaugment_fixmatch"])
    batch = next(iter(DataManager(cfg, custom_tfm_train=[weak, strong]).train_loader_x))
    assert batch["img"].shape == batch["img2"].shape == (6, 3, 16, 16)
    assert not torch.equal(batch["img"], batch["img2"])


def test_unlabelled_images(cfg):
    cfg.DATALOADER.TRAIN_U.BATCH_SIZE = 2
    dm = DataManager(cfg)
    assert [len(b["label"]) for b in dm.train_loader_u] == [6]  # sampled as TRAIN_X
    cfg.DATALOADER.TRAIN_U.SAME_AS_X = False
    dm = DataManager(cfg)
    batches = list(dm.train_loader_u)
    assert [b["label"].tolist() for b in batches] == [[-1, -1]] * 5
    dm.set_epoch(1)
    assert [b["index"].tolist() for b in dm.train_loader_u] != [b["index"].tolist() for b in batches]


class OwnWrapper(Dataset):
    """A wrapper that shares nothing with DatasetWrapper and draws from all three generators."""

    def __init__(self, cfg, data_source, transform=None, is_train=False):
        self.data_source = data_source
        self.note = "mine"

    def __len__(self):
        return len(self.data_source)

    def __getitem__(self, i):
        drawn = torch.tensor([torch.rand(1).item(), np.random.rand(), random.random()])
        return {"img": drawn, "impath": self.data_source[i].impath}


def test_a_wrapper_of_ones_own_is_keyed_too(cfg):
    loader = DataManager(cfg, dataset_wrapper=OwnWrapper).train_loader_x
    assert loader.dataset.note == "mine"
    reference = _epochs(loader, (0, 1))
    assert len(set(reference)) == 6
    cfg.DATALOADER.NUM_WORKERS = 2
    assert _epochs(DataManager(cfg, dataset_wrapper=OwnWrapper).train_loader_x, (0, 1)) == reference


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_or_missing_image_is_one_line(cfg, root, workers):
    cfg.DATASET.NAME = "TwoTasksForLoaders"
    cfg.DATALOADER.NUM_WORKERS = workers
    with open(f"{root}/dog/3.png", "wb") as file:
        file.write(b"<html>404")
    where = "; dataset TwoTasksForLoaders, task 3 (pets), class 1"
    with pytest.raises(ValueError) as caught:
        list(DataManager(cfg).test_loader)
    page = "it holds a web page, not an image: download it again"
    assert str(caught.value) == f"image cannot be read: {root}/dog/3.png ({page}){where}"
    assert is_user_error(caught.value)
    shutil.os.remove(f"{root}/dog/3.png")
    with pytest.raises(FileNotFoundError) as caught:
        list(DataManager(cfg).test_loader)
    assert str(caught.value) == f"image not found: {root}/dog/3.png{where}"
    assert is_user_error(caught.value)


def test_paths_of_another_machine(cfg, root, tmp_path):
    reference = _epochs(DataManager(cfg).train_loader_x, (0,))
    cfg.DATALOADER.OLD_DATA_PATH, cfg.DATALOADER.NEW_DATA_PATH = "/their/data", root
    cfg.DATASET.ROOT = "/their/data"
    assert _epochs(DataManager(cfg).train_loader_x, (0,)) == reference
    cfg.DATALOADER.OLD_DATA_PATH = "/their/dat"  # the beginning of a name is not a folder
    with pytest.raises(FileNotFoundError, match="/their/data"):
        list(DataManager(cfg).train_loader_x)


def test_image_keys():
    def key(path, root):
        return image_key(Datum(path), root)

    assert key("/data/pets/cat/1.jpg", "/data") == key("/data/pets/cat/1.jpg", "/data/") == "pets/cat/1.jpg"
    assert key("/data/pets/../pets//cat/1.jpg", "/data") == "pets/cat/1.jpg"
    assert key("/x/images.zip/faces/a.webp", "/x/images.zip") == "faces/a.webp"
    assert key("/database/1.jpg", "/data") == "/database/1.jpg"


def test_nothing_to_load(cfg):
    with pytest.raises(ValueError, match="no training image"):
        build_data_loader(cfg, "RandomSampler", [], 4)
    few = [Datum("a", 0, 0, "x"), Datum("b", 0, 1, "x")]
    with pytest.raises(ValueError, match="cannot fill a batch of 8 from 2 images"):
        build_data_loader(cfg, "RandomDomainSampler", few, 8)


def test_summary(cfg, capsys):
    cfg.VERBOSE = True
    DataManager(cfg)
    lines = capsys.readouterr().out.split("\n")
    assert "classes   3" in lines and "train_x   21" in lines and "test      7" in lines
