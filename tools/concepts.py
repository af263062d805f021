"""Concept and names of each pretraining drawing, and the vocabulary of all captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tools.drawings import OPENCLIPART, Drawings, Source
from tools.icons import fingerprint, normalise, words
from tools.wordnet import WordNet

TOO_ALIKE = 0.95  # cosine of fingerprints above which a drawing counts as one of the suite
UNKNOWN, START, END, SPECIAL = 0, 1, 2, 3  # first rows of the embedding table; the rows of words follow
SOT, EOT, BPE_SIZE = 49406, 49407, 49408
NOT_KEYWORDS = frozenset({"clip art", "clipart", "image", "media", "public domain", "png", "svg", "unsorted"})
# Words of the caption templates, which are always in the vocabulary.
TEMPLATE_WORDS = words(
    """a an the photo picture image icon emoji drawing sketch illustration of clip art clipart cartoon symbol sign
    simple flat black white color colour colored outline filled line style small large type kind red orange yellow green
    blue purple pink brown gray on background dark light . , : this is one showing"""
)


class Item(NamedTuple):
    """One drawing and its names."""

    coloured: bool
    row: int  # in Drawings.colour or Drawings.ink
    concept: str
    names: list[str]  # other names and keywords
    kinds: list[str]  # hypernyms
    origin: str


def emoji_tags(emojis: Iterable[Mapping]) -> dict[str, list[str]]:
    """{normalised emoji label: [label, up to eight tags]}."""
    return {
        normalise(emoji["label"].replace("’", "")): [
            emoji["label"].lower(),
            *[tag for tag in emoji.get("tags", []) if re.fullmatch(r"[a-z][a-z \-]{2,20}", tag)][:8],
        ]
        for emoji in emojis
    }


def clip_art_words(source: Source) -> tuple[str, list[str]]:
    """(concept, keywords) of a clip-art file; the concept is "" without a title or a usable file name."""
    name = source.name.rpartition("/")[2].removesuffix(".svg")
    title = source.title.strip().lower() if len(source.title) < 40 else ""
    if not title:
        title = " ".join([w for w in re.split(r"[_\-\s]+", name.lower()) if w.isalpha() and len(w) > 2][:3])
    keywords = [keyword.strip().lower() for keyword in source.keywords]
    return title, [keyword for keyword in keywords if 2 < len(keyword) < 18 and keyword not in NOT_KEYWORDS][:6]


def looks_like(pictures: np.ndarray, suite: np.ndarray, batch: int = 4000) -> np.ndarray:
    """Mask of the drawings that look like a drawing of the suite, bool (n,).

    ``pictures``: ink ``(n, S, S)`` or RGBA ``(n, S, S, 4)``; ``suite``: fingerprints ``(m, 256)``.
    """
    alike = np.zeros(len(pictures), bool)
    for start in range(0, len(pictures), batch):
        some = np.asarray(pictures[start : start + batch]).astype(np.float32)
        if some.ndim == 4:
            alpha = some[..., 3:] / 255
            some = (some[..., :3] * alpha + 255 * (1 - alpha)).mean(-1)
        else:
            some = 255 - some
        alike[start : start + batch] = (fingerprint(some) @ suite.T).max(1) > TOO_ALIKE
    return alike


def make_items(drawings: Drawings, suite: np.ndarray, tags: Mapping[str, list[str]], wordnet: WordNet) -> list[Item]:
    """All drawings with a concept that do not look like a drawing of ``suite`` (RGB ``(m, S, S, 3)``).

    A monochrome drawing is kept if WordNet or the emoji list knows its concept, or if four drawings share it.
    """
    looks = fingerprint(suite.astype(np.float32).mean(-1))
    items = []
    for coloured, pictures, sources in (
        (False, drawings.ink, drawings.ink_sources),
        (True, drawings.colour, drawings.colour_sources),
    ):
        alike = looks_like(pictures, looks)
        for row, source in enumerate(tqdm(sources, desc="naming", unit="drawing", leave=False)):
            if alike[row]:
                continue
            concept, names = clip_art_words(source) if source.origin == OPENCLIPART else (source.title, [])
            if concept:
                names = names + tags.get(concept, [])
                items.append(Item(coloured, row, concept, names, wordnet.kinds(concept), source.origin))
    count = Counter(item.concept for item in items)
    return [i for i in items if i.kinds or i.names or i.coloured or count[i.concept] >= 4]


def make_vocabulary(items: Sequence[Item], always: Iterable[str], encode) -> list[int]:
    """Sorted BPE ids of the vocabulary: tokens that occur twice, or in the templates, or in ``always`` (texts)."""
    count: Counter[int] = Counter()
    for item in items:
        for text in (item.concept, *item.names, *item.kinds, *(f"{kind}s" for kind in item.kinds)):
            count.update(encode(text))
    wanted = {token for text in (*TEMPLATE_WORDS, *always) for token in encode(text)}
    return sorted({token for token, number in count.items() if number >= 2} | wanted)


def make_remap(vocabulary: Sequence[int]) -> np.ndarray:
    """Row of the small embedding table for each BPE id, int32 (49408,); unseen ids share the row for unknown words."""
    remap = np.full(BPE_SIZE, UNKNOWN, np.int32)
    remap[np.asarray(vocabulary, dtype=np.int64)] = np.arange(len(vocabulary), dtype=np.int32) + SPECIAL
    remap[SOT], remap[EOT] = START, END
    return remap
