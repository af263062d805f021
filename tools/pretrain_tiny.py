"""Pretrain the embedded tiny CLIP on icons and clip art: tinyclip.safetensors.

python -m tools.pretrain_tiny --packages node_modules --suite datasets/icon13 --work WORK --out tinyclip.safetensors

Needs the npm packages @iconify/json and emojibase-data, the Debian packages openclipart-svg and wordnet-base, and
tools/requirements.txt; see tools/README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from dassl.utils import atomic_write
from tools.batches import MEAN, STD, Batches, Tokens
from tools.concepts import SPECIAL, emoji_tags, make_items, make_remap, make_vocabulary
from tools.drawings import draw_all
from tools.icons import read_emojis
from tools.minilm import MiniLM, model_folder, proxies
from tools.suite import read_suite
from tools.tiny_clip import TinyCLIP, TinyConfig
from tools.wordnet import WordNet

TEMPLATE = "a photo of a {}."
KEEP, KEEP_UNTIL = 28, 0.85  # patches per image, until this share of the training; then all patches
WARM_UP, LAST_LR = 0.03, 0.02  # share of the training; last learning rate relative to the highest
MAX_SCALE, MAX_PROXY_SCALE = 100.0, 40.0


class Suite:
    """Icon-13, for monitoring only; the model is not trained on it."""

    def __init__(self, folder: Path) -> None:
        self.index, pictures = read_suite(folder)
        self.entries = self.index["images"]
        self.images = np.stack([pictures[entry["file"]] for entry in self.entries])  # (n, S, S, 3)

    def texts(self) -> list[str]:
        """Class names, task names and task keys; their words must be in the vocabulary."""
        return [t for task in self.index["tasks"] for t in (task["key"], task["name"], *task["classes"])]

    @torch.no_grad()
    def zero_shot(self, model: TinyCLIP, tokens: Tokens) -> dict[str, float]:
        """Accuracy (%) on the test split: {task: accuracy, "mean": mean over tasks}."""
        result = {}
        for task in self.index["tasks"]:
            mine = [i for i, e in enumerate(self.entries) if e["task"] == task["key"] and e["split"] == "test"]
            images = torch.from_numpy(self.images[mine]).permute(0, 3, 1, 2).float() / 255
            names = model.encode_text(*tokens([TEMPLATE.format(name) for name in task["classes"]]))
            found = model.encode_image((images - MEAN) / STD) @ F.normalize(names, dim=-1).T
            wanted = torch.tensor([task["classes"].index(self.entries[i]["cls"]) for i in mine])
            result[task["key"]] = 100 * (found.argmax(1) == wanted).float().mean().item()
        return result | {"mean": sum(result.values()) / len(result)}


def soft_clip_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Symmetric contrastive loss of unit features (B, d). All pairs with the same label (B,) count as matches."""
    logits = scale * images @ texts.T
    match = (labels[:, None] == labels[None]).float()
    match = match / match.sum(1, keepdim=True)
    return -0.5 * ((match * logits.log_softmax(1)).sum(1) + (match.T * logits.log_softmax(0)).sum(0)).mean()


def learning_rate(progress: float) -> float:
    """Learning rate relative to the highest: linear warm-up, then a cosine down to LAST_LR."""
    return min(1.0, progress / WARM_UP + 1e-3) * (0.5 * (1 + math.cos(math.pi * progress)) * (1 - LAST_LR) + LAST_LR)


