"""Kinds of things from WordNet's noun files: "cat" -> "mammal", "animal"."""

from __future__ import annotations

from pathlib import Path

from tools.icons import words

# Kinds used in captions; others ("entity", "object") are too general.
KINDS = words(
    """mammal bird fish insect reptile amphibian animal fruit edible_fruit vegetable bread cake beverage dessert dish
    candy food vehicle ship boat aircraft car tool weapon musical_instrument clothing footwear headdress furniture
    building plant tree flower container machine electronic_equipment computer appliance device body_part
    facial_expression person athlete game sport toy jewelry book timepiece publication kitchen_utensil cutlery weather
    atmospheric_phenomenon celestial_body natural_object geological_formation structure instrument symbol emotion hand
    cooking_utensil drug medical_instrument accessory document money writing_implement"""
)
MAX_DEPTH, SENSES, MOST = 12, 2, 3


class WordNet:
    """Reads ``index.noun`` and ``data.noun`` in a folder (Debian package wordnet-base). Raises FileNotFoundError."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        for name in ("index.noun", "data.noun"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder / name} not found: install the Debian package wordnet-base and pass its folder"
                )
        self.synsets: dict[str, list[str]] = {}  # lemma -> synsets, most frequent sense first
        self.lemmas: dict[str, list[str]] = {}  # synset -> lemmas
        self.parents: dict[str, list[str]] = {}  # synset -> hypernyms
        for fields in self._lines(folder / "index.noun"):
            pointers = int(fields[3])
            self.synsets[fields[0]] = fields[6 + pointers :]
        for fields in self._lines(folder / "data.noun"):
            synset, count = fields[0], int(fields[3], 16)
            self.lemmas[synset] = [fields[4 + 2 * i].lower() for i in range(count)]
            start = 5 + 2 * count
            pointers = [fields[start + 4 * i : start + 4 * i + 2] for i in range(int(fields[start - 1]))]
            self.parents[synset] = [target for kind, target in pointers if kind in ("@", "@i")]

    @staticmethod
    def _lines(path: Path) -> list[list[str]]:
        with path.open(encoding="utf-8") as file:
            return [line.split() for line in file if not line.startswith(" ")]  # the licence is indented

    def kinds(self, text: str) -> list[str]:
        """Up to three kinds of the thing ``text`` (or of its last word, if the whole is unknown), nearest first."""
        parts = text.split()
        return self._kinds("_".join(parts)) or (self._kinds(parts[-1]) if parts else [])

    def _kinds(self, lemma: str) -> list[str]:
        synsets = self.synsets.get(lemma)
        for ending in ("s", "es"):
            if not synsets and lemma.endswith(ending):
                synsets = self.synsets.get(lemma.removesuffix(ending))
        for synset in (synsets or [])[:SENSES]:
            found: dict[str, None] = {}
            level, depth, seen = [synset], 0, set()
            while level and depth < MAX_DEPTH:
                if depth:  # the thing itself is not a kind
                    found |= dict.fromkeys(name for s in level for name in self.lemmas.get(s, []) if name in KINDS)
                level = [p for s in level for p in self.parents.get(s, []) if p not in seen]
                seen |= set(level)
                depth += 1
            if found:
                return [name.replace("_", " ") for name in found][:MOST]
        return []
