"""Plant-6: six tasks, 116 classes (SoftCPT)."""

from datasets import classnames, readers
from datasets.known.remote import RemoteFile, same_names
from datasets.known.row import Row, published_splits

_PARTS = (("train", "images/train"), ("validation", "images/validation"), ("test", "images/test"))


def _kaggle(name: str, put: tuple[tuple[str, str], ...], size: int) -> RemoteFile:
    """The archive of a Kaggle dataset. Downloading needs an account; browsers name every archive archive.zip."""
    page = f"https://www.kaggle.com/datasets/{name}"
    return RemoteFile(f"{name.partition('/')[2]}.zip", put, page=page, also=("archive.zip",), size=size)


ROWS = (
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
        split_files=published_splits("FruitVegetable", zhou=False),
        other_folders=("fruit-and-vegetable-image-recognition",),
        published_images=3_825,
        source="Kaggle kritikseth/fruit-and-vegetable-image-recognition",
        files=(_kaggle("kritikseth/fruit-and-vegetable-image-recognition", _PARTS, 2000),),
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
        skip=("flowers",),  # the archive contains everything twice
        split_files=published_splits("KaggleFlower", "kaggle_flower", zhou=False),
        other_folders=("flowers-recognition",),
        published_images=4_317,
        source="Kaggle alxmamaev/flowers-recognition",
        files=(_kaggle("alxmamaev/flowers-recognition", same_names("flowers"), 235),),
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
        split_files=published_splits("KaggleMushroom", zhou=False),
        other_folders=("mushrooms-classification-common-genuss-images",),
        published_images=6_714,
        source="Kaggle maysee/mushrooms-classification-common-genuss-images",
        files=(_kaggle("maysee/mushrooms-classification-common-genuss-images", same_names("Mushrooms"), 1700),),
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
        split_files=published_splits("KaggleVegetable", zhou=False),
        other_folders=("vegetable-images",),
        published_images=21_000,
        source="Kaggle misrakahmed/vegetable-image-dataset",
        files=(_kaggle("misrakahmed/vegetable-image-dataset", _PARTS, 530),),
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
        split_files=published_splits("PlantSeedlingV1", zhou=False),
        published_images=5_544,
        source="https://vision.eng.au.dk/plant-seedlings-dataset (arXiv 1711.05458), the non-segmented images",
        files=(
            RemoteFile(
                "Nonsegmented.zip",
                same_names("Nonsegmented"),
                page="https://vision.eng.au.dk/plant-seedlings-dataset",
                size=1700,
            ),
        ),
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
        split_files=published_splits("PlantVillage", zhou=False),
        published_images=55_448,
        source="Mendeley Data tywbtsjrjv, the images without augmentation",
        files=(
            RemoteFile(
                "Plant_leaf_diseases_dataset_without_augmentation.zip",
                same_names("Plant_leave_diseases_dataset_without_augmentation"),
                (
                    "https://data.mendeley.com/public-files/datasets/tywbtsjrjv/files/"
                    "d5652a28-c1d8-4b76-97f3-72fb80f94efc/file_downloaded",
                ),
                page="https://data.mendeley.com/datasets/tywbtsjrjv/1",
                size=868,
                unpacked=1000,
            ),
        ),
    ),
)
