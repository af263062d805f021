"""Icon-13 by drawing style: the source and its shifted test sets, counted again from the index."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from datasets.icon13.source import FOLDER, TASK_KEYS, glyph, read_index
from datasets.icon13.styles import SOURCE, STYLED, TARGETS, style_of
from datasets.reading import refuse_training
from datasets.suites import ICON5
from tests.datasets.icon13.vendors import DOMAINS
from tests.datasets.settings import config
from tools import style_sheet

NAMES = [style.name for style in TARGETS]


def is_of(image, style):
    """Whether a drawing is of a style, according to its vendor."""
    vendor, icon = image["domain"], image["icon"]
    return {
        "Colour": vendor in {"noto", "noto-v1", "twemoji", "fluent-emoji-flat", "streamline-emojis"},
        "Shaded": vendor == "fluent-emoji",
        "Contrast": vendor == "fluent-emoji-high-contrast",
        "Line": vendor == "hugeicons"
        or (vendor in {"ph", "mingcute"} and "-fill" not in icon)
        or (vendor == "mdi" and "outline" in icon.split("-")),
        "Solid": vendor in {"game-icons", "fa7-solid"}
        or (vendor in {"ph", "mingcute"} and "-fill" in icon)
        or (vendor == "mdi" and "outline" not in icon.split("-")),
    }[style]


@pytest.fixture(scope="module")
def images():
    return read_index()["images"]


@pytest.fixture(scope="module")
def sources():
    return {name.removeprefix("Icon13"): source.load("") for name, source in STYLED.items()}


@pytest.fixture(scope="module")
def learned(images):
    """{(task, class)} of the source: something to train on and something to test on."""
    there = {
        split: {(i["task"], i["cls"]) for i in images if i["split"] == split and is_of(i, "Colour")}
        for split in ("train", "test")
    }
    return there["train"] & there["test"]


def as_index(source, split):
    """{path: (task, class)} of a split."""
    tasks = source.tasks
    return {
        item.path: (tasks[item.task].key, tasks[item.task].classnames[item.label]) for item in getattr(source, split)
    }


def test_the_source_has_all_its_drawings_of_classes_to_learn_and_test(images, sources, learned):
    for split in ("train", "test"):
        wanted = {
            i["file"]: (i["task"], i["cls"])
            for i in images
            if i["split"] == split and is_of(i, "Colour") and (i["task"], i["cls"]) in learned
        }
        assert as_index(sources["Colour"], split) == wanted
    assert not sources["Colour"].val
    assert {(task.key, name) for task in sources["Colour"].tasks for name in task.classnames} == learned


@pytest.mark.parametrize("style", NAMES)
def test_a_target_has_every_test_drawing_of_its_style_in_classes_of_the_source(images, sources, learned, style):
    wanted = {
        i["file"]: (i["task"], i["cls"])
        for i in images
        if i["split"] == "test" and is_of(i, style) and (i["task"], i["cls"]) in learned
    }
    assert as_index(sources[style], "test") == wanted
    assert not sources[style].train and not sources[style].val
    # its own classes are candidates, no others, in the order of the source
    for task, full in zip(sources[style].tasks, sources["Colour"].tasks, strict=True):
        assert (task.key, task.name, task.templates) == (full.key, full.name, full.templates)
        assert set(task.classnames) == {name for key, name in wanted.values() if key == task.key}
        assert [name for name in full.classnames if name in task.classnames] == list(task.classnames)
        assert len(task.classnames) > 1


def test_no_glyph_and_no_picture_of_a_test_is_in_training(images, sources):
    """A vendor's family draws one glyph in several styles: Fluent flat, shaded and in black and white."""
    by_file = {image["file"]: image for image in images}
    trained = [by_file[item.path] for item in sources["Colour"].train]
    with zipfile.ZipFile(FOLDER / "images.zip") as archive:
        known = {glyph(image) for image in trained}
        pictures = {(image["task"], archive.getinfo(image["file"]).CRC) for image in trained}
        for source in sources.values():
            tested = [by_file[item.path] for item in source.test]
            assert not [image["file"] for image in tested if glyph(image) in known]
            assert not pictures & {(image["task"], archive.getinfo(image["file"]).CRC) for image in tested}
    flat = {glyph(image) for image in images if image["domain"] == "fluent-emoji-flat" and image["split"] == "train"}
    assert flat & known  # there would be something to leak


def test_a_drawing_has_one_style_and_only_icon_park_none(images):
    for image in images:
        of = [name for name in (SOURCE.name, *NAMES) if is_of(image, name)]
        assert of == [style_of(image["domain"], image["icon"])] * (image["domain"] != "icon-park")


def test_the_styles_look_as_they_are_called(sources):
    """Colour: saturated pixels. Line and Solid: black on white, Solid with more black."""
    saturated, black = {}, {}
    with zipfile.ZipFile(FOLDER / "images.zip") as archive:
        for style, source in sources.items():
            pictures = [Image.open(io.BytesIO(archive.read(item.path))).convert("HSV") for item in source.test[::11]]
            pixels = np.stack([np.asarray(picture, dtype=float) / 255 for picture in pictures])
            saturated[style] = (pixels[..., 1] > 0.1).any((1, 2)).mean()
            black[style] = (pixels[..., 2] < 0.5).mean()
    assert min(saturated["Colour"], saturated["Shaded"]) > 0.8
    assert saturated["Contrast"] == saturated["Line"] == saturated["Solid"] == 0
    assert black["Solid"] > 1.3 * black["Line"]


@pytest.mark.parametrize("style", ["Colour", *NAMES])
def test_both_editions_are_registered(sources, style):
    full, five = build_dataset(config(f"Icon13{style}")), build_dataset(config(f"Icon5{style}"))
    assert [task.key for task in full.space.tasks] == list(TASK_KEYS)
    assert [task.key for task in five.space.tasks] == list(ICON5)
    assert len(full.test) == len(sources[style].test)
    paths = {item.impath for item in full.test if full.space.tasks[item.task].key in ICON5}
    assert {item.impath for item in five.test} == paths
    assert all(DOMAINS[item.domain] == item.impath.rsplit("/", 1)[1].split("__")[0] for item in five.test)
    few = build_dataset(config(f"Icon5{style}", NUM_SHOTS=2)).train_x
    assert bool(few) == (style == "Colour") and len(few) <= 2 * five.num_classes


def test_a_target_is_not_trained_on():
    with pytest.raises(UserError, match="Icon13Line: for testing only"):
        refuse_training(config("Icon5Line"))
    refuse_training(config("Icon5Colour"))


def test_the_picture_in_the_docs_shows_these_sets():
    made = np.asarray(style_sheet.sheet().convert("L"), dtype=float)
    with Image.open(Path(__file__).parents[3] / "docs/figures/styles.png") as picture:
        shown = np.asarray(picture.convert("L"), dtype=float)
    assert shown.shape == made.shape
    pictures = np.s_[:, style_sheet.LABEL :]  # the letters beside them depend on fonts
    assert np.abs(shown - made)[pictures].mean() < 2  # fewer colours
