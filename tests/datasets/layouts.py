"""Tiny versions of the datasets in their exact published on-disk layout, with the real number of classes.

`make("OxfordPets", root)` builds one, `make_general10(root)`, `make_plant6(root)`, `make_fashion20(root)` and
`make_rs8(root)` whole suites, `make_everything(root)` all there is; each returns `root`. Images are 8 x 8 pixels in one
colour per class. `images` is the number of images per class (and per part, if the published data have parts), at
least 2, or 1 for ImageNet and its shifted sets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from datasets.classnames import EUROSAT, PLANT_VILLAGE
from datasets.table import FASHION20, GENERAL10, PLANT6, ROWS, RS8
from tests.datasets.layouts_elevater import ELEVATER_MAKERS
from tests.datasets.layouts_imagenet import IMAGENET_MAKERS
from tests.datasets.layouts_scenes import SCENE_MAKERS
from tests.datasets.small_files import folders, put, words, write_lines

AIRCRAFT = ("707-320", "A310", "DR-400", "F-16A/B", "Cessna 172")
FASHION_CLASSES = (4, 3, 4, 5, 4, 3, 5, 4, 5, 4, 3, 4, 3, 4, 5, 3, 4, 3, 4, 4)  # made up; only their sum is published


# ---- General-10 --------------------------------------------------------------------------------------------------


def caltech101(root: Path, images: int) -> None:
    names = ["Faces", "Leopards", "Motorbikes", "airplanes", "BACKGROUND_Google", "Faces_easy", *words(96)]
    folders(root / "caltech-101/101_ObjectCategories", names, images)


def dtd(root: Path, images: int) -> None:
    folders(root / "dtd/images", words(47), images)
    (root / "dtd/labels").mkdir()
    (root / "dtd/imdb").mkdir()


def eurosat(root: Path, images: int) -> None:
    folders(root / "eurosat/2750", list(EUROSAT), images)


def fgvc_aircraft(root: Path, images: int) -> None:
    folder = root / "fgvc_aircraft"
    names = [*AIRCRAFT, *words(95, lambda w: w.replace("_", " "))]
    write_lines(folder / "variants.txt", names)
    number = 100000
    for part in ("train", "val", "test"):
        lines = []
        for label, name in enumerate(names):
            for _ in range(max(images // 2, 1)):
                number += 1
                put(folder / f"images/{number}.jpg", label)
                lines.append(f"{number} {name}")
        write_lines(folder / f"images_variant_{part}.txt", lines)


def food101(root: Path, images: int) -> None:
    folders(root / "food-101/images", words(101), images, "{:07d}.jpg")
    write_lines(root / "food-101/meta/classes.txt", words(101))


def oxford_flowers(root: Path, images: int) -> None:
    from scipy.io import savemat

    folder = root / "oxford_flowers"
    labels = [i % 102 + 1 for i in range(102 * images)]
    for i, label in enumerate(labels, 1):
        put(folder / f"jpg/image_{i:05d}.jpg", label)
    savemat(str(folder / "imagelabels.mat"), {"labels": np.array([labels], dtype=np.uint8)})
    names = words(102, lambda w: w.replace("_", " "))
    (folder / "cat_to_name.json").write_text(json.dumps({str(i + 1): name for i, name in enumerate(names)}))


def oxford_pets(root: Path, images: int) -> None:
    folder, lists = root / "oxford_pets", {"trainval": [], "test": []}
    for label, breed in enumerate(words(37, str.capitalize)):
        for i in range(1, images + 3):
            put(folder / f"images/{breed}_{i}.jpg", label)
            lists["test" if i > images else "trainval"].append(f"{breed}_{i} {label + 1} {1 + label % 2} {label + 1}")
    (folder / "images" / "Abyssinian_100.mat").write_bytes(b"x")  # the archive holds a few of these
    for name, lines in lists.items():
        write_lines(folder / f"annotations/{name}.txt", lines)


def stanford_cars(root: Path, images: int) -> None:
    from scipy.io import savemat

    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    names = ["AM General Hummer SUV 2000", *(f"{w.replace('_', ' ')} 2012" for w in words(195, str.title))]
    savemat(str(folder / "devkit/cars_meta.mat"), {"class_names": np.array([names], dtype=object)})
    box = [(f"bbox_{c}", "O") for c in ("x1", "y1", "x2", "y2")]
    for part, count, path in (
        ("cars_train", images, "devkit/cars_train_annos.mat"),
        ("cars_test", 2, "cars_test_annos_withlabels.mat"),
    ):
        notes = np.zeros((1, count * 196), dtype=[*box, ("class", "O"), ("fname", "O")])
        for i in range(count * 196):
            name = f"{i + 1:05d}.jpg"
            put(folder / part / name, i % 196)
            notes[0, i] = (1, 1, 8, 8, i % 196 + 1, name)
        savemat(str(folder / path), {"annotations": notes})


def sun397(root: Path, images: int) -> None:
    folder = root / "sun397"
    names = ["/a/abbey", "/a/athletic_field/outdoor", *(f"/{w[0]}/{w}" for w in words(395))]
    lines = {"Training_01": [], "Testing_01": []}
    for label, name in enumerate(names):
        for i in range(images + 1):
            image = f"{name}/sun_{label:04d}{i:02d}.jpg"
            put(folder / f"SUN397{image}", label)
            lines["Testing_01" if i >= images - 1 else "Training_01"].append(image)
    write_lines(folder / "ClassName.txt", names)
    for file, content in lines.items():
        write_lines(folder / f"{file}.txt", content)


def ucf101(root: Path, images: int) -> None:
    folder = root / "ucf101"
    names = ["ApplyEyeMakeup", "YoYo", *words(99, lambda w: w.title().replace("_", ""))]
    train, test = [], []
    for label, name in enumerate(names):
        action = "".join("_" * (i > 0 and c.isupper()) + c for i, c in enumerate(name))
        for i in range(1, images + 2):
            video = f"v_{name}_g{i:02d}_c01"
            put(folder / f"UCF-101-midframes/{action}/{video}.jpg", label)
            if i > 1:
                train.append(f"{name}/{video}.avi {label + 1}")
            else:
                test.append(f"{name}/{video}.avi")
    write_lines(folder / "ucfTrainTestlist/classInd.txt", [f"{i} {name}" for i, name in enumerate(names, 1)])
    write_lines(folder / "ucfTrainTestlist/trainlist01.txt", train)
    write_lines(folder / "ucfTrainTestlist/testlist01.txt", test)


# ---- Plant-6 and Fashion-20 --------------------------------------------------------------------------------------


def _divided(base: Path, names: list[str], images: int) -> None:
    for part in ("train", "test", "validation"):
        folders(base / part, names, images, "Image_{}.jpg")


def fruit_vegetable(root: Path, images: int) -> None:
    _divided(root / "fruit_vegetable/images", ["jalepeno", "raddish", "sweetpotato", *words(33)], images)


def kaggle_flower(root: Path, images: int) -> None:
    base = root / "kaggle_flower_recognition/flowers"
    folders(base, ["daisy", "dandelion", "rose", "sunflower", "tulip"], images)


def kaggle_mushroom(root: Path, images: int) -> None:
    folders(root / "kaggle_mushroom/Mushrooms", words(9, str.capitalize), images)


def kaggle_vegetable(root: Path, images: int) -> None:
    _divided(root / "kaggle_vegetable/images", ["Bitter_Gourd", *words(14, str.title)], images)


def plant_seedling(root: Path, images: int) -> None:
    names = ["Black-grass", "Small-flowered Cranesbill", *words(10)]
    folders(root / "PlantSeedlingV1/Nonsegmented", names, images, "{}.png")


def plant_village(root: Path, images: int) -> None:
    base = root / "PlantVillage/Plant_leave_diseases_dataset_without_augmentation"
    folders(base, list(PLANT_VILLAGE), images, "image ({}).JPG")


def fashion20(root: Path, images: int) -> None:
    folder = root / "fashion20"
    lines = ["id\ttask_name\tnum\tlabels"]
    for task, (key, count) in enumerate(zip(FASHION20[0].task_keys, FASHION_CLASSES, strict=True)):
        folders(folder / f"images/{task}", [str(label) for label in range(count)], images)
        lines.append(f"{task}\t{key}\t{count}\t" + ",".join(f"{key} {w}" for w in words(count)))
    write_lines(folder / "task_info.csv", lines)


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
    **SCENE_MAKERS,
    **IMAGENET_MAKERS,
    **ELEVATER_MAKERS,
}


def make(name: str, root: Path | str, images: int = 4) -> Path:
    """Build the dataset registered as `name` below `root`."""
    if name in MAKERS:
        MAKERS[name](Path(root), images)
    else:  # a new row of class folders
        row = ROWS[name]
        folders(Path(root, row.folder, row.images), list(row.rename) or words(row.classes), images)
    return Path(root)


def make_general10(root: Path | str, images: int = 4) -> Path:
    """Build all of General-10: 1,191 classes."""
    return _make_all([row.name for row in GENERAL10], root, images)


def make_plant6(root: Path | str, images: int = 4) -> Path:
    """Build all of Plant-6: 116 classes."""
    return _make_all([row.name for row in PLANT6], root, images)


def make_fashion20(root: Path | str, images: int = 10) -> Path:
    """Build Fashion-20: 20 tasks, 78 classes."""
    return make("Fashion20", root, images)


def make_rs8(root: Path | str, images: int = 4) -> Path:
    """Build all of RS-8: 208 classes."""
    return _make_all(RS8, root, images)


def make_everything(root: Path | str) -> Path:
    """Build all datasets with a few images per class; one image per class for ImageNet and its shifted sets."""
    for name in ROWS:
        make(name, root, 10 if name == "Fashion20" else 1 if name in IMAGENET_MAKERS else 4)
    return Path(root)


def _make_all(names: Iterable[str], root: Path | str, images: int) -> Path:
    for name in names:
        make(name, root, images)
    return Path(root)
