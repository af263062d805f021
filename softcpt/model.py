"""A finished run as a classifier of images: `load(RUN)`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from tqdm import tqdm

import datasets  # noqa: F401  registers the datasets
import trainers  # noqa: F401  registers the methods and declares their settings
from dassl.data.datasets import DatasetBase, build_dataset
from dassl.data.transforms import build_transform
from dassl.engine.build import DEVICE
from dassl.runs.open import load_trainer, read_setup
from dassl.utils import UserError

from .images import Entry, entries, in_batches, prepare, stacked


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image in one task.

    Attributes:
        path: path of the image; "" for an image without one.
        task: key of the task.
        classes: (name, probability) pairs, the most probable first. Probabilities of all classes of a task sum to one;
            in a tagging task, each is the probability that the image has the class.
        error: why the image was not classified, in one line; then `task` and `classes` are empty.
    """

    path: str
    task: str
    classes: tuple[tuple[str, float], ...]
    error: str = ""


def load(run: str | os.PathLike, device: str | torch.device | None = None, epoch: int | None = None) -> Classifier:
    """Load the classifier of a finished run. The data of the run are not needed.

    Args:
        run: output folder of the run.
        device: e.g. "cpu" or "cuda:1". None: the GPU if there is one and the run's USE_CUDA is set, else the CPU.
        epoch: which checkpoint; None: the best on validation, else the newest.

    Raises:
        UserError: the folder is not one of a run, the run has no model, or the device does not exist.
        FileNotFoundError: the folder has no checkpoint, or files of the backbone are missing.
    """
    model = Classifier(run, device, epoch)
    _ = model.trainer
    return model


