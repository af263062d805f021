"""The archives of the datasets as they are published, made from the trees of `layouts`: what they begin with, what
else is in them, which lie within another.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

# file name -> [(files below the dataset's folder, the folder of the archive they are in)], for what is unpacked simply.
_SIMPLE = {
    "dtd-r1.0.1.tar.gz": [("images/**", "dtd/images"), ("imdb", "dtd"), ("labels", "dtd")],
    "EuroSAT.zip": [("2750/**", "2750")],
    "fgvc-aircraft-2013b.tar.gz": [
        ("images/**", "fgvc-aircraft-2013b/data/images"),
        ("*.txt", "fgvc-aircraft-2013b/data"),
    ],
    "food-101.tar.gz": [("images/**", "food-101/images"), ("meta/**", "food-101/meta")],
    "102flowers.tgz": [("jpg/**", "jpg")],
    "images.tar.gz": [("images/**", "images")],
    "annotations.tar.gz": [("annotations/**", "annotations")],
    "cars_train.tgz": [("cars_train/**", "cars_train")],
    "cars_test.tgz": [("cars_test/**", "cars_test")],
    "car_devkit.tgz": [("devkit/**", "devkit")],
    "SUN397.tar.gz": [("SUN397/**", "SUN397")],
    "Partitions.zip": [("*.txt", "")],
    "UCF-101-midframes.zip": [("UCF-101-midframes/**", "UCF-101-midframes")],
    "UCF101TrainTestSplits-RecognitionTask.zip": [("ucfTrainTestlist/**", "ucfTrainTestlist")],
    "fruit-and-vegetable-image-recognition.zip": [("images/**", "")],
    "flowers-recognition.zip": [("flowers/**", "flowers"), ("flowers/**", "flowers/flowers")],
    "mushrooms-classification-common-genuss-images.zip": [("Mushrooms/**", "Mushrooms")],
    "vegetable-image-dataset.zip": [("images/**", "Vegetable Images")],
    "Nonsegmented.zip": [("Nonsegmented/**", "Nonsegmented")],
    "Plant_leaf_diseases_dataset_without_augmentation.zip": [
        (
            "Plant_leave_diseases_dataset_without_augmentation/**",
            "Plant_leave_diseases_dataset_without_augmentation",
        )
    ],
    "UCMerced_LandUse.zip": [("UCMerced_LandUse/**", "UCMerced_LandUse")],
    "RSSCN7-master.zip": [("RSSCN7/**", "RSSCN7-9ae1f3e")],
    "imagenet-a.tar": [("imagenet-a/**", "imagenet-a")],
}


def published(name: str, folder: Path) -> bytes:
    """The file `name` of the dataset that was made in `folder`."""
    if name == "caltech-101.zip":
        inner = _packed(".tar.gz", _files(folder, "101_ObjectCategories/**", "101_ObjectCategories"))
        return _packed(
            ".zip",
            {
                "caltech-101/101_ObjectCategories.tar.gz": inner,
                "caltech-101/Annotations.tar": _packed(".tar", {"Annotations/a.mat": b"x"}),
                "__MACOSX/caltech-101/._Annotations.tar": b"x",
            },
        )
    if name not in _SIMPLE:
        return (folder / name).read_bytes()
    members = {}
    for pattern, top in _SIMPLE[name]:
        members.update(_files(folder, pattern, top))
    return _packed(".zip" if name.endswith(".zip") else ".tar" if name.endswith(".tar") else ".tar.gz", members)


def _files(folder: Path, pattern: str, top: str) -> dict[str, bytes]:
    """{name in the archive: content}; a pattern "x/**" is taken from x on."""
    base = folder / pattern.removesuffix("/**") if pattern.endswith("/**") else folder
    paths = sorted(base.rglob("*") if pattern.endswith("/**") else folder.glob(pattern))
    names = ((path, f"{top}/{path.relative_to(base).as_posix()}".lstrip("/")) for path in paths)
    return {name: path.read_bytes() for path, name in names if path.is_file()}


def _packed(kind: str, members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    if kind == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=file, mode="w:gz" if kind == ".tar.gz" else "w") as archive:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()
