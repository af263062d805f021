"""One training step of every method, relative to one of CoOp on the same batch.

python -m benchmarks.methods --suite plant6 --backbone RN50
python -m benchmarks.methods --suite plant6 --scale 0.25 --backbone ViT-B/16 --batch 4      VPT, UPT and MTUPT as well

All methods learn all tasks of the suite in one run (CoOp-CA: one context per task). The tasks of the batch are drawn in
proportion to their number of classes. A step consists of forward pass, backward pass and optimiser. Image features are
precomputed, as in the feature bank. With a live image tower, a step also needs a pass of the tower, which is measured
separately (for PLOT with local features). Methods with prompts in the image tower always include its forward and
backward pass. Linear probe and ProtoNet have no steps: their cost is one fit of all tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

import trainers  # noqa: F401  registers the methods
from clip.additions import Additions
from clip.image_tower import ImageTower
from clip.model import CLIP
from clip.names import image_tower_kind
from dassl.config import get_cfg_default, load
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from trainers.base import FittedTrainer
from trainers.samples import Samples, StartSamples

from .common import backbone, options, positive, start, suite
from .measuring import alternate, peaks, report, settings


class Method(NamedTuple):
    """A row of the tables: a trainer, and settings of its section as KEY VALUE pairs in one text."""

    trainer: str
    settings: str = ""

    @property
    def cls(self) -> type:
        return TRAINER_REGISTRY.get(self.trainer)

    def pairs(self) -> list[str]:
        """KEY VALUE pairs as train.py takes them."""
        words = self.settings.split()
        return [f"TRAINER.{self.cls.section}.{word}" if i % 2 == 0 else word for i, word in enumerate(words)]


REFERENCE = "CoOp-CA"
METHODS = {  # the rows of the published tables, under the names they have in scripts/all_methods.sh
    "LinearProbe": Method("LinearProbe"),
    "ProtoNet": Method("ProtoNet", "METRIC cosine"),
    "CoOp-MT": Method("MTCoOpHard", "N_CTX 16"),
    "CoOp-CA": Method("MTCoOpHard", "N_CTX 16 TSC True"),
    "CoOp-CS": Method("MTCoOpHard", "N_CTX 16 CSC True"),
    "CoOp": Method("CoOp", "N_CTX 16 TSC True"),
    "CoCoOp": Method("CoCoOp", "TSC True"),
    "ProGrad": Method("ProGrad", "N_CTX 16 LAMBDA 1.0 TSC True"),
    "KgCoOp": Method("KgCoOp", "W 8.0 TSC True"),
    "PLOT": Method("PLOT", "N 4 N_CTX 16 TSC True"),
    "SoftCPT*": Method("MTCoOp", "N_CTX 16 TASK_FEATURE rand"),
    "SoftCPT-NATA": Method("MTCoOp", "CLASS_N_CTX 0 TASK_N_CTX 4"),
    "SoftCPT-NATS": Method("MTCoOp", "CLASS_N_CTX 0 TASK_N_CTX 4 TASK_CSC True"),
    "SoftCPT-CATA": Method("MTCoOp", "CSC True CLASS_N_CTX 4 TASK_N_CTX 4"),
    "SoftCPT-CSTA": Method("MTCoOp", "CSC True CLASS_N_CTX 4 CLASS_CSC True TASK_N_CTX 4"),
    "SoftCPT-CATS": Method("MTCoOp", "CSC True CLASS_N_CTX 4 TASK_N_CTX 4 TASK_CSC True"),
    "SoftCPT-CSTS": Method("MTCoOp", "CSC True CLASS_N_CTX 4 CLASS_CSC True TASK_N_CTX 4 TASK_CSC True"),
}
VARIANTS = {  # other settings of the same methods
    "CoOp-CA, name in the middle": Method("MTCoOpHard", "N_CTX 16 TSC True TOKEN_POSITION middle"),
    "PLOT, N = 2": Method("PLOT", "N 2 N_CTX 16 TSC True"),
    "SoftCPT-NATA, M = 8": Method("MTCoOp", "CLASS_N_CTX 0 TASK_N_CTX 8"),
    "SoftCPT-NATA, mlp": Method("MTCoOp", "CLASS_N_CTX 0 TASK_N_CTX 4 PG_TYPE mlp"),
    "SoftCPT-NATA, transformer": Method("MTCoOp", "CLASS_N_CTX 0 TASK_N_CTX 4 PG_TYPE transformer"),
    "SoftCPT-CATA, class-sampled": Method("MTCoOp", "CSC True CLASS_N_CTX 4 CLS_SAMPLE_RATE 0.1"),
}
PROMPTED = {  # prompts in the image tower, for a ViT
    "VPT-shallow": Method("VPT", "N_CTX 4 DEEP False"),
    "VPT-deep": Method("VPT", "N_CTX 4 DEEP True"),
    "UPT": Method("UPT", "MODE upt"),
    "UPT, joint": Method("UPT", "MODE joint"),
    "MTUPT": Method("MTUPT", "SHARING soft"),
}
ALL = METHODS | VARIANTS | PROMPTED
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def build(method: Method, clip: CLIP, space: TaskSpace, device: str):
    """The trainer of a method on this model and these tasks, without data, with the published optimiser."""

    class Alone(method.cls):
        def check_cfg(self, cfg) -> None:
            """The model is there already, whatever the configuration calls it."""

        def build_model(self) -> None:
            self.build_on(clip, space)

        def build_evaluator(self) -> None:
            """Nothing is evaluated."""

    cfg = get_cfg_default()
    optimiser = ["OPTIM.NAME", "sgd", "OPTIM.LR", "0.002", "OPTIM.MAX_EPOCH", "50", "SEED", "1"]
    load(cfg, [], [*optimiser, "USE_CUDA", str(device != "cpu"), *method.pairs()])
    with redirect_stdout(None):
        return Alone(cfg, space)


class Batch:
    """B images of a suite's tasks: pixels and all outputs of the frozen image tower, the same for all methods."""

    def __init__(self, clip: CLIP, space: TaskSpace, size: int, device: str):
        torch.manual_seed(0)
        column = torch.randint(space.num_classes, (size,))
        self.task = space.task_of_column[column]
        self.label = column - torch.tensor(space.offsets)[self.task]
        resolution = clip.visual.input_resolution
        self.images = torch.randn(size, 3, resolution, resolution).to(device)
        self.tower = ImageTower(clip)
        features, local = self.encode("local")
        self.parts = {"": features, "local": local, "unprojected": self.encode("unprojected")}

    @torch.no_grad()
    def encode(self, part: str = ""):
        """A pass of the frozen image tower, as a step takes it when no features are given."""
        return self.tower(self.images, Additions(**({part: True} if part else {})))

    def of(self, trainer) -> dict:
        """What the trainer gets from its loader."""
        batch = {"label": self.label, "task": self.task}
        if not trainer.frozen:
            return {"img": self.images, **batch}
        return {"features": self.parts[trainer.part], **batch}


