"""Tiny versions of the datasets in their exact published on-disk layout, with the real number of classes.

`make("OxfordPets", root)` builds one, `make_general10(root)`, `make_plant6(root)`, `make_fashion20(root)` whole suites;
each returns `root`. Images are 8 x 8 pixels in one colour a class. `images` is the number of images a class (in each
part, where the published data come in parts), at least 2.
"""

from __future__ import annotations

import colorsys
import io
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.classnames import EUROSAT, PLANT_VILLAGE
from datasets.table import FASHION20, GENERAL10, PLANT6

AIRCRAFT = ("707-320", "A310", "DR-400", "F-16A/B", "Cessna 172")
FASHION_CLASSES = (4, 3, 4, 5, 4, 3, 5, 4, 5, 4, 3, 4, 3, 4, 5, 3, 4, 3, 4, 4)  # made up; only their sum is published


@lru_cache(maxsize=4096)
def _picture(number: int, kind: str = "JPEG") -> bytes:
    red, green, blue = (int(255 * v) for v in colorsys.hsv_to_rgb(number * 0.381966 % 1, 0.9, 0.5 + number % 3 / 4))
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (red, green, blue)).save(file, kind)
    return file.getvalue()


def _put(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_picture(number, "PNG" if path.suffix == ".png" else "JPEG"))


def _text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _folders(base: Path, names: list[str], images: int, pattern: str = "image_{:04d}.jpg") -> None:
    for label, name in enumerate(sorted(names)):
        (base / name).mkdir(parents=True)
        for i in range(1, images + 1):
            (base / name / pattern.format(i)).write_bytes(_picture(label))


def _words(count: int, style: Callable[[str], str] = str) -> list[str]:
    """`count` different made-up class names of two words."""
    first, second = ("amber", "birch", "coral", "delta"), ("fern", "gate", "hill", "iris")
    return [style(f"{first[i % 4]}_{second[i // 4 % 4]}_{chr(97 + i // 26)}{chr(97 + i % 26)}") for i in range(count)]


# ---- General-10 --------------------------------------------------------------------------------------------------


def caltech101(root: Path, images: int) -> None:
    names = ["Faces", "Leopards", "Motorbikes", "airplanes", "BACKGROUND_Google", "Faces_easy", *_words(96)]
    _folders(root / "caltech-101/101_ObjectCategories", names, images)


def dtd(root: Path, images: int) -> None:
    _folders(root / "dtd/images", _words(47), images)
    (root / "dtd/labels").mkdir()
    (root / "dtd/imdb").mkdir()


def eurosat(root: Path, images: int) -> None:
    _folders(root / "eurosat/2750", list(EUROSAT), images)


