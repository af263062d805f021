"""Batches for the pretraining: sampled drawings, their captions, and random colours, rotations and crops."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from tools.concepts import END, SPECIAL, START, UNKNOWN, Item
from tools.drawings import OPENCLIPART, Drawings

MEAN = STD = 0.5  # of every channel
NOUNS = (
    "photo", "picture", "image", "icon", "emoji", "drawing", "illustration", "cartoon", "symbol", "clip art", "sketch",
)  # fmt: skip
COLOURS = {
    "red": (220, 40, 40), "orange": (240, 140, 20), "yellow": (240, 210, 40), "green": (50, 160, 60),
    "blue": (40, 90, 210), "purple": (130, 60, 170), "pink": (240, 120, 170), "brown": (130, 80, 40),
    "gray": (120, 120, 120), "black": (0, 0, 0),
}  # fmt: skip
EMOJI_SETS = frozenset({"emojione", "fxemoji", "emojione-monotone"})
COLOURED_SHARE = 0.38
LONG_SHARE, LONG_TOKENS, SHORT_TOKENS = 0.12, 34, 18
TOKEN_DROPOUT, TO_GREY, FLIP = 0.01, 0.12, 0.4


def sampling_weights(items: Sequence[Item]) -> np.ndarray:
    """Sampling probabilities of the items, (n,): higher for rare concepts, known names and emojis."""
    count = Counter(item.concept for item in items)

    def weight(item: Item) -> float:
        known = bool(item.names) and item.origin != OPENCLIPART  # the emoji list has the concept
        value = count[item.concept] ** -0.35
        value *= 1.7 if known else 1.0
        value *= 1.0 if known or (item.kinds and len(item.concept.split()) <= 2) else 0.1
        value *= 2.5 if item.origin in EMOJI_SETS else 1.0
        value *= 0.3 if count[item.concept] == 1 and not item.names and not item.coloured else 1.0
        return value * (0.02 if item.concept.startswith("aiga") else 1.0)  # signs with numbers as titles

    weights = np.array([weight(item) for item in items])
    coloured = np.array([item.coloured for item in items])
    for which, share in ((coloured, COLOURED_SHARE), (~coloured, 1 - COLOURED_SHARE)):
        weights[which] *= share / max(weights[which].sum(), 1e-12)
    return weights / weights.sum()


def caption(item: Item, colour: str | None, long: bool, rng: random.Random) -> str:
    """A random caption of a drawing; a ``long`` one lists several names and kinds, with the concept first or last."""
    concept = rng.choice(item.names) if item.names and rng.random() < 0.35 else item.concept
    article = "an " if concept[:1] in "aeiou" else "a "
    noun = rng.choice(NOUNS)
    if long:
        rest = rng.sample(item.names, min(len(item.names), 3)) + [f"a type of {kind}" for kind in item.kinds]
        rest += [f"{colour} {rng.choice(NOUNS)}"] if colour else []
        rest += [item.concept] if rng.random() < 0.5 else []
        rng.shuffle(rest)
        head = [f"a {noun} of {article}{concept}"]
        return ", ".join(rest + head if rng.random() < 0.5 else head + rest)
    dice = rng.random()
    if dice < 0.22:
        return concept
    if dice < 0.34:
        return article + concept
    if dice < 0.50:
        return f"a photo of {article}{concept}."
    if dice < 0.72:
        return f"{noun} of {rng.choice(('', article))}{concept}"
    if colour and dice < 0.82:
        return f"{colour} {noun} of {article}{concept}"
    if item.kinds:
        kind = rng.choice(item.kinds)
        return rng.choice(
            (
                f"{concept}, a type of {kind}",
                f"a photo of {article}{concept}, a type of {kind}.",
                f"{kind}: {concept}",
                f"{concept}, {kind}s",
                kind if rng.random() < 0.3 else f"{concept} {kind}",
            )
        )
    return f"a {noun} of {article}{concept}"


class Tokens:
    """Converts texts to rows of the small embedding table, padded to the longest text."""

    def __init__(self, remap: np.ndarray, encode: Callable[[str], list[int]]) -> None:
        self.remap, self.encode, self.known = remap, encode, {}

    def rows(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = [int(self.remap[token]) for token in self.encode(text)]
        return self.known[text]

    def __call__(self, texts: Sequence[str], longest: int = 77) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids (N, S), positions of [EOS] (N,))."""
        rows = [[START, *self.rows(text)[: longest - 2], END] for text in texts]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        return ids, torch.tensor([len(row) - 1 for row in rows])


