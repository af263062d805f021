"""What is known of the published datasets besides their rows: images, size, and what else their folders are called.

The numbers are those of the datasets' own pages and papers. They are for orientation: a dataset that has fewer images
is used, and a note says so.
"""

from __future__ import annotations

import re

# dataset -> images in its split
IMAGES = {
    "Caltech101": 8_242,
    "DescribableTextures": 5_640,
    "EuroSAT": 27_000,
    "FGVCAircraft": 10_000,
    "Food101": 101_000,
    "OxfordFlowers": 8_189,
    "OxfordPets": 7_349,
    "StanfordCars": 16_185,
    "SUN397": 39_700,
    "UCF101": 13_320,
    "FruitVegetable": 3_825,
    "KaggleFlower": 4_317,
    "KaggleMushroom": 6_714,
    "KaggleVegetable": 21_000,
    "PlantSeedlingV1": 5_544,
    "PlantVillage": 55_448,
    "Fashion20": 24_000,
    "AID": 10_000,
    "RESISC45": 31_500,
    "UCMerced": 2_100,
    "WHURS19": 1_005,
    "RSSCN7": 2_800,
    "RSICB128": 36_707,
    "RSICB256": 24_747,
    "OPTIMAL31": 1_860,
    "PatternNet": 30_400,
    "ImageNet": 1_331_167,
    "ImageNetV2": 10_000,
    "ImageNetSketch": 50_889,
    "ImageNetA": 7_500,
    "ImageNetR": 30_000,
}

# dataset -> size of what is downloaded, where the row does not list the files
SIZES = {"ImageNet": "145 GB", "RESISC45": "400 MB"}

# folder of a row -> what its archive, or other software that downloads it, calls that folder
OTHER_FOLDERS: dict[str, tuple[str, ...]] = {
    "fgvc_aircraft": ("fgvc-aircraft-2013b",),
    "oxford_flowers": ("flowers-102", "flowers102", "102flowers"),
    "oxford_pets": ("oxford-iiit-pet", "oxford-iiit-pets", "pets"),
    "food-101": ("food101",),
    "kaggle_flower_recognition": ("flowers-recognition",),
    "kaggle_mushroom": ("mushrooms-classification-common-genuss-images",),
    "fruit_vegetable": ("fruit-and-vegetable-image-recognition",),
    "kaggle_vegetable": ("vegetable-images",),
    "imagenet": ("ILSVRC2012", "ILSVRC", "imagenet-1k"),
    "imagenet-adversarial": ("imagenet-a",),
    "imagenet-rendition": ("imagenet-r",),
    "imagenet-sketch": ("sketch",),
}


def plain(name: str) -> str:
    """A name without case and punctuation, so that "Caltech_101" and "caltech-101" are the same."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def size_line(row) -> str:
    """Size, images and classes of a row in words, with what is known of them."""
    images, size = IMAGES.get(row.name, 0), SIZES.get(row.name, "")
    sizes = [file.size for file in row.files if not file.optional]
    if sizes and all(sizes):
        megabytes = sum(sizes)
        size = f"{megabytes / 1000:.3g} GB" if megabytes >= 1000 else f"{megabytes} MB"
    parts = [f"about {size} to download"] if size else []
    parts += [f"{images:,} images"] if images else []
    return ", ".join([*parts, f"{row.classes:,} classes"])
