"""The model card of an exported classifier: README.md beside its files."""

from __future__ import annotations

import shlex

from clip.names import OPENAI, TINY
from dassl.runs.record import known_results
from dassl.utils import counted
from softcpt.model import Classifier

WHAT = {
    "config.json": "backbone, preprocessing in the words of open_clip, tasks, names of classes",
    "classifier.safetensors": "`<task>.weight` (d, C) of each task, `scale`, and `<task>.bias` if there is one",
    "classifier.pt2": "program of `torch.export`: features (B, d) → logits (B, N), for a method that is not a matrix",
    "classifier.pt": "the matrix alone, in the form of CLIP_benchmark (`--load_clfs`)",
    "image_tower.safetensors": "weights of the image tower",
    "image_prompts.safetensors": "tokens (K, W) that enter the image tower, by layer; they replace the tokens before",
    "model.onnx": "pixels → probabilities of each task; the batch may have any size",
    "model.int8.onnx": "the same with weights of 8 bits",
    "timm": "an image classifier for `timm.create_model`",
    "use.py": "classifies images with open_clip alone",
}


def card(model: Classifier, config: dict, files: list[str], notes: list[str]) -> str:
    """The text of README.md.

    Args:
        config: content of config.json.
        files: names of the files and folders that were written.
        notes: sentences about checks and measurements.
    """
    record = known_results(model.run)
    head = "---\npipeline_tag: image-classification\nlibrary_name: open_clip\ntags: [clip, few-shot]\n---"
    title = f"# {config['method']} on {record.get('suite') or ', '.join(model.tasks)}"
    parts = [head, title, _summary(model, config), _results(model, record), _use(files), _files(files, notes)]
    return "\n\n".join([*parts, _training(model, config, record), _limits(model, config)]) + "\n"


def _summary(model: Classifier, config: dict) -> str:
    counts = [len(names) for names in model.classnames.values()]
    tasks = f"{counted(len(counts), 'task')} with {counted(sum(counts), 'class')}"
    return (
        f"An image classifier for {tasks}, on the frozen image encoder of CLIP ({config['backbone']['name']}). "
        f"Trained by the method {config['method']} with the framework softcpt."
    )


def _results(model: Classifier, record: dict) -> str:
    found = {task.get("key"): task for task in record.get("tasks") or ()}
    rows = ["## Results", "", "| task | classes | metric | result | test images |", "|-|-:|-|-:|-:|"]
    for task in model.space.tasks:
        own = found.get(task.key) or {}
        value = own.get("value")
        shown = f"{value:.2f} %" if isinstance(value, (int, float)) else "not tested"
        images = own.get("images", 0)
        rows.append(f"| {task.name} (`{task.key}`) | {len(task.classnames)} | {task.metric} | {shown} | {images} |")
    seed, split = record.get("seed"), record.get("split") or "test"
    return "\n".join([*rows, "", f"One run (seed {seed}) on its {split} images."])


def _use(files: list[str]) -> str:
    lines = []
    if "use.py" in files:
        lines += ["pip install open_clip_torch", "python use.py IMAGE ..."]
    if "model.onnx" in files:
        lines.append("python -c \"import onnxruntime; onnxruntime.InferenceSession('model.onnx')\"")
    for name in files:
        if name.partition("-")[0] == "timm":
            lines.append(f"python -c \"import timm; timm.create_model('local-dir:{name}', pretrained=True)\"")
    return "## Use\n\n```sh\n" + "\n".join(lines) + "\n```"


def _files(files: list[str], notes: list[str]) -> str:
    rows = ["## Files", "", "| file | content |", "|-|-|"]
    kinds = {}  # general name: names of the files; a file per task has the task's key after a hyphen
    for name in files:
        stem, dot, end = name.partition(".")
        kinds.setdefault(name if name in WHAT else stem.partition("-")[0] + dot + end, []).append(name)
    for kind, names in kinds.items():
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {WHAT.get(kind, '')} |")
    return "\n".join([*rows, "", *(f"- {note}" for note in notes)])


def _training(model: Classifier, config: dict, record: dict) -> str:
    shots = record.get("shots")
    facts = {
        "data": record.get("suite"),
        "training images per class": "all" if shots is not None and shots < 1 else shots,
        "protocol": record.get("protocol"),
        "epochs": record.get("epochs"),
        "backbone": f"{config['backbone']['name']} ({config['backbone']['source']})",
        "SHA-256 of the backbone's weights": config["backbone"]["weights_sha256"],
        "commit": record.get("git_commit"),
        "versions": ", ".join(f"{name} {value}" for name, value in config["versions"].items() if value),
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items() if value not in (None, "")]
    command = " ".join(map(shlex.quote, record.get("command") or ()))
    shown = ["", "```sh", f"python {command}", "```"] if command else []
    return "\n".join(["## Training", "", "| | |", "|-|-|", *rows, *shown])


def _licence(backbone: dict) -> str:
    if backbone["name"] == TINY:
        return "the MIT licence, as the framework"
    if backbone["name"] in OPENAI and backbone.get("create"):
        return "the MIT licence of OpenAI's CLIP"
    return f"the licence of their authors, see {backbone['source']}"


def _limits(model: Classifier, config: dict) -> str:
    return f"""## Intended use

Classification of images like those of the training data into the classes of `config.json`. The probabilities of a task
sum to one for every image, also for an image that shows none of the classes. CLIP has learned from pictures and texts
of the web, with their biases. Do not use the classifier for decisions about people.

## Licences

- The weights of the backbone are under {_licence(config["backbone"])}.
- The training data are under the licences of their authors. Class names and matrices were made from them.
- The framework that made these files is under the MIT licence."""
