"""ImageNet and its shifted sets."""

import shutil
import tracemalloc

import pytest

from dassl.data.datasets import build_dataset
from datasets import synsets
from datasets.rows import RowSource
from datasets.table import ROWS
from tests.datasets.settings import config

SHIFTED = ["ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"]


@pytest.fixture
def alone(data_root, quick_folder):
    """alone(name, own): one dataset in a root of its own; folders are links, but for `own`, whose entries are links."""

    root = quick_folder("alone")

    def copy(name, own=""):
        link(data_root / ROWS[name].folder, root / ROWS[name].folder, own)
        return root

    def link(here, there, own):
        there.mkdir(parents=True)
        first, _, rest = own.partition("/")
        for path in here.iterdir():
            if path.name == first:
                link(path, there / path.name, rest)
            elif path.is_dir():
                (there / path.name).symlink_to(path, target_is_directory=True)
            else:
                shutil.copy(path, there)

    return copy


def refused(name, root):
    with pytest.raises(ValueError) as error:
        build_dataset(config(name, root))
    return str(error.value)


# ---- what is read --------------------------------------------------------------------------------------------------


def test_the_published_validation_images_are_the_test_set(data_root):
    dataset = build_dataset(config("ImageNet", data_root, NUM_SHOTS=1))
    assert dataset.space.sizes == [1000] and dataset.val is None
    assert {item.impath.split("/images/")[1].split("/")[0] for item in dataset.test} == {"val"}
    assert {item.impath.split("/images/")[1].split("/")[0] for item in dataset.train_x} == {"train"}
    lines = (data_root / "imagenet/classnames.txt").read_text().splitlines()
    for item in dataset.test + dataset.train_x:
        assert lines[item.label] == f"{item.impath.split('/')[-2]} {item.classname}"


@pytest.mark.parametrize("name, classes", list(zip(SHIFTED, (1000, 1000, 200, 200), strict=True)))
def test_shifted_sets_have_the_names_of_imagenet(data_root, name, classes):
    full, shifted = (build_dataset(config(n, data_root)) for n in ("ImageNet", name))
    assert shifted.space.sizes == [classes]
    assert not shifted.train_x and shifted.val is None
    task, of_full = shifted.space.tasks[0], full.space.tasks[0]
    assert (task.name, task.templates) == (of_full.name, of_full.templates)
    assert task.owner == of_full.owner == "ImageNet"  # what was learned for its task serves here
    by_folder = {item.impath.split("/")[-2]: item.classname for item in full.test}
    by_label = dict(enumerate(full.classnames))
    for item in shifted.test:
        folder = item.impath.split("/")[-2]
        assert item.classname == (by_label[int(folder)] if name == "ImageNetV2" else by_folder[folder])
        assert item.classname == task.classnames[item.label]
    order = [full.classnames.index(n) for n in task.classnames if full.classnames.count(n) == 1]
    assert order == sorted(order)


def test_labels_follow_the_list_and_not_the_folders(alone):
    root = alone("ImageNetSketch")
    path = root / "imagenet-sketch/classnames.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(reversed(lines)))
    (item,) = [i for i in build_dataset(config("ImageNetSketch", root)).test if "/n01440764/" in i.impath]
    assert (item.label, item.classname) == (999, "a tench")


def test_the_list_beside_imagenet_serves_the_shifted_sets(alone, capsys):
    root = alone("ImageNetR")
    (root / "imagenet").mkdir()
    (root / "imagenet-rendition/classnames.txt").rename(root / "imagenet/classnames.txt")
    build_dataset(config("ImageNetR", root))
    assert capsys.readouterr().out == ""


def test_without_a_list_the_shipped_names_are_taken_and_said_so(alone, capsys):
    root = alone("ImageNet")
    (root / "imagenet/classnames.txt").unlink()
    names = build_dataset(config("ImageNet", root)).classnames
    assert names[:2] == ["tench", "goldfish"] and names[999] == "toilet paper"
    (line,) = capsys.readouterr().out.splitlines()
    assert "no classnames.txt" in line and "open_clip" in line


def test_nothing_is_saved(alone):
    root = alone("ImageNetA")
    build_dataset(config("ImageNetA", root))
    assert not list(root.rglob("*.json"))


# ---- what is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [0, 3])
def test_a_val_without_class_folders_is_named_as_such(alone, images):
    root = alone("ImageNet", own="images")
    val = root / "imagenet/images/val"
    val.unlink()
    val.mkdir()
    for i in range(images):
        (val / f"ILSVRC2012_val_{i:08d}.JPEG").write_bytes(b"x")
    text = refused("ImageNet", root)
    if images:
        assert "val is flat: 3 images in it and no class folders" in text and "Move every image into the folder" in text
    else:
        assert "val holds no class folders" in text


@pytest.mark.parametrize("name, gone", [("ImageNetA", "n01498041"), ("ImageNetV2", "7")])
def test_missing_and_foreign_folders_are_named(alone, name, gone):
    root = alone(name, own=ROWS[name].images)
    images = root / ROWS[name].folder / ROWS[name].images
    (images / gone).rename(images / "n99999999")
    text = refused(name, root)
    assert f"1 class folder is missing: {gone}" in text
    assert "1 folder of unknown classes: n99999999" in text


def test_a_folder_that_lacks_the_last_classes_of_a_200_class_set(alone, monkeypatch):
    """Without timm's list of the 200 the number tells."""
    root = alone("ImageNetR", own="imagenet-r")
    original = synsets.shipped_ids
    monkeypatch.setattr(synsets, "shipped_ids", lambda name: original(name) if name == "imagenet" else ())
    (root / "imagenet-rendition/imagenet-r/n01443537").unlink()
    assert "found 199 classes, expected 200" in refused("ImageNetR", root)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda lines: lines[:-1], "found 999 classes, expected the 1,000"),
        (lambda lines: ["tench", *lines[1:]], "found the line 'tench'"),
        (lambda lines: [*lines[:-1], lines[0]], "each id once"),
    ],
)
def test_a_damaged_list(alone, change, text):
    root = alone("ImageNetA")
    path = root / "imagenet-adversarial/classnames.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    assert text in refused("ImageNetA", root)


def test_neither_list_nor_shipped_names(alone, monkeypatch):
    root = alone("ImageNetA")
    (root / "imagenet-adversarial/classnames.txt").unlink()
    monkeypatch.setattr(synsets, "shipped_ids", lambda name: ())
    assert "download CoOp's classnames.txt" in refused("ImageNetA", root)


# ---- size ----------------------------------------------------------------------------------------------------------


def test_a_large_training_set_is_indexed_in_bounded_memory(data_root, monkeypatch):
    """Little memory is used per image, and lists are not copied (here 20 images per class, in reality up to 1,300)."""

    def many(folder):
        return [f"{folder.name}_{i}.JPEG" for i in range(20 if folder.parent.name == "train" else 1)]

    monkeypatch.setattr("datasets.readers.image_names", many)
    tracemalloc.start()
    source = RowSource(ROWS["ImageNet"]).load(str(data_root))
    source.split_digest(0)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.train) == 20_000
    assert kept < 21_000 * 260 and peak < 21_000 * 320
