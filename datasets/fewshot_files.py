"""Public few-shot sets: files that list the images of k shots, used in place of drawing them.

Two published forms, told apart by their content:

- JSON Lines, as released with 2SFS: an image per line, `{"impath": "images/cat_1.jpg", "label": 3, "classname": "cat"}`
- an index, as released with cross-modal adaptation for CoOp's own sets: `{"train": [...], "val": [...]}`. A list has
  entries like the lines above, `[path, label, class name]`, or positions (from 0) in the dataset's split file; it may
  be within `{"indices": [...], "data": [...]}`

Other keys are ignored. Paths may begin with folders of another machine: the end of a path identifies the image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dassl.utils import UserError, open_file
from dassl.utils.tools import hexdigest
from datasets.folders import some

KEY = "DATASET.FEWSHOT_SPLIT"
ENDINGS = (".jsonl", ".json")
DEPTH = 4  # levels of folders that are searched for a file
PATHS = ("impath", "image_path", "img_path", "path", "file_name", "filename", "filepath", "image", "file")
LABELS = ("label", "target", "class_id", "class_idx")
NAMES = ("classname", "class_name", "cname", "class")
PARTS = {"train": "train", "train_x": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
FORMS = (
    'expected one image per line, such as {"impath": "images/cat_1.jpg", "label": 3, "classname": "cat"}, or '
    '{"train": [...], "val": [...]} with such entries, [path, label, class name], or positions in the split file'
)


class Entry(NamedTuple):
    """An image that a file lists: its path or its position in the split, and its label and class name if given."""

    image: str | int
    label: int | None = None
    name: str = ""


# ---- where they are ----------------------------------------------------------------------------------------------


def find_files(
    given: str, root: str, aliases: Mapping[str, Sequence[str]], known: Iterable[str], shots: int, seed: int
) -> dict[str, Path]:
    """The few-shot file of every dataset.

    Args:
        given: a file, for one dataset, or a folder. A relative path is looked for here, then below the data root.
        root: the data root, "" for none.
        aliases: {dataset: names that a path in the folder may have for it}.
        known: names of all datasets, so that ImageNet's file is not that of ImageNet-A.
        shots, seed: of the run; they choose the file in a folder.

    Returns:
        {dataset: Path}.

    Raises:
        UserError: no such file or folder, one file for several datasets, or no or several files for a dataset.
    """
    places = [Path(os.path.abspath(os.path.join(base, os.path.expanduser(given)))) for base in (".", root or ".")]
    place = next((path for path in places if path.exists()), None)
    if place is None:
        looked = " or ".join(dict.fromkeys(map(str, places)))
        raise UserError(f"{KEY} {given} does not exist: looked for {looked}; expected a file, or a folder of files")
    if not place.is_dir():
        if len(aliases) > 1:
            raise UserError(
                f"{KEY} {place} is one file, and the run has {len(aliases)} datasets ({some(aliases)}); expected a "
                "folder with one file per dataset, or one dataset: DATASET.SUBSAMPLE_TASKS"
            )
        return dict.fromkeys(aliases, place)
    if shots < 1:
        raise UserError(
            f"{KEY} {place} is a folder, whose file is chosen by the number of shots: set DATASET.NUM_SHOTS"
        )
    there = _files_below(place)
    found, problems = {}, []
    for dataset, names in aliases.items():
        fit = [file for file in there if _fits(f"{place.name}/{file}".lower(), names, known, shots, seed)]
        if len(fit) == 1:
            found[dataset] = place / fit[0]
        elif fit:
            problems.append(f"{dataset}: {len(fit)} files fit: {some(fit)}; give one of them as {KEY}")
        else:
            problems.append(
                f"{dataset}: no .jsonl or .json file whose path has {' or '.join(dict.fromkeys(names))}, seed{seed} "
                f"and {shots}shots, in any order"
            )
    if problems:
        example = f"{names[-1]}/shot_{shots}-seed_{seed}.json"
        raise UserError(
            f"{KEY} {place}: {'; '.join(problems)}. Found {some(there, 5) or 'no .jsonl or .json file'}; a name such "
            f"as {example} is understood"
        )
    return found


def _files_below(folder: Path) -> list[str]:
    """Paths of the .json and .jsonl files below a folder, sorted, relative and with forward slashes."""
    found = []
    for base, folders, files in os.walk(folder):
        level = Path(base).relative_to(folder)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if len(level.parts) < DEPTH else []
        found += [(level / name).as_posix() for name in files if name.endswith(ENDINGS) and not name.startswith(".")]
    return sorted(found)


def _fits(path: str, names: Sequence[str], known: Iterable[str], shots: int, seed: int) -> bool:
    """Whether a path (in lower case) names the dataset, the seed and the number of shots."""
    between = "[-_ =/.]?"
    of_seed = re.compile(rf"(?<![a-z])seed{between}0*{seed}(?!\d)")
    if not of_seed.search(path):
        return False
    rest = of_seed.sub(" ", path)  # else the seed of "seed1_shots16" would be one shot
    shot = rf"(?<![a-z])shots?{between}0*{shots}(?!\d)|(?<!\d)0*{shots}[-_ ]?shots?(?![a-z]|[-_ ]?\d)"
    if not re.search(shot, rest):
        return False
    longest = max((name for name in known if _named(path, name)), key=_letters, default="")
    return any(_named(path, name) and _letters(name) >= _letters(longest) for name in names)


def _letters(name: str) -> int:
    return len(re.sub(r"[-_ ]", "", name))


def _named(path: str, name: str) -> bool:
    """Whether a path has a name as a word, in any spelling of its separators: oxford_pets is OxfordPets."""
    letters = re.sub(r"[-_ ]", "", name.lower())
    return re.search(r"(?<![a-z0-9])" + "[-_ ]?".join(map(re.escape, letters)) + r"(?![a-z0-9])", path) is not None


# ---- what they list ----------------------------------------------------------------------------------------------


def read_entries(path: Path) -> dict[str, list[Entry]]:
    """{"train": entries, "val": entries} of a file; "val" is missing if the file lists no validation images.

    Raises:
        UserError: the file is of neither form.
    """
    if path.suffix in (".pkl", ".pickle"):
        raise UserError(f"{path} is a pickle, which may contain any program and is not read; {FORMS}")
    try:
        with open_file(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); {FORMS}") from None
    try:
        content = json.loads(text)
    except ValueError:
        content = _lines(path, text)
    if isinstance(content, Mapping) and _first(content, PATHS) is not None:
        content = [content]  # a file of one line
    if isinstance(content, Mapping):
        lists = {PARTS[key]: _list(path, key, content[key]) for key in content if key in PARTS}
    else:
        lists = {"train": content} if isinstance(content, list) else {}
    if not lists.get("train"):
        found = f"the keys {some(content, 5)}" if isinstance(content, Mapping) and content else "no images"
        raise UserError(f"{path}: found {found}; {FORMS}")
    parts: dict[str, list[Entry]] = defaultdict(list)
    for part, entries in lists.items():
        for number, entry in enumerate(entries, 1):
            own, found = _entry(entry)
            if found is None:
                raise UserError(f"{path}: entry {number} of {part} is {str(entry)[:100]!r}; {FORMS}")
            if PARTS.get(own, own) not in ("train", "val", "", None):
                continue  # images of the test
            parts[PARTS.get(own) or part].append(found)
    if not parts["train"]:
        raise UserError(f"{path}: found no training image; {FORMS}")
    return dict(parts)


def _lines(path: Path, text: str) -> list[Any]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except ValueError:
            raise UserError(f"{path}: line {number} is {line[:100]!r}; {FORMS}") from None
    return found


def _list(path: Path, key: str, value: Any) -> list[Any]:
    """The list of one part, which may be within {"indices", "data"}."""
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("data", "indices") if value.get(name)), None)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UserError(f"{path}: {key} is {str(value)[:100]!r}; {FORMS}")
    return value


def _entry(value: Any) -> tuple[str | None, Entry | None]:
    """(the part that an entry names, the entry); (None, None) for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return None, Entry(value)
    if isinstance(value, list) and value and isinstance(value[0], str):
        value = dict(zip(("impath", "label", "classname"), value, strict=False))
    if not isinstance(value, Mapping) or not isinstance(image := _first(value, PATHS), str) or not image:
        return None, None
    label, name = _first(value, LABELS), _first(value, NAMES)
    if isinstance(label, str) and not label.strip().lstrip("-").isdigit():
        label, name = None, label
    try:
        number = None if label is None or isinstance(label, bool) else int(label)
    except (TypeError, ValueError):
        return None, None
    part = value.get("split")
    return (part.lower() if isinstance(part, str) else None), Entry(image, number, str(name or ""))


def _first(entry: Mapping, keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


# ---- record ------------------------------------------------------------------------------------------------------


def record_of(given: str, files: Mapping[str, Path], shots: int) -> dict[str, Any]:
    """The entry `fewshot_split` of results.json: equal hashes mean equal few-shot sets.

    Args:
        given: DATASET.FEWSHOT_SPLIT.
        files: {dataset: its file}.
        shots: the most training images of any class.

    Returns:
        {"name": last part of the path, "sha256": of the file, or over the files of all datasets, "shots", "files":
        {dataset: {"name", "sha256"}}}.
    """
    hashes = {dataset: hexdigest(path, "sha256") for dataset, path in files.items()}
    joined = "\n".join(f"{dataset}\t{digest}" for dataset, digest in sorted(hashes.items()))
    whole = next(iter(hashes.values())) if len(hashes) == 1 else hashlib.sha256(joined.encode()).hexdigest()
    name = os.path.basename(os.path.normpath(given))
    each = {dataset: {"name": path.name, "sha256": hashes[dataset]} for dataset, path in files.items()}
    return {"name": name, "sha256": whole, "shots": shots, "files": each}
