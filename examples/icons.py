"""Icon-5 and the embedded CLIP for the plain examples: open_clip, torch and Pillow alone.

To adapt an example to your own images, replace `load`: it returns the names of tasks and classes, and per split the
images (n, 3, H, W) with their task (n,) and their class within the task (n,).
"""

import argparse
import hashlib
import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
KEYS = ("faces", "hands", "produce", "mammals", "dishes")


def build_clip():
    """The embedded CLIP, frozen. For OpenAI's: open_clip.create_model("RN50-quickgelu", "openai")."""
    weights = load_file(ROOT / "clip/weights/tinyclip.safetensors")
    rows = weights.pop("token_remap").long()  # each of CLIP's words -> row of a reduced table
    weights["token_embedding.weight"] = weights["token_embedding.weight"][rows]
    vision = {"layers": 6, "width": 192, "patch_size": 8, "head_width": 64, "image_size": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 192, "heads": 3, "layers": 4}
    model = open_clip.CLIP(embed_dim=192, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    model.load_state_dict(weights, strict=False)  # the causal mask is not among the weights
    return model.eval().requires_grad_(False)


def load(shots, seed):
    """(names of tasks, class names of each, {split: (images, task, label)}), with `shots` training images per class."""
    index = json.loads((ROOT / "datasets/icon13/index.json").read_text(encoding="utf-8"))
    tasks = {entry["key"]: entry for entry in index["tasks"]}
    held_out = validation(index["images"])
    found = {"train": [], "val": [], "test": []}
    for number, key in enumerate(KEYS):
        for image in (image for image in index["images"] if image["task"] == key):
            split = "val" if image["file"] in held_out else image["split"]
            found[split].append((image["file"], number, tasks[key]["classes"].index(image["cls"])))
    found["train"], found["val"] = draw(found["train"], shots, seed), draw(found["val"], min(shots, 4), seed)
    splits = {}
    with zipfile.ZipFile(ROOT / "datasets/icon13/images.zip") as archive:
        for split, items in found.items():
            pixels = [np.asarray(Image.open(archive.open(file)).convert("RGB")) for file, _, _ in items]
            images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255  # (n, 3, 64, 64)
            numbers = torch.tensor([item[1:] for item in items])  # (n, 2)
            splits[split] = (images - 0.5) / 0.5, numbers[:, 0], numbers[:, 1]
    return [tasks[key]["name"] for key in KEYS], [tasks[key]["classes"] for key in KEYS], splits


def validation(images):
    """Files of the validation split: of every class with five training images or more, the last that has no near-copy.

    A near-copy is another drawing of the same icon by the same family of vendors.
    """
    pools, copies = {}, Counter()
    for image in (image for image in images if image["split"] == "train"):
        family = next((family for family in ("noto", "fluent") if image["domain"].startswith(family)), image["domain"])
        pools.setdefault((image["task"], image["cls"]), []).append(
            (image["shot"], image["file"], (family, image["icon"]))
        )
        copies[family, image["icon"]] += 1
    alone = {name: [each for each in pool if copies[each[2]] == 1] for name, pool in pools.items() if len(pool) >= 5}
    return {max(pool)[1] for pool in alone.values() if pool}


def draw(items, shots, seed):
    """The items of each class with the smallest hashes of (seed, file), so that fewer shots are a part of more."""
    classes = {}
    for item in items:
        rank = hashlib.sha256(f"{seed}\0{item[0]}".encode()).hexdigest()
        classes.setdefault(item[1:], []).append((rank, item))
    drawn = [item for pool in classes.values() for _, item in sorted(pool)[:shots]]
    return sorted(drawn, key=lambda item: (item[1], item[0]))


def features(clip, splits):
    """{split: (features (n, d), task (n,), label (n,))} of the images of all splits."""
    with torch.no_grad():
        parts = {split: [clip.encode_image(part) for part in found[0].split(128)] for split, found in splits.items()}
    return {split: (torch.cat(parts[split]), *found[1:]) for split, found in splits.items()}


def batches(count, size, seed, epoch):
    """Indices of an epoch's batches, without a last short one; the same in every program with the same seed."""
    digest = hashlib.blake2b(f"{seed}\0{epoch}\0RandomSampler".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    return torch.randperm(count, generator=generator)[: max(count // size, 1) * size].split(size)


def report(names, right, task):
    """Print and return the accuracy of each task in per cent: right (n,) and task (n,) of the test images."""
    accuracy = {name: 100 * right[task == t].double().mean().item() for t, name in enumerate(names)}
    for name, value in {**accuracy, "mean over tasks": sum(accuracy.values()) / len(names)}.items():
        print(f"{name}: {value:.2f}%")
    return accuracy


def arguments(text, words, **defaults):
    """Parse the command line: --shots, --seed and whole numbers with the given defaults."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"shots": 4, "seed": 1, **defaults}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    return parser.parse_args(words)
