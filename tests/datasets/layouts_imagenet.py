"""Layouts of ImageNet and its shifted sets, in CoOp's layout, with further files that are not data."""

from __future__ import annotations

from pathlib import Path

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from datasets.synsets import shipped_ids
from tests.datasets.small_files import folders, write_lines


def classnames(folder: Path) -> None:
    """CoOp's list; the first name is not the shipped one, so that a test can tell them apart."""
    names = ["a tench", *IMAGENET_CLASSNAMES[1:]]
    lines = [f"{wnid} {name}" for wnid, name in zip(shipped_ids("imagenet"), names, strict=True)]
    write_lines(folder / "classnames.txt", lines)


def imagenet(root: Path, images: int) -> None:
    folder = root / "imagenet"
    for part in ("train", "val"):
        pattern = "{name}_{}.JPEG" if part == "train" else "ILSVRC2012_val_{:08d}.JPEG"
        folders(folder / "images" / part, shipped_ids("imagenet"), images, pattern)
    classnames(folder)
    (folder / "preprocessed.pkl").write_bytes(b"made by CoOp, of no use here")
    (folder / "split_fewshot").mkdir()


def imagenetv2(root: Path, images: int) -> None:
    base = root / "imagenetv2/imagenetv2-matched-frequency-format-val"
    folders(base, [str(label) for label in range(1000)], images, "{:040x}.jpeg")
    classnames(root / "imagenetv2")


def imagenet_sketch(root: Path, images: int) -> None:
    folders(root / "imagenet-sketch/images", shipped_ids("imagenet"), images, "sketch_{}.JPEG")
    classnames(root / "imagenet-sketch")


def imagenet_a(root: Path, images: int) -> None:
    base = root / "imagenet-adversarial/imagenet-a"
    folders(base, shipped_ids("imagenet_a"), images, "0.0{:05d}_digital clock _ digital clock_0.8.jpg")
    write_lines(base / "README.txt", ["ImageNet-A"])
    classnames(root / "imagenet-adversarial")


def imagenet_r(root: Path, images: int) -> None:
    base = root / "imagenet-rendition/imagenet-r"
    folders(base, shipped_ids("imagenet_r"), images, "art_{}.jpg")
    write_lines(base / "README.txt", ["ImageNet-R"])
    classnames(root / "imagenet-rendition")


IMAGENET_MAKERS = {
    "ImageNet": imagenet,
    "ImageNetV2": imagenetv2,
    "ImageNetSketch": imagenet_sketch,
    "ImageNetA": imagenet_a,
    "ImageNetR": imagenet_r,
}
