"""Readers of the raw formats: class folders, MATLAB files, text lists. Each returns class names and pools of images.

A pool is a list of images to which the split rule is applied separately: one pool "all", the published "train" and
"test", or all three parts. Image paths are relative to the row's folder of images. Every reader raises UserError or
ValueError if the data contradict themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dassl.utils import UserError, counted, open_file, read_json
from datasets.classnames import scene, split_camel_case, year_first
from datasets.folders import is_folder, some
from datasets.source import Item, Raw

if TYPE_CHECKING:
    from datasets.known.row import Row

LABELS_FILE = "labels.tsv"  # beside the images of a webdataset
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2")


def subfolders(folder: Path, skip: Iterable[str] = ()) -> list[str]:
    """Names of the visible folders in `folder`, sorted, without `skip` and the folders that archivers leave behind."""
    unwanted = {*skip, "__MACOSX"}
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.name not in unwanted and is_folder(e))


def image_names(folder: Path) -> list[str]:
    """Names of the visible image files in `folder`, sorted. Lists the folder once and opens no file."""
    return sorted(n for n in os.listdir(folder) if n.lower().endswith(IMAGE_ENDINGS) and not n.startswith("."))


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, stripped, without blank lines."""
    with open_file(path, encoding="utf-8-sig") as file:
        return [line.strip() for line in file if line.strip()]


def mat(path: Path, variable: str) -> Any:
    """Read a variable of a MATLAB file as an array; structures become objects with attributes."""
    import numpy as np
    from scipy.io import loadmat

    try:
        content = loadmat(str(path), squeeze_me=True, struct_as_record=False)
    except Exception as error:  # damaged files make scipy raise nearly anything
        raise ValueError(f"{path} cannot be read as a MATLAB file ({error}); download it again") from None
    if variable not in content:
        found = ", ".join(name for name in content if not name.startswith("__"))
        raise ValueError(f"{path}: expected the variable {variable!r}, found {found or 'none'}; download it again")
    return np.atleast_1d(content[variable])


def _malformed(path: Path, line: str, expected: str) -> ValueError:
    return ValueError(f"{path}: found the line {line!r}, expected {expected}")


def _numbered(path: Path, text: str, line: str, count: int) -> int:
    """Label (from 0) of a class number (from 1) in an annotation file; `line` and `count` are for the message."""
    if not text.isdigit() or not 1 <= int(text) <= count:
        raise ValueError(f"{path}: found the class number {text!r} in the line {line!r}, expected 1 to {count}")
    return int(text) - 1


# ---- class folders -----------------------------------------------------------------------------------------------


def class_names(row: Row, where: Path) -> list[str]:
    """Names of the class folders in `where`, sorted.

    Raises:
        UserError: there are none. The message tells whether there are images without class folders.
    """
    names = subfolders(where, row.skip)
    if not names:
        flat = len(image_names(where))
        found = f"is flat: {counted(flat, 'image')} in it and" if flat else "holds"
        remedy = "Move every image into the folder of its class" if flat else "Unpack the images again"
        raise UserError(f"{row.name}: {where} {found} no class folders; expected {where.name}/<class>/*. {remedy}.")
    return names


def class_folders(row: Row, folder: Path) -> Raw:
    """<images>/<class>/*: one pool."""
    names = class_names(row, folder / row.images)
    return Raw([tuple(names)], {"all": in_folders(row, folder / row.images, names, "")}, listed=True)


def nested_class_folders(row: Row, folder: Path) -> Raw:
    """<images>/<category>/<class>/*: one pool. Categories are not part of class names; <images>/<class>/* is read too.

    Raises:
        UserError: a class in two categories, or a folder without an image.
    """
    base, where = folder / row.images, {}
    for name in class_names(row, base):
        inner = subfolders(base / name, row.skip)
        for cls, path in [(cls, f"{name}/{cls}") for cls in inner] or [(name, name)]:
            if cls in where:
                raise ValueError(f"{row.name}: the class {cls} occurs twice in {base}: in {where[cls]} and {path}")
            where[cls] = path
    names = sorted(where)
    return Raw([tuple(names)], {"all": in_folders(row, base, [where[name] for name in names], "")}, listed=True)


def divided_class_folders(row: Row, folder: Path) -> Raw:
    """<images>/{train,test,validation}/<class>/*: one pool per part."""
    parts = ("train", "validation", "test")
    found = {part: subfolders(folder / row.images / part, row.skip) for part in parts}
    names = sorted(set().union(*found.values()))
    pools = {}
    for part in parts:
        lacking = [name for name in names if name not in found[part]]
        if lacking:
            where = folder / row.images / part
            raise ValueError(f"{row.name}: {where} lacks class folders of the other parts: {some(lacking, 5)}")
        pools[part] = in_folders(row, folder / row.images, names, part + "/")
    return Raw([tuple(names)], pools, listed=True)


