"""Helpers of the analyses: open a finished run, compute image features, print notes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dassl.config import method_name
from dassl.data.data_manager import build_data_loader
from dassl.data.tasks import TaskSpace
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.engine.progress import progress
from dassl.runs.open import load_trainer, read_setup
from dassl.utils import UserError
from dassl.utils.arguments import Parser
from reporting.experiments import Experiment


def run_parser(analysis: str, about: str, run: str, figure: str = "", data: bool = False) -> Parser:
    """A parser with the arguments of analyses of one run: RUN, --load-epoch, --root (only with `data`) and --out.

    Args:
        analysis: name of its module; `about`: the docstring of the module.
        run: which runs the analysis is for.
        figure: name of the figure; default: that of the module.
    """
    parser = Parser(prog=f"python -m analysis.{analysis}", description=about.split("\n\n")[0])
    parser.add_argument("run", metavar="RUN", help=run)
    parser.add_argument(
        "--load-epoch", metavar="N", type=int, help="epoch of the checkpoint; default: the best or newest"
    )
    if data:
        parser.add_argument("--root", metavar="DIR", default="", help="folder of the datasets; default: the run's")
    parser.add_argument("--out", metavar="NAME", help=f"figure to write; default: RUN/figures/{figure or analysis}")
    return parser


def open_run(
    folder: str | os.PathLike,
    epoch: int | None = None,
    data: bool = False,
    root: str = "",
    check: Callable[[object, type, TaskSpace], None] | None = None,
) -> TrainerX:
    """Load the trainer of the run in `folder` with its learned weights. Nothing is written.

    Args:
        epoch: which checkpoint; None for the best on validation, else the newest.
        data: build the loaders of the run; otherwise the trainer knows the tasks and has no images.
        root: folder of the datasets instead of the recorded one.
        check: callable(cfg, trainer class, tasks) that refuses runs before slow steps begin; without it, runs of
            methods that learn nothing are refused.

    Raises:
        FileNotFoundError: no such checkpoint or, with `data`, dataset.
        UserError: the folder is not one of a run, or the run is refused.
    """
    import datasets  # noqa: F401  registers the datasets
    import trainers  # noqa: F401  registers the methods

    with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
        cfg, space = read_setup(os.fspath(folder), epoch)
        trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
        if check is not None:
            check(cfg, trainer, space)
        elif not trainer.learns:
            raise UserError(f"{folder} is a run of {method_name(cfg)}, which learns nothing and has no context")
        if root:
            cfg.DATASET.ROOT = root
        cfg.freeze()
        return load_trainer(os.fspath(folder), cfg, None if data else space, epoch)


@torch.no_grad()
def features_of(trainer, items: Sequence, what: str) -> tuple[Tensor, Tensor, Tensor]:
    """Features and logits of the images `items`, M DatumMT.

    Returns:
        normalised features (M, d) of the frozen tower, normalised features (M, d) as the run's method sees the images,
        and the method's logits (M, N); all in fp32 on the CPU.
    """
    cfg, dataset = trainer.cfg, trainer.dm.dataset
    found = []
    with contextlib.redirect_stdout(sys.stderr):
        loader = build_data_loader(
            cfg,
            data_source=items,
            batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=build_transform(cfg, is_train=False),
            is_train=False,
            image_root=getattr(dataset, "image_root", "") or cfg.DATASET.ROOT,
            tasks=[f"{task.id} ({task.key})" for task in trainer.space.tasks],
        )
        if trainer.frozen and cfg.DATALOADER.FEATURE_CACHE:
            loader = trainer.from_features(loader, what)
        for batch in progress(loader, what):
            images, features, task = batch.get("img"), batch.get("features"), batch["task"].to(trainer.device)
            frozen = trainer.frozen_features(images) if features is None else features.to(trainer.device)
            known = frozen if trainer.frozen else None
            own = trainer.encode_images(images, task, known)
            own = own[0] if isinstance(own, tuple) else own  # of several features the one of [CLS]
            logits = trainer.model_inference(images, task, known)
            found.append([part.float().cpu() for part in (trainer.joint_features(frozen), own, logits)])
    frozen, own, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
    return torch.nn.functional.normalize(frozen, dim=-1), torch.nn.functional.normalize(own, dim=-1), logits


def print_notes(experiments: Sequence[Experiment]) -> None:
    """Print the notes of the experiments, e.g. seeds without a result."""
    for experiment in experiments:
        for note in experiment.notes():
            print(f"note: {experiment.label}: {note}")