def turn(images: torch.Tensor, background: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Randomly scale, stretch, rotate and shift images (B, 3, H, W); new areas get the colour ``background`` (B, 3)."""
    batch = len(images)
    width = torch.empty(batch).uniform_(0.85, 1.35)
    height = width * torch.empty(batch).uniform_(0.88, 1.14)
    angle = torch.randn(batch) * 0.15
    cos, sin, shift = angle.cos(), angle.sin(), torch.empty(batch, 2).uniform_(-0.12, 0.12)
    sign = torch.where(flip, -1.0, 1.0)
    rows = (
        torch.stack([cos * width * sign, -sin * height, shift[:, 0]], 1),
        torch.stack([sin * width * sign, cos * height, shift[:, 1]], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    ground = background[:, :, None, None]
    return F.grid_sample(images - ground, grid, mode="bilinear", align_corners=False) + ground


class Batches:
    """Random batches. The same seed gives the same sequence."""

    def __init__(
        self, items: Sequence[Item], drawings: Drawings, labels: np.ndarray, tokens: Tokens, seed: int
    ) -> None:
        """``labels``: number of the concept of each item, int (n,)."""
        self.items, self.drawings, self.labels, self.tokens = items, drawings, labels, tokens
        self.steps = np.cumsum(sampling_weights(items))
        self.rng, self.draws = random.Random(seed), np.random.default_rng(seed)

    def _paint(self, item: Item) -> tuple[torch.Tensor, torch.Tensor, str | None]:
        """(ink (3,), background (3,), colour name for the caption or None) of one drawing."""
        rng, ink, ground, dice = self.rng, torch.zeros(3), torch.ones(3), self.rng.random()
        if item.coloured:
            if dice < 0.15:
                ground = torch.rand(3) * 0.3 + 0.7
            elif dice < 0.22:
                ground = torch.rand(3) * 0.4
            return ink, ground, None
        if dice < 0.5:
            return ink, ground, "black" if rng.random() < 0.3 else None
        if dice < 0.8:
            name = rng.choice(list(COLOURS))
            ink = (torch.tensor(COLOURS[name]) / 255 + torch.randn(3) * 0.06).clamp(0, 1)
            return ink, torch.rand(3) * 0.25 + 0.75 if rng.random() < 0.3 else ground, name
        if dice < 0.92:
            return 1 - torch.rand(3) * 0.15, torch.rand(3) * 0.45, "white"
        return torch.rand(3) * 0.45, torch.rand(3) * 0.35 + 0.65, None

    def __call__(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalised images (B, 3, H, W), ids (B, S), positions of [EOS] (B,), concepts (B,)."""
        numbers = np.searchsorted(self.steps, self.draws.random(size) * self.steps[-1])
        items = [self.items[i] for i in numbers]
        coloured = torch.tensor([item.coloured for item in items])
        pictures, paints = [], [self._paint(item) for item in items]
        for item, (ink, ground, _) in zip(items, paints, strict=True):
            if item.coloured:
                rgba = torch.from_numpy(self.drawings.colour[item.row].copy()).permute(2, 0, 1).float() / 255
                colour, alpha = rgba[:3], rgba[3:]
            else:
                colour = ink[:, None, None]
                alpha = torch.from_numpy(self.drawings.ink[item.row].copy())[None].float() / 255
            pictures.append(colour * alpha + ground[:, None, None] * (1 - alpha))
        sided = ("left", "right", "letter", "number")  # must not be mirrored
        flip = [self.rng.random() < FLIP and not any(word in item.concept for word in sided) for item in items]
        images = turn(torch.stack(pictures), torch.stack([ground for _, ground, _ in paints]), torch.tensor(flip))
        tint = torch.where(coloured[:, None], 1 + torch.randn(size, 3) * 0.08, torch.ones(1))[:, :, None, None]
        images = images * tint
        grey = (torch.rand(size) < TO_GREY) & coloured
        images[grey] = images[grey].mean(1, keepdim=True).expand(-1, 3, -1, -1)
        contrast = torch.empty(size, 1, 1, 1).uniform_(0.85, 1.15)
        images = ((images - 0.5) * contrast + 0.5).clamp(0, 1)

        long = (
            self.rng.random() < LONG_SHARE
        )  # for whole batches, so that short captions are not padded to the length of long ones
        captions = [caption(i, name, long, self.rng) for i, (_, _, name) in zip(items, paints, strict=True)]
        ids, end = self.tokens(captions, LONG_TOKENS if long else SHORT_TOKENS)
        ids[(torch.rand(ids.shape) < TOKEN_DROPOUT) & (ids >= SPECIAL)] = UNKNOWN  # trains the row for unknown words
        return (images - MEAN) / STD, ids, end, torch.from_numpy(self.labels[numbers])
