"""What is known of the published datasets besides their rows: images, size, and what else their folders are called.

Numbers are those of the datasets' own pages and papers, sizes are those of the archives, rounded; they are printed for
orientation and nothing is computed from them.
"""

from __future__ import annotations

import re

# dataset -> (images in its split, size of what is downloaded; "" where it is not known)
PUBLISHED: dict[str, tuple[int, str]] = {
    "Caltech101": (8_242, "130 MB"),
    "DescribableTextures": (5_640, "600 MB"),
    "EuroSAT": (27_000, "90 MB"),
    "FGVCAircraft": (10_000, "2.8 GB"),
    "Food101": (101_000, "5 GB"),
    "OxfordFlowers": (8_189, "350 MB"),
    "OxfordPets": (7_349, "800 MB"),
    "StanfordCars": (16_185, "2 GB"),
    "SUN397": (39_700, "37 GB"),
    "UCF101": (13_320, ""),
    "FruitVegetable": (3_825, "2 GB"),
    "KaggleFlower": (4_317, "230 MB"),
    "KaggleMushroom": (6_714, "1.7 GB"),
    "KaggleVegetable": (21_000, "530 MB"),
    "PlantSeedlingV1": (5_544, "1.7 GB"),
    "PlantVillage": (55_448, "850 MB"),
    "Fashion20": (24_000, ""),
    "AID": (10_000, "2.5 GB"),
    "RESISC45": (31_500, "400 MB"),
    "UCMerced": (2_100, "320 MB"),
    "WHURS19": (1_005, "100 MB"),
    "RSSCN7": (2_800, "350 MB"),
    "RSICB128": (36_707, ""),
    "RSICB256": (24_747, ""),
    "OPTIMAL31": (1_860, ""),
    "PatternNet": (30_400, "1.4 GB"),
    "ImageNet": (1_331_167, "145 GB"),
    "ImageNetV2": (10_000, "1.3 GB"),
    "ImageNetSketch": (50_889, "7 GB"),
    "ImageNetA": (7_500, "690 MB"),
    "ImageNetR": (30_000, "2.2 GB"),
}

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
    images, size = PUBLISHED.get(row.name, (0, ""))
    sizes = [file.size for file in row.files if not file.optional]
    if sizes and all(sizes):
        megabytes = sum(sizes)
        size = f"{megabytes / 1000:.3g} GB" if megabytes >= 1000 else f"{megabytes} MB"
    parts = [f"about {size} to download"] if size else []
    parts += [f"{images:,} images"] if images else []
    return ", ".join([*parts, f"{row.classes:,} classes"])