def in_folders(row: Row, images: Path, names: list[str], prefix: str) -> list[Item]:
    """The images in the folders `images`/`prefix``name`; the label is the position of the name in `names`.

    Raises:
        UserError: a folder without an image.
    """
    items, empty = [], []
    for label, name in enumerate(names):
        files = image_names(images / (prefix + name))
        if not files:
            empty.append(prefix + name)
        items += [Item(f"{prefix}{name}/{file}", label) for file in files]
    if empty:
        raise UserError(
            f"{row.name}: class folders without an image in {images}: {some(empty, 5)}; unpack them again, or remove "
            "folders that are not classes"
        )
    return items


# ---- annotation files ----------------------------------------------------------------------------------------------


def fgvc_aircraft(row: Row, folder: Path) -> Raw:
    """variants.txt: the classes; images_variant_{train,val,test}.txt: lines of `image-number variant`."""
    names = lines_of(folder / "variants.txt")
    label = {name: i for i, name in enumerate(names)}
    pools: dict[str, list[Item]] = {}
    for part in ("train", "val", "test"):
        path = folder / f"images_variant_{part}.txt"
        pools[part] = []
        for line in lines_of(path):
            image, _, variant = line.partition(" ")
            if variant.strip() not in label:
                raise _malformed(path, line, "an image number and a variant of variants.txt")
            pools[part].append(Item(f"{image}.jpg", label[variant.strip()]))
    return Raw([tuple(names)], pools)


def oxford_flowers(row: Row, folder: Path) -> Raw:
    """imagelabels.mat: the class number of image 1, 2, …; cat_to_name.json: {class number: name}."""
    labels = mat(folder / "imagelabels.mat", "labels").astype(int)
    path = folder / "cat_to_name.json"
    try:
        names = dict(read_json(path))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is not JSON of the form {{class number: name}} ({error}); download it again"
        ) from None
    count = max(int(labels.max()), len(names))
    unnamed = [number for number in range(1, count + 1) if str(number) not in names]
    if unnamed:
        raise ValueError(f"{path} has no name for class {unnamed[0]} (of {count})")
    classes = tuple(names[str(number)] for number in range(1, count + 1))
    items = [Item(f"image_{i:05d}.jpg", int(label) - 1) for i, label in enumerate(labels, 1)]
    return Raw([classes], {"all": items})


def oxford_pets(row: Row, folder: Path) -> Raw:
    """annotations/{trainval,test}.txt: lines of `Breed_name_12 class-number species breed-number`."""
    names: dict[int, str] = {}
    pools: dict[str, list[Item]] = {}
    for pool, file in (("train", "trainval.txt"), ("test", "test.txt")):
        path = folder / "annotations" / file
        pools[pool] = []
        for line in lines_of(path):
            parts = line.split()
            if line.startswith("#"):
                continue
            if len(parts) < 2 or "_" not in parts[0]:
                raise _malformed(path, line, "an image name and a class number")
            label = _numbered(path, parts[1], line, row.classes)
            breed = parts[0].rpartition("_")[0].lower()
            if names.setdefault(label, breed) != breed:
                raise ValueError(f"{path}: class {label + 1} has two names, {names[label]!r} and {breed!r} ({line!r})")
            pools[pool].append(Item(f"{parts[0]}.jpg", label))
    if sorted(names) != list(range(row.classes)):
        raise ValueError(
            f"{row.name}: the lists in {folder / 'annotations'} contain {len(names)} of {row.classes} breeds"
        )
    return Raw([tuple(names[i] for i in range(row.classes))], pools)


def stanford_cars(row: Row, folder: Path) -> Raw:
    """devkit/cars_meta.mat: the classes; the two annotation files: a structure (`fname`, `class`) per image."""
    names = [year_first(str(name)) for name in mat(folder / "devkit/cars_meta.mat", "class_names")]
    pools: dict[str, list[Item]] = {}
    for pool, file, images in (
        ("train", "devkit/cars_train_annos.mat", "cars_train"),
        ("test", "cars_test_annos_withlabels.mat", "cars_test"),
    ):
        path = folder / file
        pools[pool] = []
        for note in mat(path, "annotations"):
            number = str(getattr(note, "class", ""))  # the file without labels has the same name on some servers
            pools[pool].append(Item(f"{images}/{note.fname}", _numbered(path, number, str(note.fname), len(names))))
    return Raw([tuple(names)], pools)


def sun397(row: Row, folder: Path) -> Raw:
    """ClassName.txt: lines of `/a/abbey`; Training_01.txt, Testing_01.txt: lines of `/a/abbey/sun_….jpg`."""
    paths = lines_of(folder / "ClassName.txt")
    label = {path.strip("/"): i for i, path in enumerate(paths)}
    pools: dict[str, list[Item]] = {}
    for pool, file in (("train", "Training_01.txt"), ("test", "Testing_01.txt")):
        pools[pool] = []
        for line in lines_of(folder / file):
            image = line.lstrip("/")
            where = image.rpartition("/")[0]
            if where not in label:
                raise _malformed(folder / file, line, "an image in a folder of ClassName.txt")
            pools[pool].append(Item(image, label[where]))
    return Raw([tuple(scene(path) for path in paths)], pools)