def make_optimisers(model: TinyCLIP, proxy: nn.Parameter, proxy_scale: nn.Parameter, lr: float, matrix_lr: float):
    """Muon for the matrices of the blocks, AdamW for all other parameters."""
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"torch {torch.__version__} has no Muon: pretraining needs torch 2.9 or newer")
    matrices = [p for name, p in model.named_parameters() if "resblocks" in name and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if not ("resblocks" in name and p.ndim == 2)]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [*(p for p in others if p.ndim < 2), proxy_scale, proxy], "weight_decay": 0.0},
    ]
    return (
        torch.optim.AdamW(groups, lr, betas=(0.9, 0.98), fused=True),
        torch.optim.Muon(matrices, matrix_lr, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    )


def train(model: TinyCLIP, start: torch.Tensor, batches: Batches, suite: Suite, tokens: Tokens, args) -> None:
    """Train with a contrastive loss between images and captions, and both against proxies (``start`` (n, d))."""
    proxy, proxy_scale = nn.Parameter(start), nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    optimisers = make_optimisers(model, proxy, proxy_scale, args.lr, args.matrix_lr)
    highest = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    mean_loss, half = None, args.precision == "bf16"
    bar = tqdm(range(args.steps), desc="training", unit="step")
    for step in bar:
        progress = step / args.steps
        for optimiser, rates in zip(optimisers, highest, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * learning_rate(progress)
            optimiser.zero_grad()
        images, ids, end, labels = batches(args.batch_size)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            image_features = model.encode_image(images, KEEP if progress < KEEP_UNTIL else None)
            text_features = model.encode_text(ids, end)
        image_features = F.normalize(image_features.float(), dim=-1)
        text_features = F.normalize(text_features.float(), dim=-1)
        contrast = soft_clip_loss(image_features, text_features, model.logit_scale.exp().clamp(max=MAX_SCALE), labels)
        directions = F.normalize(proxy, dim=-1) * proxy_scale.exp().clamp(max=MAX_PROXY_SCALE)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = torch.cat([image_features, text_features]) @ directions.T
        of_images, of_texts = logits.float().split(len(images))
        to_proxies = F.cross_entropy(of_images, labels, label_smoothing=0.05) + 0.5 * F.cross_entropy(of_texts, labels)
        loss = contrast + to_proxies
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {loss.item()} at step {step}: lower --lr and --matrix-lr")
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        now = np.array([loss.item(), contrast.item()])
        mean_loss = now if mean_loss is None else 0.98 * mean_loss + 0.02 * now
        bar.set_postfix(loss=f"{mean_loss[0]:.2f}", contrast=f"{mean_loss[1]:.2f}")
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            result = suite.zero_shot(model, tokens)
            scale = model.logit_scale.exp().item()
            tqdm.write(
                f"step {step + 1} loss {mean_loss[0]:.3f} contrast {mean_loss[1]:.3f} scale {scale:.1f} zero-shot "
                + " ".join(f"{name} {value:.1f}" for name, value in result.items())
            )


def save(path: Path, model: TinyCLIP, remap: np.ndarray, steps: int, seen: int) -> None:
    """Write fp16 tensors under OpenAI's names, token_remap (49408,) int32, and the configuration as metadata."""
    from safetensors.torch import save as to_bytes

    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    state["token_remap"] = torch.from_numpy(remap)
    metadata = {
        "config": json.dumps(asdict(model.config)),
        "mean_std": str(MEAN),
        "steps": str(steps),
        "seen": str(seen),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "wb") as file:
        file.write(to_bytes(state, metadata))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.pretrain_tiny", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--packages", type=Path, required=True, help="node_modules folder with the npm packages")
    add("--suite", type=Path, default=Path("datasets/icon13"), help="built suite (default %(default)s)")
    add("--openclipart", type=Path, default=Path("/usr/share/openclipart/svg"), help="SVG folder (default %(default)s)")
    add("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet folder (default %(default)s)")
    add("--sentence-model", type=Path, help="folder of MiniLM (default: the installed package)")
    add("--work", type=Path, required=True, help="folder for drawings, reused by later runs (1 GB)")
    add("--out", type=Path, required=True, help="the .safetensors file to write")
    add("--steps", type=int, default=3900, help="default %(default)s")
    add("--batch-size", type=int, default=192, help="default %(default)s")
    add("--lr", type=float, default=1e-3, help="highest learning rate of AdamW (default %(default)s)")
    add("--matrix-lr", type=float, default=2e-3, help="highest learning rate of Muon (default %(default)s)")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16 is faster only on CPUs with bfloat16 arithmetic",
    )
    add("--every", type=int, default=400, help="steps between evaluations on the suite (default %(default)s)")
    add("--exclude", nargs="*", default=(), metavar="SET", help="further icon sets to exclude (names or patterns)")
    add("--limit", type=int, help="most drawings per set, for a trial")
    add("--seed", type=int, default=0, help="default %(default)s")
    add("--threads", type=int, default=os.cpu_count() or 1, help="default: all cores (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    if min(args.steps, args.batch_size, args.every, args.threads) < 1:
        parser.error("--steps, --batch-size, --every and --threads must be at least 1")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    try:
        from open_clip.tokenizer import SimpleTokenizer

        encode = SimpleTokenizer().encode
        # all inputs are checked before anything slow starts
        suite, wordnet, tags = Suite(args.suite), WordNet(args.wordnet), emoji_tags(read_emojis(args.packages))
        sentences = MiniLM(args.sentence_model or model_folder())
        drawings = draw_all(args.work, args.packages, args.openclipart, args.exclude, args.limit, args.threads)
        items = make_items(drawings, suite.images, tags, wordnet)
        concepts = sorted({item.concept for item in items})
        number = {concept: i for i, concept in enumerate(concepts)}
        vocabulary = make_vocabulary(items, suite.texts(), encode)
        print(f"{len(items)} drawings, {len(concepts)} concepts, {len(vocabulary)} words", flush=True)
        config = TinyConfig(vocab=len(vocabulary) + SPECIAL)
        start, remap = proxies(sentences(concepts), config.emb), make_remap(vocabulary)
        tokens, model = Tokens(remap, encode), TinyCLIP(config)
        labels = np.array([number[item.concept] for item in items])
        train(model, start, Batches(items, drawings, labels, tokens, args.seed), suite, tokens, args)
    except ModuleNotFoundError as error:
        parser.error(f"the Python package of {error.name} is missing: pip install -r tools/requirements.txt")
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    save(args.out, model, remap, args.steps, args.steps * args.batch_size)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {args.out.stat().st_size / 1e6:.1f} MB in {args.out}")


if __name__ == "__main__":
    main()
