"""The steps of an export: the run is opened, taken apart, written, checked against itself, and described."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from dassl.config import method_name
from dassl.engine.build import method_of
from dassl.utils import UserError, counted
from softcpt.model import Classifier

from . import fold, graph
from .card import card
from .files import CONFIG, describe, differences, write_parts
from .parts import NotPortable, Parts, probe_images, take_apart
from .samples import Samples, find_samples


def export(
    run: str,
    folder: str,
    task: str | None = None,
    *,
    root: str = "",
    images: Sequence[str] = (),
    onnx: bool = False,
    int8: bool = False,
    folded: bool = False,
) -> None:
    """Write the classifier of a run to `folder`, which is new or empty; nothing is left there after an error.

    Args:
        run: output folder of the run.
        task: key, name or number of the only task to export.
        root: where the run's data are, if they have moved.
        images: images for the checks in place of the run's test images.
        onnx, int8, folded: write an ONNX graph, the same with 8 bits, a classifier of timm.

    Raises:
        UserError: a tagging task, a method without such a form, or files that compute something else than the run.
    """
    target = Path(folder)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UserError(f"-o {folder}: expected a new or an empty folder; delete it, or choose another one")
    if onnx or int8:
        graph.require_packages()
    model = Classifier(run, device="cpu")
    if root:
        model.cfg.DATASET.ROOT = root
    if (section := getattr(method_of(model.cfg), "section", "")) in model.cfg.TRAINER:
        model.cfg.TRAINER[section].PREC = "fp32"  # other programs compute in fp32
    if task is not None:
        model = model.only(*model.positions(task))
    if tagging := [task.key for task in model.space.tasks if task.tagging]:
        others = [task.key for task in model.space.tasks if not task.tagging]
        raise UserError(
            f"{tagging[0]} is a tagging task, whose tags are independent; exported classifiers choose one class per "
            f"task{f'; export another one with --task, e.g. --task {others[0]}' if others else ''}. Use predict.py or "
            "softcpt.load for tags"
        )
    samples = find_samples(model, images)
    if onnx and not samples.entries:
        raise UserError(
            "--onnx compares the graph with the run on images, and the run's test images are not there "
            f"({samples.why_none}); give --root DATA or --images IMAGE ..."
        )
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        if getattr(model.trainer, "by_task", False) and len(model.tasks) > 1:
            print(f"{method_name(model.cfg)} has image features of its own for each task: a folder for each")
            for position, key in enumerate(model.tasks):
                (part / key).mkdir()
                one = model.only(position)
                _export(one, part / key, samples.of(one), onnx or int8, int8, folded, f"{key}/")
        else:
            _export(model, part, samples.of(model), onnx or int8, int8, folded)
        if target.is_dir():
            target.rmdir()
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _export(model: Classifier, folder: Path, samples: Samples, onnx: bool, int8: bool, folded: bool, shown="") -> None:
    notes: list[str] = []
    parts = _taken_apart(model, onnx, notes)
    if folded and (why := fold.refusal(model, parts)):
        raise UserError(f"--fold: {why}. Everything else can be exported without --fold.")
    config = describe(model, parts)
    images = samples.images(model) if samples.entries else probe_images(model.trainer)
    on = counted(len(images), "image") if samples.entries else f"{len(images)} drawn images ({samples.why_none})"
    if parts is not None:
        largest = differences(parts.logits(images), model.trainer.model_inference(images), model.space)
        if not largest <= graph.CLOSE:
            raise UserError(f"{method_name(model.cfg)}: the parts differ from the run by {largest:.1e} on {on}")
        notes.append(f"With open_clip's tower, probabilities differ from the run's by at most {largest:.1e} on {on}.")
        notes += _about_benchmark(write_parts(folder, model, parts, config), parts)
    if onnx:
        path = folder / graph.GRAPH
        largest = graph.write_graph(path, model, images if len(images) > 1 else torch.cat([images, images]))
        notes.append(f"ONNX Runtime's probabilities differ from the run's by at most {largest:.1e} on {on}.")
        config["onnx"] = {"file": graph.GRAPH, "input": graph.INPUT, "outputs": graph.outputs(model)}
    if int8:
        config["int8"] = graph.write_int8(path, folder / graph.INT8, model, samples)
        notes.append(f"Accuracy with weights of 8 bits: {graph.say_int8(config['int8'])}.")
    if folded:
        fold.write_folded(folder, model, parts, config["preprocess_cfg"], images)
        other = "; it does not normalise features, so its probabilities differ" if parts.head.normalize else ""
        notes.append(f"timm's classifier gives the same classes on {on}{other}.")
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    files = sorted(path.name for path in folder.iterdir())
    (folder / "README.md").write_text(card(model, config, files, notes), encoding="utf-8")
    for note in notes:
        print(note)
    print(f"{shown or 'Files: '}{', '.join(['README.md', *files])}")


def _taken_apart(model: Classifier, onnx: bool, notes: list[str]) -> Parts | None:
    """The parts of a classifier; None if it has none and a graph of the whole model is asked for."""
    try:
        return take_apart(model.trainer)
    except NotPortable as error:
        if not onnx:
            raise UserError(f"{error} The whole model can be exported: --onnx") from None
        notes.append(f"Only as a graph: {error}")
        return None


def _about_benchmark(files: list[str], parts: Parts) -> list[str]:
    if files:
        names = files[0] if len(files) == 1 else "classifier-<task>.pt"
        return [f"CLIP_benchmark with the same backbone reads a task's matrix: `--load_clfs {names}`."]
    why = "its image tower is not the backbone's own" if parts.changed or parts.prompts else "it is more than a matrix"
    return [f"There is no classifier.pt for CLIP_benchmark: {why}."]
