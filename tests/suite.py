"""A suite of three small tasks made on the spot, with the awkward cases: an odd and an even number of classes, a task
with one class, a class without test images. Registered as `TestSuite`; its pictures are drawn into DATASET.ROOT."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dassl.config import get_cfg_default, load
from dassl.data.datasets import DATASET_REGISTRY, DatasetBaseMT, DatumMT
from dassl.data.tasks import Task, TaskSpace
from datasets.fewshot import base_new, task_subset

TASKS = (
    Task("shades", "shades of colours", ("red", "dark_green", "light blue", "white", "black"), id=0),
    Task("one", "a task with one class", ("only",), id=1),
    Task("marks", "marks on paper", ("cross", "ring", "dot", "star"), metric="mean_acc", id=2),
)
EMPTY = "star"  # has no test image
COUNTS = {"train": 4, "val": 1, "test": 2}


def _drawn(path: Path) -> str:
    """`path` as a text, of a picture that is drawn if it does not exist."""
    if path.exists():
        return str(path)
    rng = np.random.default_rng(zlib.crc32(path.parent.name.encode()))
    colour = rng.integers(0, 255, 3)
    noise = np.random.default_rng(zlib.crc32(path.name.encode())).integers(-20, 20, (40, 44, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(path)
    return str(path)


@DATASET_REGISTRY.register()
class TestSuite(DatasetBaseMT):
    """Pictures of one colour a class, with noise."""

    __test__ = False  # not a test for pytest

    def __init__(self, cfg):
        root = Path(cfg.DATASET.ROOT)
        chosen = task_subset(cfg.DATASET.SUBSAMPLE_TASKS, [task.key for task in TASKS])
        splits, space, self.unknown = {split: [] for split in COUNTS}, [], []
        for number in chosen:
            labels = base_new(len(TASKS[number].classnames), cfg.DATASET.SUBSAMPLE_CLASSES)
            if not labels:
                continue
            space.append(replace(TASKS[number], classnames=[TASKS[number].classnames[label] for label in labels]))
            for label, name in enumerate(space[-1].classnames):
                for split, count in COUNTS.items():
                    for k in range(0 if (name, split) == (EMPTY, "test") else count):
                        path = _drawn(root / space[-1].key / name / f"{split}{k}.png")
                        splits[split].append(DatumMT(path, label, len(space) - 1, 0, name))
            if cfg.DATASET.SUBSAMPLE_CLASSES == "base" and cfg.TEST.CONFIDENCE:
                others = [name for name in TASKS[number].classnames if name not in (*space[-1].classnames, EMPTY)]
                pairs = [(name, k) for name in others for k in range(COUNTS["test"])]
                paths = [_drawn(root / space[-1].key / name / f"test{k}.png") for name, k in pairs]
                self.unknown += [DatumMT(path, -1, len(space) - 1) for path in paths]
        self.suite_tasks = [task.key for task in TASKS]
        self.image_root = str(root)
        super().__init__(TaskSpace(tuple(space)), splits["train"], splits["val"], splits["test"])


SMALL = {  # settings of methods whose published ones need a CLIP of 12 layers, or thousands of steps
    "CrossModal": ("TRAINER.CROSSMODAL.ITERATIONS", 3),
    "MaPLe": ("TRAINER.MAPLE.PROMPT_DEPTH", -1),
    "IVLP": ("TRAINER.IVLP.PROMPT_DEPTH_TEXT", -1, "TRAINER.IVLP.PROMPT_DEPTH_VISION", -1),
    "PromptSRC": ("TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", 2, "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", 3),
    "CoPrompt": ("TRAINER.COPROMPT.PROMPT_DEPTH", -1, "DATALOADER.K_TRANSFORMS", 2),
    "ProLIP": ("TRAINER.PROLIP.STEPS", 3),
    "TCP": ("TRAINER.TCP.INSERT_LAYER", 1),
    "MMRL": ("TRAINER.MMRL.REP_LAYERS", (2, 3), "TRAINER.MMRL.REP_DIM", 16),
    "MMRLpp": ("TRAINER.MMRLPP.REP_LAYERS", (2, 3), "TRAINER.MMRLPP.REP_DIM", 16),
}


def config(tmp_path: Path, trainer: str, weights: Path | str = "", size: int = 32, *opts):
    """A configuration of `trainer` on this suite: two epochs of batches of 8, fp32, on the given weights."""
    import trainers  # noqa: F401

    cfg = get_cfg_default()
    settings = {
        "TRAINER.NAME": trainer,
        "DATASET.NAME": "TestSuite",
        "DATASET.ROOT": str(tmp_path / "data"),
        "OUTPUT_DIR": str(tmp_path / "run"),
        "SEED": 1,
        "USE_CUDA": False,
        "INPUT.SIZE": (size, size),
        "MODEL.BACKBONE.NAME": "ViT-B/16",
        "MODEL.BACKBONE.WEIGHTS": str(weights),
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 8,
        "OPTIM.NAME": "sgd",
        "OPTIM.LR": 0.02,
        "OPTIM.MAX_EPOCH": 2,
        "TRAIN.TENSORBOARD": False,
        "TRAINER.MTCOOP.PREC": "fp32",
        "TRAINER.MTCOOPH.PREC": "fp32",
        "TRAINER.ZSCLIP.PREC": "fp32",
    }
    load(cfg, [], [part for item in settings.items() for part in item] + list(SMALL.get(trainer, ())) + list(opts))
    return cfg
