"""Read the datasets that a run asks for, or refuse with one error about all that are missing or unusable.

The errors carry what was asked for. `datasets.explain` adds what the doctor finds out about the causes; a run without
mistakes never imports the doctor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dassl.utils.errors import UserError, describe, is_user_error
from datasets import verify
from datasets.source import Source
from datasets.suites import asked


class UnusableData(UserError):
    """Datasets that are there and cannot be used.

    Args:
        label: the suite or dataset that was asked for.
        sources: {dataset: what reads it}, all that were asked for.
        root: the data root, "" for none.
        problems: {dataset: what is wrong with it}.
        train: whether images that only training needs are required.
    """

    verdict = "cannot be used"

    def __init__(
        self, label: str, sources: Mapping[str, Any], root: str, problems: Mapping[str, str], train: bool = False
    ):
        where = f" below DATASET.ROOT {root!r}" if root else ""
        head = f"{len(problems)} of {len(sources)} datasets {self.verdict}{where}" if len(sources) > 1 else self.verdict
        short = {name: text.removeprefix(f"{name}: ") for name, text in problems.items()}
        lines = [text if name in (label, text.split(" (")[0]) else f"{name}: {text}" for name, text in short.items()]
        super().__init__(f"{label}: {head}: " + "; ".join(lines))
        self.label, self.sources, self.root, self.problems, self.train = label, sources, root, problems, train


class MissingData(UnusableData, FileNotFoundError):
    """Datasets with missing files or folders. Also a FileNotFoundError, which code written for Dassl catches."""

    verdict = "not found"


def read_sources(label: str, sources: Mapping[str, Any], root: str) -> dict[str, Source]:
    """Read datasets for a run and save the splits that had to be made.

    Folders are listed, and the first bytes of `verify.SAMPLE` images of each dataset are looked at.

    Args:
        label: the suite or dataset that was asked for, for messages.
        sources: {dataset: what reads it}.
        root: the data root, "" for none.

    Raises:
        MissingData: files or folders are missing, of all datasets at once.
        UnusableData: datasets that contradict themselves or their row.
    """
    if gone := {name: gap for name, source in sources.items() if (gap := source.missing(root))}:
        raise MissingData(label, sources, root, gone)  # before anything is read
    found, problems, kind = {}, {}, UnusableData
    for name, source in sources.items():
        try:
            loaded = source.load(root)
        except (ValueError, OSError) as error:
            if not is_user_error(error):
                raise
            problems[name] = describe(error)
            kind = MissingData if isinstance(error, FileNotFoundError) else kind
            continue
        seen = verify.findings(loaded, range(len(loaded.tasks)), getattr(source, "row", None), making=True)
        if seen.problem:
            problems[name] = seen.problem
            continue
        for note in seen.notes:
            if loaded.save or note.startswith("WARNING"):
                print(f"{name}: {note}")
        if loaded.save and len(verify.tested(loaded)) == len(loaded.tasks):  # else images have to be added first
            loaded.save()
        found[name] = loaded
    if problems:
        raise kind(label, sources, root, problems)
    return found


def refuse_training(cfg) -> None:
    """Refuse to train without training images, before anything slow begins. Reads no image.

    Raises:
        UserError: a dataset of cfg.DATASET has test images only.
        MissingData: only the images to train on are missing.
    """
    wanted = asked(cfg)
    if wanted is None:
        return  # a dataset class written for Dassl, of which nothing is known before it is built
    if test_only := [name for name, source in wanted.sources.items() if getattr(source, "test_only", False)]:
        raise UserError(
            f"{', '.join(test_only)}: for testing only, without training images. Train on another dataset, e.g. "
            "ImageNet, and test that model here: --eval-only --model-dir FOLDER_OF_THE_RUN"
        )
    rows = {name: source for name, source in wanted.sources.items() if getattr(source, "train_folders", ())}
    gone = {name: gap for name, source in rows.items() if (gap := source.missing(wanted.root, train=True))}
    if gone and not any(source.missing(wanted.root) for source in rows.values()):  # else reading names all of it
        raise MissingData(wanted.name, rows, wanted.root, gone, train=True)
