"""Shared by the benchmarks: suites of the published sizes, models with the real shapes, the published text tower."""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from clip.backbones import load_backbone
from clip.building import finish
from clip.clip import tokenizer
from clip.model import CLIP, project
from clip.names import OPENAI, TINY, architecture
from clip.text_tower import Prompts, TextTower
from dassl import program
from dassl.data.tasks import Task, TaskSpace

SUITES = {  # classes of each task
    "plant6": (36, 5, 9, 15, 12, 39),
    "general10": (100, 47, 10, 100, 101, 102, 37, 196, 397, 101),
    "fashion20": (4,) * 18 + (3,) * 2,
}
NAME_TOKENS = {1: 0.28, 2: 0.36, 3: 0.19, 4: 0.10, 5: 0.05, 6: 0.02}  # {tokens of a name: share of the names}
PLAIN_LIMIT = (
    256  # if the plain tower does not fit into memory with all classes, its time per class is measured on these
)


def suite(name: str, scale: float = 1.0) -> TaskSpace:
    """The tasks of suite `name`, each with the share `scale` of its classes (at least one).

    A class name consists of one to six frequent English words of one token each (frequencies: NAME_TOKENS). In a
    prompt, a full stop and [EOS] follow. The names are always the same.
    """
    bpe, draw = tokenizer(), random.Random(0)
    pieces = (token[:-4] for token in bpe.encoder if token.endswith("</w>"))
    words = [word for word in pieces if word.isascii() and word.isalpha() and 3 <= len(word) <= 10][:4000]
    words = [word for word in words if len(bpe.encode(word)) == 1]

    def text() -> str:
        (count,) = draw.choices(list(NAME_TOKENS), list(NAME_TOKENS.values()))
        return " ".join(draw.choices(words, k=count))

    return TaskSpace(
        tuple(
            Task(f"task{t}", text(), tuple(text() for _ in range(max(1, round(scale * size)))), id=t)
            for t, size in enumerate(SUITES[name])
        )
    )


def reduced(space: TaskSpace, classes: int) -> TaskSpace:
    """Reduce `space` to about `classes` classes, the same share of each task, at least one per task."""
    if classes >= space.num_classes:
        return space
    share = classes / space.num_classes
    kept = [(task, task.classnames[: max(1, int(share * len(task.classnames)))]) for task in space.tasks]
    return TaskSpace(tuple(replace(task, classnames=names) for task, names in kept))


def backbone(name: str, dtype: str = "fp32", device: str = "cpu") -> CLIP:
    """Architecture `name` with random weights (fixed seed), or the embedded model for `tiny`."""
    if name == TINY:
        return load_backbone(name, precision=dtype, device=device)
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # open_clip warns that the weights are random
    inner = open_clip.create_model(
        architecture(name), pretrained=None, precision=dtype, force_quick_gelu=name in OPENAI
    )
    logging.disable(logging.NOTSET)
    model = finish(inner, dtype)
    model.name = name
    return model.to(device)


class PlainTower(TextTower):
    """The text tower as in the published code: each prompt padded to the context length, one batch (N, 77, D)."""

    def __call__(self, prompts: Prompts) -> Tensor:
        """(N, d), not normalised."""
        P = prompts.prefix.shape[1]
        x = torch.cat([prompts.prefix.index_select(0, prompts.group), prompts.suffix], 1)[:, : self.context_length]
        x = F.pad(x, (0, 0, 0, self.context_length - x.shape[1])) + self.clip.positional_embedding.float()
        x = self.clip.transformer(x.to(self.clip.dtype).transpose(0, 1)).transpose(0, 1)  # (N, 77, D)
        x = self.clip.ln_final(x)
        eos = P + prompts.length - 1
        return project(x[torch.arange(len(x), device=x.device), eos], self.clip.text_projection)

    def prompts_that_fit(self, count: int) -> int:
        """How many of `count` prompts to measure: all if a pass needs at most 70 % of the free memory, else fewer."""
        # a prompt needs about 22 D numbers per layer and position in a forward and backward pass
        size = 22 * len(self.blocks) * self.context_length * self.width * self.clip.dtype.itemsize
        fitting = int(0.7 * free_memory(self.device) / size)
        return count if fitting >= count else max(1, min(fitting, PLAIN_LIMIT))


def free_memory(device: torch.device) -> int:
    """Free memory of `device` in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # not Linux: half of the memory
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference divided by the norm of `expected`."""
    return ((found - expected).float().norm() / expected.float().norm().clamp_min(1e-30)).item()


def options(description: str, n_ctx: int = 16, repeat: int = 5, suites: bool = True) -> argparse.ArgumentParser:
    """Parser with the flags that all benchmarks share; without --n-ctx if `n_ctx` is 0."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    if suites:
        parser.add_argument("--suite", choices=SUITES, default="plant6")
        parser.add_argument("--scale", type=_share, default=1.0, help="share of the classes of each task, in (0, 1]")
    parser.add_argument("--backbone", type=_backbone, default="RN50", help="RN50, ViT-B/16, tiny, …")
    if n_ctx:
        parser.add_argument("--n-ctx", type=positive, default=n_ctx, help="L, context tokens")
    parser.add_argument("--repeat", type=positive, default=repeat, help="rounds; the median is reported")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", type=measured_device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


def start(main: Callable[[], None]) -> None:
    """Run a program and exit with its exit code."""
    sys.exit(program.entry(main)())


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0 and at most 1")
    return value


def positive(text: str) -> int:
    """Type of a flag: an integer >= 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 1")
    return value


def measured_device(name: str) -> str:
    """Type of a flag: a device of torch that exists here."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise argparse.ArgumentTypeError(f"{name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return name


def _backbone(name: str) -> str:
    if name != TINY and architecture(name) not in open_clip.list_models():
        raise argparse.ArgumentTypeError(
            f"{name!r} is not an architecture of open_clip; try {', '.join(OPENAI)} or {TINY}"
        )
    if name != TINY and "hf_model_name" in open_clip.get_model_config(architecture(name))["text_cfg"]:
        raise argparse.ArgumentTypeError(
            f"the text tower of {name!r} is a Hugging Face model, which does not support prompts"
        )
    return name