def ucf101(row: Row, folder: Path) -> Raw:
    """ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt; the middle frames are in Folders_Like_This."""
    lists = folder / "ucfTrainTestlist"
    names = [line.split()[-1] for line in lines_of(lists / "classInd.txt")]
    label = {name: i for i, name in enumerate(names)}
    pools: dict[str, list[Item]] = {}
    for pool, file in (("train", "trainlist01.txt"), ("test", "testlist01.txt")):
        pools[pool] = []
        for line in lines_of(lists / file):
            action, _, video = line.split()[0].partition("/")
            if action not in label or not video:
                raise _malformed(lists / file, line, "Action/video.avi with an action of classInd.txt")
            image = f"{split_camel_case(action)}/{video.removesuffix('.avi')}.jpg"
            pools[pool].append(Item(image, label[action]))
    return Raw([tuple(split_camel_case(name) for name in names)], pools)


def webdataset(row: Row, folder: Path) -> Raw:
    """classnames.txt: a class per line; <images>/labels.tsv: lines of `train/image.jpg label`, separated by a tab.

    In a tagging task, an image has one or several labels, separated by blanks.
    """
    names, path = lines_of(folder / "classnames.txt"), folder / row.images / LABELS_FILE
    pools: dict[str, list[Item]] = {"train": [], "test": []}
    for line in lines_of(path):
        image, _, label = line.partition("\t")
        part = image.partition("/")[0]
        labels = label.split() if row.tagging else [label]
        if part not in pools or not labels or not all(each.isdigit() and int(each) < len(names) for each in labels):
            what = "labels" if row.tagging else "a label"
            raise _malformed(path, line, f"train/ or test/ and an image, a tab, and {what} below {len(names)}")
        pools[part] += [Item(image, int(each)) for each in labels]
    return Raw([tuple(names)], pools)


def shipped_templates(folder: Path) -> tuple[str, ...]:
    """The zero-shot templates of a webdataset, whose `{c}` stands for the class name; () if it has none."""
    path = folder / "zeroshot_classification_templates.txt"
    lines = lines_of(path) if path.is_file() else []
    if odd := [line for line in lines if line.count("{c}") != 1]:
        raise _malformed(path, odd[0], "a template with {c} for the class name")
    return tuple(line.replace("{c}", "{}") for line in lines)


def food101(row: Row, folder: Path) -> Raw:
    """meta/{train,test}.txt: lines of `class/image-number`, the published lists."""
    pools = {
        pool: [(line.partition("/")[0], f"{line}.jpg") for line in lines_of(folder / f"meta/{pool}.txt")]
        for pool in ("train", "test")
    }
    names = sorted({name for pool in pools.values() for name, _ in pool})
    label = {name: i for i, name in enumerate(names)}
    return Raw([tuple(names)], {pool: [Item(path, label[name]) for name, path in pools[pool]] for pool in pools})


def hateful_memes(row: Row, folder: Path) -> Raw:
    """{train,dev_seen}.jsonl: lines of {"img": "img/1.png", "label": 0 or 1}; the labels of the test are not public."""
    pools: dict[str, list[Item]] = {}
    for pool, file in (("train", "train.jsonl"), ("test", "dev_seen.jsonl")):
        pools[pool] = []
        for line in lines_of(folder / file):
            entry = json.loads(line)
            if entry.get("label") not in (0, 1) or not isinstance(entry.get("img"), str):
                raise _malformed(folder / file, line, "an image, img, and its label, 0 or 1")
            pools[pool].append(Item(entry["img"], entry["label"]))
    return Raw([("meme", "hatespeech meme")], pools)


def fashion20(row: Row, folder: Path) -> Raw:
    """task_info.csv (tabs: -, task name, -, labels with commas) and images/<task number>/<class number>/*."""
    path = folder / "task_info.csv"
    tasks = []
    for line in lines_of(path)[1:]:
        cells = [cell.strip().strip('"') for cell in line.split("\t")]
        labels = [label.strip() for label in cells[3].split(",") if label.strip()] if len(cells) >= 4 else []
        if not labels:
            raise _malformed(path, line, "four columns separated by tabs, the last one with labels")
        tasks.append((cells[1], tuple(labels)))
    items = []
    for name in subfolders(folder / row.images, row.skip):
        where = folder / row.images / name
        if not name.isdigit() or int(name) >= len(tasks):
            raise ValueError(f"{row.name}: found the folder {where}, expected task numbers 0 to {len(tasks) - 1}")
        labels = tasks[int(name)][1]
        for label in subfolders(where):
            if not label.isdigit() or int(label) >= len(labels):
                raise ValueError(
                    f"{row.name}: found the folder {where / label}, expected class numbers 0 to {len(labels) - 1} "
                    f"({', '.join(labels)}, from {path})"
                )
            items += [Item(f"{name}/{label}/{file}", int(label), int(name)) for file in image_names(where / label)]
    return Raw([labels for _, labels in tasks], {"all": items}, [name for name, _ in tasks])
