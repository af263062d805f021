"""Published kinds of split files over the tiny datasets, with a chance to damage them."""

import json
import shutil

from tests.datasets import layouts

PETS = [f"breed_{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(37)]


def zhou_pets(root, change=lambda split: None):
    """CoOp's split file over the images of the layout: one image per class and part."""
    layouts.make("OxfordPets", root)
    images = sorted(p.name for p in (root / "oxford_pets/images").glob("*.jpg"))
    by_breed = [images[i : i + 6] for i in range(0, len(images), 6)]
    split = {
        part: [[files[n], label, PETS[label]] for label, files in enumerate(by_breed)]
        for n, part in enumerate(("train", "val", "test"))
    }
    change(split)
    shutil.rmtree(root / "oxford_pets/annotations")
    (root / "oxford_pets/split_zhou_OxfordPets.json").write_text(json.dumps(split))
    return split


def dk_flowers(root, change=lambda content: None):
    """SoftCPT's split file, in its layout."""
    layouts.make("KaggleFlower", root)
    names = ["daisy", "dandelion", "rose", "sunflower", "tulip"]
    content = {
        part: [[f"{name}/image_000{n}.jpg", [label], [0]] for label, name in enumerate(names)]
        for n, part in enumerate(("train", "val", "test"), 1)
    }
    content["meta"] = {
        "taskid2cname": {"0": {str(label): name for label, name in enumerate(names)}},
        "taskid2tname": {"0": "five flowers"},
        "taskid2desc": {"0": "which of five flowers"},
        "taskid2type": {"0": "sl"},
        "taskid2metric": {"0": "overall_acc"},
    }
    change(content)
    (root / "kaggle_flower_recognition/split_dk_kaggle_flower.json").write_text(json.dumps(content))
    return content