def samples(space: TaskSpace, shots: int, width: int, seed: int) -> list[Samples]:
    """`shots` features of every class, task by task: normally distributed around a mean for each class, with a norm of
    about 10, as CLIP's have. `seed`: of what differs from the means, which are always the same.
    """
    draw, found = torch.Generator().manual_seed(seed), []
    for count in space.sizes:
        labels = torch.arange(count).repeat_interleave(shots)
        means = torch.randn(count, width, generator=torch.Generator().manual_seed(count))
        features = means[labels] + torch.randn(len(labels), width, generator=draw)
        found.append(Samples(10 * F.normalize(features, dim=-1), labels))
    return found


def fitting(trainer: FittedTrainer, space: TaskSpace, shots: int, clock: Callable[[], float]) -> float:
    """Seconds that a fit of all tasks takes from `shots` features of every class and min(shots, 4) for validation."""
    width = trainer.text_tower.output_dim
    train, val = samples(space, shots, width, seed=1), samples(space, min(shots, 4), width, seed=2)
    begin = clock()
    with redirect_stdout(None), torch.no_grad():
        trainer.model.start(StartSamples({"train": train, "val": val}.__getitem__))
    return clock() - begin


def stepping(trainer, batch: Batch) -> Callable[[], dict]:
    """One training step of a trainer, as a function without arguments."""
    given = batch.of(trainer)
    return lambda: trainer.forward_backward(given)


