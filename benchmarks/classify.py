"""Images per second of `softcpt.load(RUN).classify` against open_clip's own loop over files, with the same weights.

python -m benchmarks.classify --backbone ViT-B/16 --images 256
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import trainers  # noqa: F401  registers the methods
from clip.names import TINY, input_size
from dassl.config import get_cfg_default, load
from dassl.data.tasks import TaskSpace
from dassl.runs.record import TASKS
from dassl.runs.writer import write_config
from dassl.utils import write_json
from softcpt import Classifier
from softcpt.export.files import preprocess_cfg

from .common import backbone, options, positive, relative, start, suite
from .measuring import alternate, difference_rows, report, row, settings


def finished_run(folder: Path, name: str, dtype: str, device: str) -> Classifier:
    """A run of zero-shot CLIP with random weights on the 116 classes of plant6, as one task."""
    cfg, size = get_cfg_default(), input_size(name)
    values = {"TRAINER.NAME": "ZeroshotCLIP", "TRAINER.ZSCLIP.PREC": dtype, "DATASET.NAME": "Suite"}
    values |= {"OUTPUT_DIR": str(folder), "MODEL.BACKBONE.NAME": name, "INPUT.SIZE": (size, size)}
    if name == TINY:
        values |= {"INPUT.PIXEL_MEAN": [0.5] * 3, "INPUT.PIXEL_STD": [0.5] * 3}
    else:
        torch.save(backbone(name).state_dict(), folder / "weights.pt")
        values["MODEL.BACKBONE.WEIGHTS"] = str(folder / "weights.pt")
    load(cfg, [], [part for item in values.items() for part in item])
    write_config(cfg)
    write_json(TaskSpace.single(suite("plant6").classnames, "plants").plain(), str(folder / TASKS))
    return Classifier(folder, device=device)


def photographs(folder: Path, count: int, side: int) -> list[str]:
    """Paths of `count` JPEG files of about the size of photographs with a shorter side of `side` pixels."""
    draw, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (side // 8, side // 6, 3), dtype=np.uint8))
        paths.append(str(folder / f"{number}.jpg"))
        coarse.resize((side * 4 // 3, side), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


class PlainLoop:
    """open_clip's loop: read and prepare the images of a batch, encode them, compare them with the texts."""

    def __init__(self, model: Classifier, paths: list[str], batch: int):
        self.clip, self.device, self.paths, self.batch = model.trainer.clip, model.device, paths, batch
        words = open_clip.transform.PreprocessCfg(**preprocess_cfg(model.cfg))
        self.prepare = open_clip.transform.image_transform_v2(words, is_train=False)
        self.text = F.normalize(model.trainer.text_features().float(), dim=-1)
        self.scale = model.trainer.scale.float()

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """The largest probability of each image (B,)."""
        found = []
        for first in range(0, len(self.paths), self.batch):
            part = self.paths[first : first + self.batch]
            images = torch.stack([self.prepare(Image.open(path)) for path in part]).to(self.device)
            features = F.normalize(self.clip.encode_image(images).float(), dim=-1)
            found.append((self.scale * features @ self.text.t()).softmax(-1).topk(5).values[:, 0].cpu())
        return torch.cat(found)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__.splitlines()[0], n_ctx=0, repeat=3, suites=False)
    parser.add_argument("--images", type=positive, default=256, help="number of files")
    parser.add_argument("--side", type=positive, default=480, help="shorter side of the images in pixels")
    parser.add_argument("--batch", type=positive, default=64, help="images of a batch")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        model = finished_run(Path(place), args.backbone, args.dtype, args.device)
        paths = photographs(Path(place), args.images, args.side)
        plain = PlainLoop(model, paths, args.batch)

        def ours() -> Tensor:
            records = model.classify(paths, batch_size=args.batch, progress=False)
            return torch.tensor([one.classes[0][1] for one in records])

        sides = {"plain": plain, "ours": ours}
        difference = {"probabilities": relative(ours(), plain())}
        seconds = alternate(sides, args.repeat, torch.device(args.device), warm_up=False)
    rate = {side: args.images / value for side, value in seconds.items()}
    result = {**settings("classify", args), "seconds": seconds, "images_per_second": rate, "difference": difference}
    result["speedup"] = seconds["plain"] / seconds["ours"]
    rows = [row("ms per image", seconds, 1e3 / args.images), *difference_rows(difference)]
    title = f"{args.images} JPEG files with a shorter side of {args.side} pixels, 116 classes"
    report(result, title, rows, ["plain: open_clip's loop"], args.json)


if __name__ == "__main__":
    start(main)