def fgvc_aircraft(root: Path, images: int) -> None:
    folder = root / "fgvc_aircraft"
    names = [*AIRCRAFT, *_words(95, lambda w: w.replace("_", " "))]
    _text(folder / "variants.txt", names)
    number = 100000
    for part in ("train", "val", "test"):
        lines = []
        for label, name in enumerate(names):
            for _ in range(max(images // 2, 1)):
                number += 1
                _put(folder / f"images/{number}.jpg", label)
                lines.append(f"{number} {name}")
        _text(folder / f"images_variant_{part}.txt", lines)


def food101(root: Path, images: int) -> None:
    _folders(root / "food-101/images", _words(101), images, "{:07d}.jpg")
    _text(root / "food-101/meta/classes.txt", _words(101))


def oxford_flowers(root: Path, images: int) -> None:
    from scipy.io import savemat

    folder = root / "oxford_flowers"
    labels = [i % 102 + 1 for i in range(102 * images)]
    for i, label in enumerate(labels, 1):
        _put(folder / f"jpg/image_{i:05d}.jpg", label)
    savemat(str(folder / "imagelabels.mat"), {"labels": np.array([labels], dtype=np.uint8)})
    names = _words(102, lambda w: w.replace("_", " "))
    (folder / "cat_to_name.json").write_text(json.dumps({str(i + 1): name for i, name in enumerate(names)}))


def oxford_pets(root: Path, images: int) -> None:
    folder, lists = root / "oxford_pets", {"trainval": [], "test": []}
    for label, breed in enumerate(_words(37, str.capitalize)):
        for i in range(1, images + 3):
            _put(folder / f"images/{breed}_{i}.jpg", label)
            lists["test" if i > images else "trainval"].append(f"{breed}_{i} {label + 1} {1 + label % 2} {label + 1}")
    (folder / "images" / "Abyssinian_100.mat").write_bytes(b"x")  # the archive holds a few of these
    for name, lines in lists.items():
        _text(folder / f"annotations/{name}.txt", lines)


def stanford_cars(root: Path, images: int) -> None:
    from scipy.io import savemat

    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    names = ["AM General Hummer SUV 2000", *(f"{w.replace('_', ' ')} 2012" for w in _words(195, str.title))]
    savemat(str(folder / "devkit/cars_meta.mat"), {"class_names": np.array([names], dtype=object)})
    box = [(f"bbox_{c}", "O") for c in ("x1", "y1", "x2", "y2")]
    for part, count, path in (
        ("cars_train", images, "devkit/cars_train_annos.mat"),
        ("cars_test", 2, "cars_test_annos_withlabels.mat"),
    ):
        notes = np.zeros((1, count * 196), dtype=[*box, ("class", "O"), ("fname", "O")])
        for i in range(count * 196):
            name = f"{i + 1:05d}.jpg"
            _put(folder / part / name, i % 196)
            notes[0, i] = (1, 1, 8, 8, i % 196 + 1, name)
        savemat(str(folder / path), {"annotations": notes})


def sun397(root: Path, images: int) -> None:
    folder = root / "sun397"
    names = ["/a/abbey", "/a/athletic_field/outdoor", *(f"/{w[0]}/{w}" for w in _words(395))]
    lines = {"Training_01": [], "Testing_01": []}
    for label, name in enumerate(names):
        for i in range(images + 1):
            image = f"{name}/sun_{label:04d}{i:02d}.jpg"
            _put(folder / f"SUN397{image}", label)
            lines["Testing_01" if i >= images - 1 else "Training_01"].append(image)
    _text(folder / "ClassName.txt", names)
    for file, content in lines.items():
        _text(folder / f"{file}.txt", content)


def ucf101(root: Path, images: int) -> None:
    folder = root / "ucf101"
    names = ["ApplyEyeMakeup", "YoYo", *_words(99, lambda w: w.title().replace("_", ""))]
    train, test = [], []
    for label, name in enumerate(names):
        action = "".join("_" * (i > 0 and c.isupper()) + c for i, c in enumerate(name))
        for i in range(1, images + 2):
            video = f"v_{name}_g{i:02d}_c01"
            _put(folder / f"UCF-101-midframes/{action}/{video}.jpg", label)
            if i > 1:
                train.append(f"{name}/{video}.avi {label + 1}")
            else:
                test.append(f"{name}/{video}.avi")
    _text(folder / "ucfTrainTestlist/classInd.txt", [f"{i} {name}" for i, name in enumerate(names, 1)])
    _text(folder / "ucfTrainTestlist/trainlist01.txt", train)
    _text(folder / "ucfTrainTestlist/testlist01.txt", test)


# ---- Plant-6 and Fashion-20 --------------------------------------------------------------------------------------


def _divided(base: Path, names: list[str], images: int) -> None:
    for part in ("train", "test", "validation"):
        _folders(base / part, names, images, "Image_{}.jpg")


def fruit_vegetable(root: Path, images: int) -> None:
    _divided(root / "fruit_vegetable/images", ["jalepeno", "raddish", "sweetpotato", *_words(33)], images)


def kaggle_flower(root: Path, images: int) -> None:
    base = root / "kaggle_flower_recognition/flowers"
    _folders(base, ["daisy", "dandelion", "rose", "sunflower", "tulip"], images)


def kaggle_mushroom(root: Path, images: int) -> None:
    _folders(root / "kaggle_mushroom/Mushrooms", _words(9, str.capitalize), images)


def kaggle_vegetable(root: Path, images: int) -> None:
    _divided(root / "kaggle_vegetable/images", ["Bitter_Gourd", *_words(14, str.title)], images)


def plant_seedling(root: Path, images: int) -> None:
    names = ["Black-grass", "Small-flowered Cranesbill", *_words(10)]
    _folders(root / "PlantSeedlingV1/Nonsegmented", names, images, "{}.png")


def plant_village(root: Path, images: int) -> None:
    base = root / "PlantVillage/Plant_leave_diseases_dataset_without_augmentation"
    _folders(base, list(PLANT_VILLAGE), images, "image ({}).JPG")


def fashion20(root: Path, images: int) -> None:
    folder = root / "fashion20"
    lines = ["id\ttask_name\tnum\tlabels"]
    for task, (key, count) in enumerate(zip(FASHION20[0].task_keys, FASHION_CLASSES, strict=True)):
        _folders(folder / f"images/{task}", [str(label) for label in range(count)], images)
        lines.append(f"{task}\t{key}\t{count}\t" + ",".join(f"{key} {w}" for w in _words(count)))
    _text(folder / "task_info.csv", lines)


MAKERS: dict[str, Callable[[Path, int], None]] = {
    "Caltech101": caltech101,
    "DescribableTextures": dtd,
    "EuroSAT": eurosat,
    "FGVCAircraft": fgvc_aircraft,
    "Food101": food101,
    "OxfordFlowers": oxford_flowers,
    "OxfordPets": oxford_pets,
    "StanfordCars": stanford_cars,
    "SUN397": sun397,
    "UCF101": ucf101,
    "FruitVegetable": fruit_vegetable,
    "KaggleFlower": kaggle_flower,
    "KaggleMushroom": kaggle_mushroom,
    "KaggleVegetable": kaggle_vegetable,
    "PlantSeedlingV1": plant_seedling,
    "PlantVillage": plant_village,
    "Fashion20": fashion20,
}


def make(name: str, root: Path | str, images: int = 4) -> Path:
    """Build the dataset registered as `name` below `root`."""
    MAKERS[name](Path(root), images)
    return Path(root)


def make_general10(root: Path | str, images: int = 4) -> Path:
    """Build all of General-10: 1,191 classes."""
    for row in GENERAL10:
        make(row.name, root, images)
    return Path(root)


def make_plant6(root: Path | str, images: int = 4) -> Path:
    """Build all of Plant-6: 116 classes."""
    for row in PLANT6:
        make(row.name, root, images)
    return Path(root)


def make_fashion20(root: Path | str, images: int = 10) -> Path:
    """Build Fashion-20: 20 tasks, 78 classes."""
    return make("Fashion20", root, images)