def measure(names: Sequence[str], args) -> dict:
    """The result: for each method seconds of a step (or of the fit) and how many steps of CoOp that is."""
    clip, space, device = backbone(args.backbone, args.dtype, args.device), suite(args.suite, args.scale), args.device
    batch = Batch(clip, space, args.batch, device)
    built = {name: build(ALL[name], clip, space, device) for name in names}
    fitted = {name: trainer for name, trainer in built.items() if isinstance(trainer, FittedTrainer)}
    sides = {name: stepping(trainer, batch) for name, trainer in built.items() if name not in fitted}
    towers = {"images": batch.encode} | {part: partial(batch.encode, part) for part in ("local", "unprojected")}
    clock = CLOCKS[args.clock]
    seconds = alternate(sides | towers, args.repeat, torch.device(device), clock=clock)

    step, tower = seconds[REFERENCE], seconds["images"]
    rows = []
    for name, trainer in built.items():
        row = {"method": name, "trainer": ALL[name].trainer, "settings": ALL[name].settings}
        if name in fitted:
            fit = fitting(trainer, space, args.shots, clock)
            row |= {"fit_seconds": fit, "fit": fit / step}
        elif trainer.frozen:
            live = seconds[name] + seconds[trainer.part or "images"]
            row |= {"seconds": seconds[name], "relative": seconds[name] / step}
            row |= {"live_seconds": live, "live_relative": live / (step + tower)}
        else:
            row |= {"live_seconds": seconds[name], "live_relative": seconds[name] / (step + tower)}
        rows.append(row)
    if args.memory:
        found = peaks(sides, torch.device(device))
        for row in rows:
            row["memory_mib"] = found.get(row["method"])
    return settings("methods", args) | {
        "tasks": space.num_tasks,
        "classes": space.num_classes,
        "tasks_in_batch": len(batch.task.unique()),
        "image_seconds": tower,
        "rows": rows,
    }


def show(result: dict, as_json: bool) -> None:
    """Print the result as a table or as JSON."""
    head = ("", "ms a step", "relative", "ms with the image tower", "relative")
    rows, with_memory = [], "memory_mib" in result["rows"][0]
    for row in result["rows"]:
        if "fit" in row:
            cells = [f"{1e3 * row['fit_seconds']:,.0f} in all", f"{row['fit']:.1f} in all", "", ""]
        else:
            cells = ["", ""] if "seconds" not in row else [1e3 * row["seconds"], f"{row['relative']:.2f}"]
            cells += [1e3 * row["live_seconds"], f"{row['live_relative']:.2f}"]
        rows.append((row["method"], *cells, *([row.get("memory_mib") or ""] if with_memory else [])))
    notes = [
        f"of these the image tower: {1e3 * result['image_seconds']:,.0f} ms",
        f"{result['tasks_in_batch']} of {result['tasks']} tasks are in the batch",
    ]
    if result["clock"] == "processor":
        notes.insert(0, "times of the processor: the sum over threads, without waiting for other programs")
    title = f"a training step, batch {result['batch']}: {result['suite']}, {result['classes']} classes"
    report(result, title, rows, notes, as_json, (*head, "peak MiB") if with_memory else head)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__.splitlines()[0], n_ctx=0)
    parser.add_argument("--batch", type=positive, default=32, help="B, images of a step")
    parser.add_argument(
        "--shots", type=positive, default=16, help="training images of a class for linear probe and ProtoNet"
    )
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="processor: the time of the program's own threads, for a processor that does other things as well",
    )
    parser.add_argument("--methods", nargs="+", choices=ALL, metavar="METHOD", help=f"some of: {'; '.join(ALL)}")
    parser.add_argument("--memory", action="store_true", help="measure memory as well")
    args = parser.parse_args(argv)

    if args.clock == "processor" and args.device != "cpu":
        raise UserError(f"--clock processor measures no work on {args.device}; use it with --device cpu")
    vit = image_tower_kind(args.backbone) == "ViT"
    names = args.methods or [name for name in ALL if vit or name not in PROMPTED]
    if not vit and (wrong := [name for name in names if name in PROMPTED]):
        raise UserError(f"{wrong[0]} puts prompts into a ViT's image tower, and {args.backbone} has none; try ViT-B/16")
    show(measure([name for name in ALL if name in {REFERENCE, *names}], args), args.json)


if __name__ == "__main__":
    start(main)
