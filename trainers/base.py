"""Training step, test and construction shared by all methods on a frozen CLIP.

A training step is `forward_backward`, which calls `step` (towers, text, logits) and `loss`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from clip.additions import Additions, TowerAdditions
from clip.backbones import check_name, effective_precision, image_tower_kind, input_size, load_backbone
from clip.image_tower import ImageTower, prompt_error, size_error
from clip.model import CLIP
from clip.text_tower import TextTower
from dassl.config import ConfigError
from dassl.data.tasks import TaskSpace
from dassl.engine import TrainerX
from dassl.evaluation import EVALUATOR_REGISTRY, ClassificationMT
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.runs.compare import refuse_other_model
from dassl.runs.record import read_tasks
from dassl.utils import UserError, count_num_param, load_pretrained_weights
from features.loader import FeatureLoader, keep_limit, store_for, too_large, why_not

from .learner import Learner
from .losses import multitask_cross_entropy, present_columns
from .rows import class_owners
from .samples import StartSamples, read_samples
from .zero_shot import ZeroShotCheck


@dataclass
class Step:
    """The values of one training step, which `loss` reads.

    Attributes:
        columns: (N',) the classes of the step, sorted.
        task, target: (B,) task of each image, and position of its class in `columns`.
        image: (B, d) image features after the learner's `image`.
        text: (N', d) text features.
        logits: (B, N').
        numbers: {name: number} to log and to print beside loss and accuracy.
        frozen: (B, d) features of the frozen image tower for the same views; computed at the first access.
    """

    columns: Tensor
    task: Tensor
    target: Tensor
    image: Tensor
    text: Tensor | None
    logits: Tensor
    numbers: dict[str, float]
    _frozen: Callable[[], Tensor] = field(repr=False)

    @cached_property
    def frozen(self) -> Tensor:
        return self._frozen()


class MultiTaskTrainer(TrainerX):
    """Train a `Learner` on all tasks at once.

    A method defines `section` and `build_learner` and, if needed, `problems`, `training_columns` and `loss`. The towers
    are never trained. Checkpoints contain the learner only: `prompt_learner/model.pth.tar-<epoch>`.
    """

    section = ""  # cfg.TRAINER.<section> holds the method's settings, PREC among them
    ignored_settings = ()  # prefixes of settings that most methods read and this method ignores
    learns = True  # False: nothing is trained, and the method is tested without a checkpoint
    fitted = False  # True: the learner's `start` computes all that is learned, see FittedTrainer
    reads_weights = True  # False (dry run): `check_cfg` does not read weight files
    zero_shot: ZeroShotCheck | None = None  # compares a test with zero-shot CLIP

    # ---- the parts that a method defines

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> Learner:
        """Build the module that is learned, from plain values of `cfg`. `tower.clip` has the image tower."""
        raise TypeError(f"{cls.__name__} has no build_learner")

    def problems(self, cfg) -> list[str]:
        """List contradictions among the method's settings, one text each."""
        return []

    def load_critical_settings(self, c) -> dict[str, object]:
        """Settings of the section `c` that a checkpoint's shapes do not reveal, such as the number of heads.

        Loading a model is refused if one of them differs from its value in training.
        """
        return {}

    def training_columns(self, task: Tensor, label: Tensor) -> Tensor:
        """Sorted columns (N',) of a step with tasks (B,) and labels (B,): all classes of the tasks in the batch."""
        return present_columns(self.space, task)

    def loss(self, step: Step) -> Tensor | tuple[Tensor, dict[str, float]]:
        """The loss of a step, a scalar; or (loss, {name: number to log})."""
        return self.classification_loss(step.logits, step.columns, step.task, step.target)

    def classification_loss(self, logits: Tensor, columns: Tensor, task: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits (B, N') over `columns` (N',); each image is classified within its task."""
        smoothing = self.cfg.TRAINER.LABEL_SMOOTHING
        return multitask_cross_entropy(logits, self.task_of_column[columns], task, target, smoothing)

    def gradients(self, loss: Tensor, step: Step) -> None:
        """Compute the gradients of `loss`. Methods that change gradients (ProGrad) override it."""
        self.model_backward(loss)

    # ---- a training step

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """Run one training step on a batch, including the optimiser. Returns the numbers to print and log."""
        step = self.step(batch)
        loss, numbers = _with_numbers(self.loss(step))
        step.numbers.update(numbers)
        if reserved := {"loss", "acc"} & step.numbers.keys():
            raise ValueError(f"{type(self).__name__} logs a number called {min(reserved)!r}: choose another name")
        self.model_zero_grad()
        self.gradients(loss, step)
        self.model_update()  # each optimiser once
        self._prepared = None  # cached text features for tests are outdated
        if self.cfg.OPTIM.LR_PER == "step" or self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        own = self.task_of_column[step.columns] == step.task[:, None]
        right = step.logits.masked_fill(~own, float("-inf")).argmax(-1) == step.target
        return {"loss": loss.item(), "acc": 100 * right.float().mean().item(), **step.numbers}

    def step(self, batch: dict) -> Step:
        """Compute a training step up to the logits.

        `batch` contains task (B,), label (B,) within the task, and img (B, 3, H, W) or the frozen tower's features of
        the views.
        """
        images, features, label, task = self._parse(batch)
        columns = self.training_columns(task, label).to(self.device)  # (N',)
        target = torch.searchsorted(columns, self.space.column(task, label))  # (B,)
        added = self.model.additions()
        with self.autocast():
            image = self.model.image(self._encode(images, features, added.image, task), task)  # (B, d)
            text = self.model.text(columns, added.text)  # (N', d)
        logits, numbers = _with_numbers(self.model.logits(image, text, columns, task))  # (B, N')

        def frozen() -> Tensor:
            return features if features is not None else self.frozen_features(images)

        return Step(columns, task, target, image, text, logits, dict(numbers), frozen)

    def _parse(self, batch: dict) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor]:
        """(images (B, 3, H, W) or None, frozen features or None, label (B,), task (B,)) on the device."""
        parts = (batch.get(key) for key in ("img", "features", "label", "task"))
        return tuple(None if part is None else part.to(self.device) for part in parts)

    def _encode(self, images: Tensor | None, features: Tensor | None, added: Additions | None, task: Tensor | None):
        """Output of the image tower with the additions: (B, d), or the tuple of the tower if more is requested."""
        if self.frozen:
            return features if features is not None else self.frozen_features(images)
        if images is None:
            raise ValueError(f"{type(self).__name__} changes the image tower: expected images, found features")
        return self.image_tower(images.to(self.device), (added or Additions()).take(task))

    def frozen_features(self, images: Tensor, local: bool | None = None) -> Tensor:
        """Features of the frozen image tower for images (B, 3, H, W): (B, d), or local features (B, P, d).

        `local`: which of the two; default the ones that the method requests.
        """
        local = self.local if local is None else local
        with torch.no_grad(), self.autocast():
            found = self.image_tower(images.to(self.device), Additions(local=local))
        return found[1] if local else found

    def autocast(self):
        """Context manager: matrix products in fp16 if PREC is amp; otherwise without effect."""
        return self.text_tower.autocast()

    # ---- a test

    @torch.no_grad()
    def _ready(self) -> tuple[TowerAdditions, Tensor | None]:
        """Additions and text features (N, d) of all classes, cached until the learner changes."""
        if self._prepared is None:
            training = self.model.training
            self.model.eval()
            added = self.model.additions()
            with self.autocast():
                self._prepared = added, self.model.text(self.all_columns, added.text)
            self.model.train(training)
        return self._prepared

    def additions(self) -> TowerAdditions:
        """Additions of the method to the towers in a test."""
        return self._ready()[0]

    def text_features(self) -> Tensor:
        """Text features of all classes (N, d). Raises UserError if the method's text features depend on the image."""
        if (text := self._ready()[1]) is None:
            raise UserError(f"{type(self).__name__} has no fixed text features of classes: they depend on the image")
        return text

    @property
    def compares_features(self) -> bool:
        """Whether the method compares one text feature per class with one feature per image."""
        text = self._ready()[1]
        return text is not None and text.ndim == 2 and not self.local

    @property
    def by_task(self) -> bool:
        """Whether the features of an image depend on its task."""
        added = self._ready()[0].image
        return self.model.by_task or (added is not None and added.sets > 1)

    @torch.no_grad()
    def encode_images(self, images: Tensor, task: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """Image features (B, d) for the comparison with text features, of images (B, 3, H, W) with their tasks (B,).

        `features`: the frozen tower's features of the images, if known. Raises UserError if image features depend on
        the task and no task is given.
        """
        if task is None and self.by_task:
            raise UserError(
                f"{type(self).__name__}: every task has its own image features; give the task of each image"
            )
        with self.autocast():
            return self.model.image(self._encode(images, features, self._ready()[0].image, task), task)

    @torch.no_grad()
    def model_inference(
        self, images: Tensor | None, task: Tensor | None = None, features: Tensor | None = None
    ) -> Tensor:
        """Logits (B, N) of images (B, 3, H, W), or of their frozen `features`, over the classes of all tasks.

        With the `task` (B,) of each image, logits of other tasks' classes may be -inf, so that they are never
        predicted. Without `task`, each class is compared with the image features of the class's task.
        """
        text = self._ready()[1]

        def logits(columns: Tensor, task: Tensor | None) -> Tensor:
            image = self.encode_images(images, task, features)
            own = text if text is None or columns is self.all_columns else text[columns]
            return _with_numbers(self.model.logits(image, own, columns, task))[0]

        if not self.by_task:
            return logits(self.all_columns, task)
        if task is not None:
            return logits(self.all_columns, task).masked_fill(~self.space.mask(task), float("-inf"))
        count = len(features if images is None else images)
        spans = [self.all_columns[self.space.columns(t)] for t in range(self.space.num_tasks)]
        tasks = [torch.full((count,), t, device=self.device) for t in range(self.space.num_tasks)]
        return torch.cat([logits(*pair) for pair in zip(spans, tasks, strict=True)], 1)

    def test_batch(self, batch: dict) -> tuple[Tensor, list[Tensor]]:
        """Return (logits (B, N), [labels (B,)]) of a batch; also evaluates zero-shot CLIP if it is compared."""
        images, features, label, task = self._parse(batch)
        if self.frozen and features is None:
            features = self.frozen_features(images)
        if self.zero_shot is not None:
            self.zero_shot.process(features, label, task)
        return self.model_inference(images, task, features), [label]

    def test(self, split: str | None = None) -> float:
        if self.cfg.DATALOADER.FEATURE_CACHE and self.frozen:
            name = f"{split or self.cfg.TEST.SPLIT}_loader"
            setattr(self, name, self.from_features(getattr(self, name), f"{name[:-7]} images"))
        if split or not self._compared():
            return super().test(split)
        try:
            more_images = getattr(self.dm.dataset, "more_images", self.cfg.DATASET.NUM_SHOTS > 0)
            self.zero_shot = ZeroShotCheck(self.cfg, self.clip, self.text_tower, self.space, more_images)
        except (FileNotFoundError, UserError) as error:  # in hand-made prompts, which the method itself may not need
            print(f"WARNING: not compared with zero-shot CLIP: {error}")
            return super().test(split)
        try:
            result = super().test(split)
            self.run_extra["zero_shot"] = self.zero_shot.compare(self.evaluator.report)
        finally:
            self.zero_shot = None
        return result

    def _compared(self) -> bool:
        """Whether to compare with zero-shot CLIP: only trained models on the frozen tower's own features."""
        trained = self.learns and self.epochs_done > 0
        own = self.frozen and not self.local and isinstance(self.evaluator, ClassificationMT)
        return trained and own and self.cfg.TEST.ZERO_SHOT_CHECK

    # ---- building

    def check_cfg(self, cfg) -> None:
        check_name(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS)
        if "PREC" not in cfg.TRAINER.get(self.section, {}):
            raise ConfigError(
                f"{type(self).__name__} has no setting TRAINER.{self.section}.PREC: declare it in the method's file, "
                f'declare_shared("{self.section}", PREC="fp16")'
            )
        found = self.problems(cfg)
        if cfg.DATALOADER.K_TRANSFORMS != 1:
            found.append(
                f"DATALOADER.K_TRANSFORMS {cfg.DATALOADER.K_TRANSFORMS}: {type(self).__name__} takes one view per image"
            )
        size = None if cfg.MODEL.BACKBONE.WEIGHTS else input_size(cfg.MODEL.BACKBONE.NAME)
        if size and tuple(cfg.INPUT.SIZE) != (size, size):
            found.append(size_error(cfg.MODEL.BACKBONE.NAME, size, tuple(cfg.INPUT.SIZE)))
        if found:
            raise ConfigError("\n".join(found))

    def image_problems(self, cfg) -> list[str]:
        """Problems of a method that adds to the image tower: a backbone without additions, or the feature bank."""
        found = [self._bank_problem()] if cfg.DATALOADER.FEATURE_BANK else []
        name, weights = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS
        if not self.reads_weights and (weights or os.path.isfile(name)):
            return found
        kind = image_tower_kind(name, weights)
        return found if kind == "ViT" else [*found, prompt_error(name, kind)]

    def _bank_problem(self) -> str:
        return (
            f"DATALOADER.FEATURE_BANK True: {type(self).__name__} needs the images themselves, not features of the "
            "frozen tower; set it to False"
        )

    def build_model(self) -> None:
        cfg = self.cfg
        precision, line = effective_precision(cfg.TRAINER[self.section].PREC, self.device)
        if line:
            print(line)
        name, weights = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS
        print(f"Loading CLIP (backbone: {name}{', weights: ' + weights if weights else ''}, precision: {precision})")
        clip = load_backbone(name, weights=weights, precision=precision, device=self.device)
        self._check_images(clip)
        self.run_extra = {"backbone": name, "precision": precision, "hashes": {"weights": clip.weights_hash}}
        self.build_on(clip, self.dm.space)

    def build_on(self, clip: CLIP, space: TaskSpace) -> None:
        """Build all parts of the method from a loaded CLIP (on `self.device`) and the tasks of `space`."""
        cfg = self.cfg
        self.clip, self.space, self._prepared, self._initialised = clip, space, None, False
        self.image_tower = ImageTower(clip, checkpoint=cfg.MODEL.IMAGE_CHECKPOINT)
        self.text_tower = TextTower(clip, cfg.MODEL.TEXT_CHUNK)
        self.scale = clip.logit_scale.exp()
        self.task_of_column = space.task_of_column.to(self.device)
        self.all_columns = torch.arange(space.num_classes, device=self.device)
        self.model = self.build_learner(cfg, self.text_tower, space).to(self.device)
        towers = {id(parameter) for parameter in clip.parameters()}
        if shared := [name for name, parameter in self.model.named_parameters() if id(parameter) in towers]:
            raise UserError(
                f"The learner of {type(self).__name__} holds {shared[0]}, a weight of the frozen CLIP: keep a tower in "
                "an object that is not a module, such as ImageTower(tower.clip), or copy the weight"
            )
        self._settle_additions()
        if cfg.DATALOADER.FEATURE_BANK and not self.frozen:
            raise ConfigError(self._bank_problem())
        if self.learns:
            self.register_learner()

    def _settle_additions(self) -> None:
        """Find out what the learner adds to the towers, and so whether frozen image features serve."""
        with torch.no_grad():
            text, image = (part or Additions() for part in self.model.additions())
        for tower, part in (("text", text), ("image", image)):
            if part.sets not in (1, self.space.num_tasks):
                raise UserError(
                    f"{type(self).__name__} adds {part.sets} sets to the {tower} tower: expected one set for all "
                    f"tasks, or one for each of the {self.space.num_tasks} tasks"
                )
        self.image_tower.check(image)
        self.frozen, self.local = not image.alters, image.local

    def register_learner(self) -> None:
        """Register the learner, with optimiser and schedule if it has parameters to train by gradients."""
        cfg = self.cfg
        groups = []
        for group in self.model.parameter_groups():
            params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
            groups.append({**group, "params": [parameter for parameter in params if parameter.requires_grad]})
        groups = [group for group in groups if group["params"]]
        if self.fitted or not groups:
            if cfg.MODEL.INIT_WEIGHTS and not self.fitted:
                raise ConfigError(
                    f"MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS}: {type(self).__name__} trains nothing by gradients; "
                    "leave it empty"
                )
            self.max_epoch = self.run_extra["epochs"] = 1
            self.register_model("classifier", self.model)
            return
        if cfg.MODEL.INIT_WEIGHTS:
            self._initialised = load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        print(f"Learnable parameters: {count_num_param(params=[p for group in groups for p in group['params']]):,}")
        for group in groups:
            if (factor := group.pop("lr_scale", None)) is not None:
                group["lr"] = factor * cfg.OPTIM.LR
        self.optim = build_optimizer(groups, cfg.OPTIM)
        batches = len(getattr(self, "train_loader_x", None) or ())
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM, batches)
        self.register_model("prompt_learner", self.model, self.optim, self.sched)
        self.scaler = torch.amp.GradScaler("cuda") if self.clip.precision == "amp" else None

    def build_evaluator(self):
        """Build the per-task evaluator, unless the configuration selects another one."""
        name = self.cfg.TEST.EVALUATOR
        name = "ClassificationMT" if name == "Classification" else name
        return EVALUATOR_REGISTRY.get(name)(self.cfg, lab2cname=self.lab2cname, space=self.space)

    def _check_images(self, clip: CLIP) -> None:
        cfg, size = self.cfg, clip.visual.input_resolution
        if tuple(cfg.INPUT.SIZE) != (size, size):
            raise ConfigError(size_error(clip.name, size, tuple(cfg.INPUT.SIZE)))
        for key, want in (("PIXEL_MEAN", clip.image_mean), ("PIXEL_STD", clip.image_std)):
            if max(abs(a - b) for a, b in zip(cfg.INPUT[key], want, strict=True)) > 1e-3:
                print(f"WARNING: INPUT.{key} is {list(cfg.INPUT[key])}, {clip.name} was trained with {list(want)}")

    def _load_weights(self, name, state_dict, source) -> None:
        self._prepared = None
        super()._load_weights(name, state_dict, source)

    def load_model(self, directory, epoch=None) -> None:
        """Load the learner of the run in `directory`.

        Raises UserError if the run recorded another CLIP or other `load_critical_settings`.
        """
        if directory:
            refuse_other_model(directory, self.cfg, self.section, self.clip.weights_hash, self.load_critical_settings)
        super().load_model(directory, epoch)
        if directory and (tasks := read_tasks(directory)) is not None:
            trained = set(class_owners(TaskSpace.from_plain(tasks)))
            self.model.known = torch.tensor([owner in trained for owner in class_owners(self.space)]).to(self.device)

    # ---- the start of a learner

    @property
    def _by_gradients(self) -> bool:
        return "prompt_learner" in self._models

    def before_train(self) -> None:
        super().before_train()
        if not self._by_gradients:
            if self.bar is not None:  # it counts batches
                self.bar.close()
                self.bar = None
            return
        if self.cfg.DATALOADER.FEATURE_BANK:
            epochs = range(self.start_epoch, self.max_epoch)
            self.train_loader_x = self.from_features(self.train_loader_x, "training views", epochs)
        if self.model.starts and not self.start_epoch and not self._initialised:
            self._start()
            self._settle_additions()
        if self.start_epoch < self.max_epoch:
            self.model.known.fill_(True)

    def run_epoch(self) -> None:
        """Run one epoch of steps. For a method without steps, the only epoch is the learner's start."""
        if self._by_gradients:
            super().run_epoch()
        else:
            self._start()

    @torch.no_grad()
    def _start(self) -> None:
        self.model.start(StartSamples(lambda split: read_samples(self, split)))
        self._prepared = None

    def from_features(self, loader, what: str, epochs: range | None = None, local: bool | None = None):
        """Wrap `loader` so that it yields frozen features in place of images.

        Returns `loader` unchanged if it cannot be wrapped or already is.
        """
        if loader is None or isinstance(loader, FeatureLoader):
            return loader
        if reason := why_not(loader):
            if epochs is not None:
                print(f"DATALOADER.FEATURE_BANK is not used: {reason}")
            return loader
        local = self.local if local is None else local
        encode = partial(self.frozen_features, local=local)
        view_bytes = 4 * encode(torch.zeros(1, 3, *self.cfg.INPUT.SIZE)).numel()  # kept in fp32
        if reason := too_large(loader, epochs, view_bytes, self.cfg):
            print(f"DATALOADER.FEATURE_{'CACHE' if epochs is None else 'BANK'} is not used: {reason}")
            return loader
        store = store_for(loader, self.cfg, self.clip, self.device, local)
        loader = FeatureLoader(loader, store, epochs, encode, what, view_bytes)
        keep_limit(self.cfg)
        return loader


class FittedTrainer(MultiTaskTrainer):
    """A method whose `start` computes everything, from one pass over the training images without augmentation.

    The method has one epoch, after which the checkpoint `classifier/model.pth.tar-1` is written. OPTIM.* and the
    feature bank are not used. The features come from the feature cache, so all shots, seeds and methods share them.
    """

    ignored_settings = ("OPTIM.", "DATALOADER.TRAIN_X.")
    fitted = True

    def problems(self, cfg) -> list[str]:
        if cfg.MODEL.INIT_WEIGHTS:
            name = type(self).__name__
            return [f"MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS}: {name} does not start from weights; leave it empty"]
        return []


def _with_numbers(found) -> tuple[Tensor, dict[str, float]]:
    """Return (value, {name: number to log}) for a hook that returned the value only, or both."""
    value, numbers = found if isinstance(found, tuple) else (found, None)
    return value, numbers or {}
