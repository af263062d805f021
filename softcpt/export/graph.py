"""A whole classifier as one ONNX graph: pixels in, the probabilities of each task out; and with weights of 8 bits."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from dassl.config import method_name
from dassl.utils import UserError, counted
from softcpt.model import Classifier

from .samples import MEASURED, Samples

GRAPH, INT8 = "model.onnx", "model.int8.onnx"
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
CLOSE = 1e-4  # difference of probabilities that counts as agreement
INPUT = "images"


def require_packages() -> None:
    """Raise UserError if a package for ONNX is missing."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"--onnx needs {', '.join(missing)}: pip install -r requirements-export.txt")


def outputs(model: Classifier) -> list[str]:
    """Names of the graph's outputs, one per task."""
    return [f"probabilities.{key}" for key in model.tasks]


class Whole(nn.Module):
    """Images (B, 3, H, W) -> probabilities (B, C) of each task, computed by the run's own towers and learner."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.trainer = model.trainer
        self.visual = self.trainer.clip.visual  # owned by the graph; the learner's few tensors become constants
        self.spans = [model.space.columns(position) for position in range(model.space.num_tasks)]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.trainer.model_inference(images)
        return tuple(logits[:, span].float().softmax(-1) for span in self.spans)


def write_graph(path: Path, model: Classifier, images: Tensor) -> float:
    """Write the graph of `model` to `path`, if ONNX Runtime computes the same from `images` (B, 3, H, W), B >= 2.

    Torch has two ways to record a graph. The second is tried if the first fails or records something else.

    Returns: the largest difference of a probability.

    Raises:
        UserError: no way gives a graph that computes the same for all sizes of a batch.
    """
    graph, problems = Whole(model).eval(), []
    for record in (_by_export, _by_trace):
        try:
            with _quiet():
                record(graph, images, path, outputs(model))
                _annotate(path, model)
                difference = _compare(path, graph, images)
        except Exception as error:  # the recorders raise nearly anything
            cause = error.__cause__ or error
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
            values = "the steps of its computation depend on values of the image; torch: "
            problems.append(values * ("data-dependent" in reason) + reason)
            continue
        if difference <= CLOSE:
            return difference
        problems.append(f"the graph differs from the model by {difference:.1e}")
    path.unlink(missing_ok=True)
    raise UserError(
        f"{method_name(model.cfg)} cannot be written as an ONNX graph: {problems[0].rstrip('.')}. Use the "
        "run with softcpt.load (docs/use.md)."
    )


def _by_export(graph: nn.Module, images: Tensor, path: Path, names: list[str]) -> None:
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        graph, (images[:2],), dynamo=True, dynamic_shapes=shapes, input_names=[INPUT], output_names=names, verbose=False
    )
    program.save(str(path), external_data=False)


def _by_trace(graph: nn.Module, images: Tensor, path: Path, names: list[str]) -> None:
    axes = {name: {0: "batch"} for name in (INPUT, *names)}
    how = {"input_names": [INPUT], "output_names": names, "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(graph, (images[:2],), str(path), **how)


def _annotate(path: Path, model: Classifier) -> None:
    """Store the class names of each task in the graph."""
    import onnx

    found = onnx.load(str(path))
    names = {key: list(names) for key, names in model.classnames.items()}
    onnx.helper.set_model_props(found, {"classnames": json.dumps(names, ensure_ascii=False)})
    onnx.save(found, str(path))


@contextlib.contextmanager
def _quiet():
    """Without the notes of the recorders about their steps."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def session(path: Path):
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _compare(path: Path, graph: nn.Module, images: Tensor) -> float:
    runtime, largest = session(path), 0.0
    for part in (images[:1], images[:3], images):  # recorded for 2 images, it has to serve any number
        with torch.no_grad():
            expected = graph(part)
        found = runtime.run(None, {INPUT: part.numpy()})
        for own, other in zip(found, expected, strict=True):
            largest = max(largest, (torch.from_numpy(own) - other).abs().max().item())
    return largest


# ---- 8 bits ----


def write_int8(source: Path, path: Path, model: Classifier, samples: Samples) -> dict:
    """Write the graph `source` with matrices of 8 bits, and measure both on labelled test images.

    Returns: {key of a task: {"images", "fp32", "int8"}}, accuracies in per cent.

    Raises:
        UserError: there are no labelled images.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    chosen = samples.spread(MEASURED)
    if not any(chosen.labels):
        raise UserError(
            "--int8 measures the loss of accuracy on the run's labelled test images, and there are none "
            f"({samples.why_none or 'the given images have no labels'}); give their place: --root DATA"
        )
    with _quiet():
        quantize_dynamic(str(source), str(path), weight_type=QuantType.QInt8, per_channel=True)
    runs = {"fp32": session(source), "int8": session(path)}
    right = {key: {"images": 0, "fp32": 0, "int8": 0} for key in model.tasks}
    for images, labels in chosen.batches(model):
        for name, runtime in runs.items():
            found = dict(zip(model.tasks, runtime.run(None, {INPUT: images.numpy()}), strict=True))
            for row, own in enumerate(labels):
                for key, label in own.items():
                    if key in found:
                        right[key][name] += int(found[key][row].argmax() == label)
                        right[key]["images"] += name == "int8"
    return {
        key: {"images": own["images"], **{name: 100 * own[name] / own["images"] for name in runs}}
        for key, own in right.items()
        if own["images"]
    }


def say_int8(measured: dict) -> str:
    """A line about the loss of accuracy."""
    parts = [
        f"{key} {own['fp32']:.1f} -> {own['int8']:.1f} % ({counted(own['images'], 'image')})"
        for key, own in measured.items()
    ]
    return ", ".join(parts)