class Classifier:
    """A trained classifier, with the tasks and classes of its run.

    Attributes:
        tasks: keys of the tasks.
        classnames: {key of a task: names of its classes}.
        preprocess: PIL image -> tensor (3, H, W), the input of the model.
        space, cfg: the tasks and the settings of the run.
        trainer: the run's trainer in evaluation mode; loaded at first use, or by `load`.
        device: where the model computes.
    """

    def __init__(self, run: str | os.PathLike, device: str | torch.device | None = None, epoch: int | None = None):
        self.run, self._epoch, self._device = os.fspath(run), epoch, None if device is None else _device(device)
        with contextlib.redirect_stdout(io.StringIO()):  # messages of loading are not predictions
            self.cfg, self.space = read_setup(self.run, epoch)
        if self._device is not None:
            self.cfg.USE_CUDA = self._device.type == "cuda"
        self.preprocess = build_transform(self.cfg, is_train=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task.key for task in self.space.tasks)

    @property
    def classnames(self) -> dict[str, tuple[str, ...]]:
        return {task.key: task.classnames for task in self.space.tasks}

    def only(self, position: int) -> Classifier:
        """A classifier of one of the tasks, loaded anew."""
        found = copy(self)
        found.__dict__.pop("trainer", None)
        found.space = self.space.subset([position])
        return found

    def __repr__(self) -> str:
        sizes = ", ".join(f"{key}: {len(names)}" for key, names in self.classnames.items())
        return f"Classifier({self.run!r}, {self.cfg.TRAINER.NAME}, classes of each task: {sizes})"

    @cached_property
    def trainer(self):
        token = DEVICE.set(self._device)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return load_trainer(self.run, self.cfg, self.space, self._epoch)
        finally:
            DEVICE.reset(token)

    def dataset(self) -> tuple[DatasetBase | None, str]:
        """The images of the run; or None and why they are not there, in one line."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return build_dataset(self.cfg), ""
        except (OSError, ValueError, KeyError) as error:
            return None, (str(error).strip() or type(error).__name__).splitlines()[0]

    @property
    def device(self) -> torch.device:
        return self.trainer.device

    def positions(self, task: str | int | None) -> list[int]:
        """Positions of the task with this key, name or number; of all tasks for None. Raises UserError."""
        return self.space.positions(task)

    def classify(
        self, images, task: str | int | None = None, topk: int = 5, *, batch_size: int = 0, progress: bool | None = None
    ) -> list[Prediction]:
        """Classify images, in every task of the run or in one.

        An image that cannot be read is reported in one line on the error output, and its record has an `error`. All
        other images are classified.

        Args:
            images: a path, a folder, a PIL image, a tensor from `preprocess`, or a list of these.
            task: key, name or number of a task.
            topk: number of classes in each record.
            batch_size: 0: the run's DATALOADER.TEST.BATCH_SIZE.
            progress: show a bar; None: on a terminal, for more than one batch.

        Returns:
            For each image a record per task, in order.

        Raises:
            UserError: the run has no such task, or something is not an image; or zero-shot CLIP in a tagging task.
            FileNotFoundError: there is no image at all.
        """
        found = []
        for records in self.stream(images, task, topk, batch_size=batch_size, progress=progress):
            if records[0].error:
                print(f"warning: {records[0].error}", file=sys.stderr)
            found += records
        return found

    def stream(
        self,
        images,
        task: str | int | None = None,
        topk: int = 5,
        *,
        batch_size: int = 0,
        progress: bool | None = None,
    ) -> Iterator[list[Prediction]]:
        """Like `classify`, but yield the records of one image after the other, and print no warnings."""
        chosen, found = self.positions(task), entries(images)
        if topk < 1:
            raise UserError(f"topk {topk}: expected at least 1")
        if (tagging := [t for t in chosen if self.space.tasks[t].tagging]) and not self.trainer.learns:
            raise UserError(
                f"{self.tasks[tagging[0]]} is a tagging task: zero-shot CLIP ranks images by its logits, but has no "
                "probabilities of tags; choose another task, or a trained model"
            )
        return self._stream(found, chosen, topk, batch_size or self.cfg.DATALOADER.TEST.BATCH_SIZE, progress)

    def _stream(self, found, chosen, topk, size, progress) -> Iterator[list[Prediction]]:
        hidden = None if progress is None and len(found) > size else not progress  # None: tqdm looks for a terminal
        with tqdm(total=len(found), unit="image", disable=hidden) as bar:
            for batch, images in in_batches(found, self.prepare, size):
                rows = iter(() if (ready := stacked(images)) is None else self._parts(ready, chosen))
                for entry, image in zip(batch, images, strict=True):
                    if isinstance(image, str):
                        yield [Prediction(entry.path, "", (), image)]
                    else:
                        yield self._records(entry.path, next(rows), chosen, topk)
                    bar.update()

    def prepare(self, entry: Entry) -> Tensor | str:
        """The input (3, H, W) of an image, or in one line why it cannot be read."""
        return prepare(entry, self.preprocess, self.cfg.INPUT.SIZE, self.cfg.INPUT.EXIF_ROTATE)

    def _parts(self, images: Tensor, chosen: list[int]) -> Iterator[list[Tensor]]:
        """For each image, the logits (C,) of each of the chosen tasks."""
        parts = [part.cpu().unbind() for part in self._logits(images, chosen)]
        return zip(*parts, strict=True)

    @torch.no_grad()
    def _logits(self, images: Tensor, chosen: list[int]) -> list[Tensor]:
        """Logits (B, C) of images (B, 3, H, W) in each of the chosen tasks."""
        images, spans = images.to(self.device), [self.space.columns(position) for position in chosen]
        if len(chosen) == 1 < self.space.num_tasks and getattr(self.trainer, "by_task", False):
            task = torch.full((len(images),), chosen[0], device=self.device)  # one pass instead of one per task
            return [self.trainer.model_inference(images, task)[:, spans[0]].float()]
        logits = self.trainer.model_inference(images).float()
        return [logits[:, span] for span in spans]

    def _records(self, path: str, rows: tuple[Tensor, ...], chosen: list[int], topk: int) -> list[Prediction]:
        if not all(row.isfinite().all() for row in rows):
            where = f"{path}: " if path else ""
            return [Prediction(path, "", (), f"{where}the model gives infinite or NaN values, not probabilities")]
        found = []
        for position, row in zip(chosen, rows, strict=True):
            names = self.space.tasks[position].classnames
            probabilities = row.sigmoid() if self.space.tasks[position].tagging else row.softmax(-1)
            best = probabilities.topk(min(topk, len(names)))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            found.append(Prediction(path, self.tasks[position], tuple((names[label], p) for label, p in pairs)))
        return found

    def logits(self, images, task: str | int | None = None, *, batch_size: int = 0) -> Tensor:
        """Logits of images as for `classify`: (B, C) of one task, or (B, N) of all tasks one after the other.

        Raises:
            UserError: an image cannot be read, or the run has no such task.
            FileNotFoundError: there is no image at all, or one of them does not exist.
        """
        chosen, found, values = self.positions(task), entries(images), []
        for _, ready in in_batches(found, self.prepare, batch_size or self.cfg.DATALOADER.TEST.BATCH_SIZE):
            if wrong := next((image for image in ready if isinstance(image, str)), ""):
                raise UserError(wrong)
            values.append(torch.cat(self._logits(stacked(ready), chosen), 1))
        return torch.cat(values)


def _device(device: str | torch.device) -> torch.device:
    """The device. Raises UserError if it does not exist."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # unknown to torch, or not in this machine
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"device {device}: not available ({reason}); expected cpu, cuda or cuda:N") from None
    return found
