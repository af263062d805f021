import os
import zipfile
from collections import Counter, defaultdict

import pytest

from dassl.data.datasets import build_dataset
from dassl.utils import read_image
from datasets.icon13 import source as embedded
from datasets.icon13.notice import notice
from datasets.icon13.source import FOLDER, glyph, read_index
from tests.datasets.icon13.vendors import COLOUR_VENDORS, DOMAINS, MONOCHROME_VENDORS
from tests.datasets.settings import config


@pytest.fixture(scope="module")
def index():
    return read_index()


@pytest.fixture(scope="module")
def icon13():
    return build_dataset(config("Icon13"))


def files(items):
    return {os.path.relpath(item.impath, FOLDER / "images.zip").replace(os.sep, "/") for item in items}


def test_size(icon13):
    assert icon13.space.num_tasks == 13
    assert icon13.num_classes == 443
    assert (len(icon13.train_x), len(icon13.val), len(icon13.test)) == (2432, 358, 2677)


def test_index_and_archive_hold_the_same_images(index):
    with zipfile.ZipFile(FOLDER / "images.zip") as archive:
        assert sorted(archive.namelist()) == sorted(image["file"] for image in index["images"])


def test_test_split_is_the_index_s(icon13, index):
    assert files(icon13.test) == {image["file"] for image in index["images"] if image["split"] == "test"}


def test_splits_do_not_overlap(icon13):
    assert not files(icon13.train_x) & files(icon13.val)
    assert not files(icon13.train_x) & files(icon13.test)


def test_no_validation_drawing_has_a_sibling_in_training(icon13, index):
    image = {image["file"]: image for image in index["images"]}
    trained = {glyph(image[file]) for file in files(icon13.train_x)}
    assert not [file for file in files(icon13.val) if glyph(image[file]) in trained]


def test_validation_takes_one_image_of_pools_of_five_or_more(icon13, index):
    pools = Counter((image["task"], image["cls"]) for image in index["images"] if image["split"] == "train")
    taken = Counter((icon13.space.tasks[item.task].key, item.classname) for item in icon13.val)
    assert set(taken.values()) == {1}
    assert min(pools[key] for key in taken) == embedded.MIN_POOL


def test_every_class_can_be_learned_and_tested(icon13):
    every = {(t, c) for t, size in enumerate(icon13.space.sizes) for c in range(size)}
    assert {(item.task, item.label) for item in icon13.train_x} == every
    assert {(item.task, item.label) for item in icon13.test} == every


def test_labels_are_the_index_s(icon13, index):
    entries = {image["file"]: image for image in index["images"]}
    for item in [*icon13.train_x, *icon13.val, *icon13.test]:
        entry = entries["/".join(item.impath.rsplit("/", 3)[1:])]
        assert entry["task"] == icon13.space.tasks[item.task].key
        assert entry["cls"] == item.classname == icon13.space.tasks[item.task].classnames[item.label]


def test_no_picture_stands_on_both_sides_of_the_split(index):
    """Byte-equal drawings under two labels would make a test image known, with another answer."""
    sides = {}
    with zipfile.ZipFile(FOLDER / "images.zip") as archive:
        for image in index["images"]:
            sides.setdefault((image["task"], archive.getinfo(image["file"]).CRC), set()).add(image["split"])
    assert not [key for key, split in sides.items() if len(split) > 1]


def test_domains_are_the_vendors(icon13, index):
    assert sorted(index["domains"]) == list(DOMAINS)
    assert not set(COLOUR_VENDORS) & set(MONOCHROME_VENDORS)
    assert icon13.domains == DOMAINS
    for item in icon13.test:
        assert item.impath.rsplit("/", 1)[1].startswith(DOMAINS[item.domain] + "__")


def test_an_image_is_read_in_place(icon13):
    image = read_image(icon13.test[0].impath)
    assert (image.size, image.mode) == ((64, 64), "RGB")


def test_colour_vendors_have_colour_and_the_others_none(icon13):
    coloured = defaultdict(list)
    for item in icon13.test[::9]:
        saturation = read_image(item.impath).convert("HSV").getchannel("S").getextrema()[1]
        coloured[DOMAINS[item.domain]].append(saturation > 0)
    assert all(sum(coloured[vendor]) > 0.8 * len(coloured[vendor]) for vendor in COLOUR_VENDORS)
    assert not any(any(coloured[vendor]) for vendor in MONOCHROME_VENDORS if vendor != "icon-park")


def test_notice_is_up_to_date(index):
    text = (FOLDER / "NOTICE").read_text(encoding="utf-8")
    assert text == notice(index)
    for name, domain in index["domains"].items():
        assert f"\n{name} (" in text
        assert domain["license"] in text
        assert domain["author"]["name"] in text


def test_icon5_is_five_tasks_of_icon13(icon13):
    icon5 = build_dataset(config("Icon5"))
    assert [task.key for task in icon5.space.tasks] == ["faces", "hands", "produce", "mammals", "dishes"]
    assert icon5.num_classes == 149
    keys = {task.key for task in icon5.space.tasks}
    same = [item for item in icon13.test if icon13.space.tasks[item.task].key in keys]
    assert files(icon5.test) == files(same)


def test_few_shots_are_the_same_images_in_both():
    few = files(build_dataset(config("Icon5", NUM_SHOTS=2)).train_x)
    assert few < files(build_dataset(config("Icon13", NUM_SHOTS=2)).train_x)
    assert few < files(build_dataset(config("Icon5", NUM_SHOTS=4)).train_x)
    assert few != files(build_dataset(config("Icon5", NUM_SHOTS=2, seed=0)).train_x)


def test_damage_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Icon13: not found.*no images.zip and no index.json"):
        build_dataset(config("Icon13"))
