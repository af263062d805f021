"""One row a dataset: where it lies, how it is read and divided, and what the model is told about it.

A row is all there is to a dataset; its registered class is generated from it (`suites.py`), the reading is done by
`readers.py`, the dividing by `splits.py`. Paths are relative: `folder` to DATASET.ROOT, everything else to `folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from datasets import classnames, readers
from datasets.readers import Raw

NO_CHANGE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Row:
    """A dataset.

    Attributes:
        name: the registered name.
        folder: the dataset's folder.
        images: folder that the paths in split files start from; "" is `folder` itself.
        classes: number of classes, of all tasks together.
        read: reader of the raw data, called where there is no split file.
        rule: key of `splits.RULES`, how the raw data are divided.
        task_name: the task in words, a model input; `task_name.txt` in `folder` wins.
        subject: what is classified, for the description; `task_desc.txt` in `folder` wins.
        template: zero-shot prompt. `templates`, one a task, takes its place where there are several tasks.
        metric: "overall_acc" or "mean_acc".
        needs: files that the reader reads.
        image_folders: folders that must be there; by default `images`.
        skip: class folders that are no classes.
        rename: class names that are changed; of all others only underscores are.
        split_files: published split files, in the order in which they are looked for.
        task_keys: keys of the tasks where there are several.
        source: where to get what.
    """

    name: str
    folder: str
    images: str
    classes: int
    read: Callable[[Row, Path], Raw]
    rule: str
    task_name: str
    subject: str
    template: str = "a photo of a {}."
    metric: str = "overall_acc"
    needs: tuple[str, ...] = ()
    image_folders: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=lambda: NO_CHANGE)
    split_files: tuple[str, ...] = ()
    task_keys: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    source: str = ""

    @property
    def description(self) -> str:
        """The task in a sentence, in the style of the one published example."""
        return f"classify {self.subject} images into {self.classes} categories"


def _splits(name: str, dk: str = "", zhou: bool = True) -> tuple[str, ...]:
    return (f"split_dk_{dk or name}.json", *([f"split_zhou_{name}.json"] if zhou else []))


GENERAL10 = (
    Row(
        "Caltech101",
        "caltech-101",
        "101_ObjectCategories",
        100,
        readers.class_folders,
        "per-class",
        "objects image classification",
        "object",
        metric="mean_acc",
        skip=("BACKGROUND_Google", "Faces_easy"),
        rename=classnames.CALTECH101,
        split_files=_splits("Caltech101"),
        source="http://www.vision.caltech.edu/Image_Datasets/Caltech101/101_ObjectCategories.tar.gz",
    ),
    Row(
        "DescribableTextures",
        "dtd",
        "images",
        47,
        readers.class_folders,
        "per-class",
        "textures image classification",
        "texture",
        "{} texture.",
        split_files=_splits("DescribableTextures"),
        source="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
    ),
    Row(
        "EuroSAT",
        "eurosat",
        "2750",
        10,
        readers.class_folders,
        "per-class",
        "satellite land use image classification",
        "satellite land use",
        "a centered satellite photo of {}.",
        rename=classnames.EUROSAT,
        split_files=_splits("EuroSAT"),
        source="http://madm.dfki.de/files/sentinel/EuroSAT.zip",
    ),
    Row(
        "FGVCAircraft",
        "fgvc_aircraft",
        "images",
        100,
        readers.fgvc_aircraft,
        "official",
        "aircraft models image classification",
        "aircraft model",
        "a photo of a {}, a type of aircraft.",
        "mean_acc",
        needs=("variants.txt", "images_variant_train.txt", "images_variant_val.txt", "images_variant_test.txt"),
        source="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz "
        "(its folder data/, renamed)",
    ),
    Row(
        "Food101",
        "food-101",
        "images",
        101,
        readers.class_folders,
        "per-class",
        "food dishes image classification",
        "food dish",
        "a photo of {}, a type of food.",
        split_files=_splits("Food101"),
        source="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    ),
    Row(
        "OxfordFlowers",
        "oxford_flowers",
        "jpg",
        102,
        readers.oxford_flowers,
        "per-class",
        "flower species image classification",
        "flower species",
        "a photo of a {}, a type of flower.",
        "mean_acc",
        needs=("imagelabels.mat", "cat_to_name.json"),
        split_files=_splits("OxfordFlowers"),
        source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (102flowers.tgz, imagelabels.mat); "
        "cat_to_name.json: Google Drive 1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0",
    ),
    Row(
        "OxfordPets",
        "oxford_pets",
        "images",
        37,
        readers.oxford_pets,
        "official-test",
        "cat and dog breeds image classification",
        "cat and dog breed",
        "a photo of a {}, a type of pet.",
        "mean_acc",
        needs=("annotations/trainval.txt", "annotations/test.txt"),
        split_files=_splits("OxfordPets"),
        source="https://www.robots.ox.ac.uk/~vgg/data/pets/data/ (images.tar.gz, annotations.tar.gz)",
    ),
    Row(
        "StanfordCars",
        "stanford_cars",
        "",
        196,
        readers.stanford_cars,
        "official-test",
        "car models image classification",
        "car model",
        needs=("devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"),
        image_folders=("cars_train", "cars_test"),
        split_files=_splits("StanfordCars"),
        source="http://ai.stanford.edu/~jkrause/car196/ (cars_train.tgz, cars_test.tgz, "
        "cars_test_annos_withlabels.mat) and car_devkit.tgz",
    ),
    Row(
        "SUN397",
        "sun397",
        "SUN397",
        397,
        readers.sun397,
        "official-test",
        "scenes and places image classification",
        "scene and place",
        needs=("ClassName.txt", "Training_01.txt", "Testing_01.txt"),
        split_files=_splits("SUN397"),
        source="http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz and download/Partitions.zip",
    ),
    Row(
        "UCF101",
        "ucf101",
        "UCF-101-midframes",
        101,
        readers.ucf101,
        "official-test",
        "human actions image classification",
        "human action",
        "a photo of a person doing {}.",
        needs=tuple(f"ucfTrainTestlist/{name}.txt" for name in ("classInd", "trainlist01", "testlist01")),
        split_files=_splits("UCF101"),
        source="UCF-101-midframes.zip, Google Drive 10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O",
    ),
)

PLANT6 = (
    Row(
        "FruitVegetable",
        "fruit_vegetable",
        "images",
        36,
        readers.divided_class_folders,
        "per-class",
        "fruits and vegetables image classification",
        "fruit and vegetable",
        "a photo of a {}, a type of fruit or vegetable.",
        image_folders=("images/train", "images/validation", "images/test"),
        split_files=_splits("FruitVegetable", zhou=False),
        source="Kaggle kritikseth/fruit-and-vegetable-image-recognition",
    ),
    Row(
        "KaggleFlower",
        "kaggle_flower_recognition",
        "flowers",
        5,
        readers.class_folders,
        "per-class",
        "flowers image classification",
        "flower",
        "a photo of a {}, a type of flower.",
        skip=("flowers",),  # the archive holds everything twice
        split_files=_splits("KaggleFlower", "kaggle_flower", zhou=False),
        source="Kaggle alxmamaev/flowers-recognition",
    ),
    Row(
        "KaggleMushroom",
        "kaggle_mushroom",
        "Mushrooms",
        9,
        readers.class_folders,
        "per-class",
        "mushrooms image classification",
        "mushroom",
        "a photo of a {}, a type of mushroom.",
        split_files=_splits("KaggleMushroom", zhou=False),
        source="Kaggle maysee/mushrooms-classification-common-genuss-images",
    ),
    Row(
        "KaggleVegetable",
        "kaggle_vegetable",
        "images",
        15,
        readers.divided_class_folders,
        "per-class",
        "vegetables image classification",
        "vegetable",
        "a photo of a {}, a type of vegetable.",
        image_folders=("images/train", "images/validation", "images/test"),
        split_files=_splits("KaggleVegetable", zhou=False),
        source="Kaggle misrakahmed/vegetable-image-dataset",
    ),
    Row(
        "PlantSeedlingV1",
        "PlantSeedlingV1",
        "Nonsegmented",
        12,
        readers.class_folders,
        "per-class",
        "plant seedlings image classification",
        "plant seedling",
        "a photo of a {}, a type of seedling.",
        split_files=_splits("PlantSeedlingV1", zhou=False),
        source="https://vision.eng.au.dk/plant-seedlings-dataset (arXiv 1711.05458), the non-segmented images",
    ),
    Row(
        "PlantVillage",
        "PlantVillage",
        "Plant_leave_diseases_dataset_without_augmentation",
        39,
        readers.class_folders,
        "per-class",
        "plant leaf diseases image classification",
        "plant leaf disease",
        "a photo of a plant leaf with {} disease.",
        rename=classnames.PLANT_VILLAGE,
        split_files=_splits("PlantVillage", zhou=False),
        source="Mendeley Data tywbtsjrjv, the images without augmentation",
    ),
)

# Task of Fashion-20 -> the noun of its zero-shot template.
_FASHION = {
    **dict.fromkeys(("pants_type", "pants_length", "waist_type"), "pants"),
    **dict.fromkeys(("collar_type", "sleeve_type", "sleeve_length", "top_pattern"), "tops"),
    **dict.fromkeys(("shoe_material", "shoe_style", "heel_shape", "heel_thickness", "heel_height"), "shoes"),
    **dict.fromkeys(("upper_height", "toe_cap_style"), "shoes"),
    "hat_style": "hat",
    **dict.fromkeys(("socks_length", "socks_type"), "socks"),
    "skirt_length": "skirt",
    "number_of_button_rows": "tops",
    "underwear_style": "underwear",
}

FASHION20 = (
    Row(
        "Fashion20",
        "fashion20",
        "images",
        78,
        readers.fashion20,
        "per-task",
        "",  # every task has a name of its own
        "fashion",
        metric="mean_acc",
        needs=("task_info.csv",),
        split_files=_splits("Fashion20", zhou=False),
        task_keys=tuple(_FASHION),
        templates=tuple(f"a photo of {{}}, a type of {noun}." for noun in _FASHION.values()),
        source="Baidu pan https://pan.baidu.com/s/1ITXWaRVVXi1PLnbXVa_kjA?pwd=67c4",
    ),
)

ROWS: dict[str, Row] = {row.name: row for row in (*GENERAL10, *PLANT6, *FASHION20)}
