"""What all methods on a frozen CLIP share: towers, columns of a step, loss, evaluation with text features made once."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from clip.backbones import PRECISIONS, check_name, effective_precision, image_tower_kind, input_size, load_backbone
from clip.image_tower import ImageTower, prompt_error, size_error
from clip.model import CLIP
from clip.text_tower import TextTower
from dassl.config import ConfigError
from dassl.data.tasks import TaskSpace
from dassl.engine import TrainerX
from dassl.evaluation import EVALUATOR_REGISTRY, ClassificationMT
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.runs.compare import refuse_other_model
from dassl.utils import UserError, count_num_param, load_pretrained_weights
from features.loader import FeatureLoader, keep_limit, store_for, too_large, why_not

from .losses import cosine_logits, multitask_cross_entropy, present_columns
from .zero_shot import ZeroShotCheck

__all__ = ["PRECISIONS", "PRECISION_HELP", "MultiTaskTrainer"]

PRECISION_HELP = (
    "of the frozen towers; prompts are always fp32. fp16 and amp need CUDA (on a CPU: fp32), bf16 works anywhere"
)


class MultiTaskTrainer(TrainerX):
    """A method is its difference to this class: `section`, `build_learner`; `problems`, `training_columns`, `loss` or
    `step`.

    The learner is a module that holds what is learned and nothing else; `learner(select (N',)) -> (N', d)` are the text
    features of the classes in the columns `select`. The towers never train. One file a run holds the learner:
    `prompt_learner/model.pth.tar-<epoch>`.
    """

    section = ""  # cfg.TRAINER.<section> holds the method's settings, PREC among them
    unread = ()  # beginnings of settings that most methods read and this one does not
    learns = True  # False: nothing to train, the method can be evaluated without a model
    frozen_features = True  # False: the method needs more than the frozen tower's output, so no cache serves
    local_features = False  # True: `features` are the image tower's local tokens (B, P, d), one for each patch
    vit_only = False  # True: the method puts prompts into the image tower, which has to be a ViT
    zero_shot: ZeroShotCheck | None = None  # sees the features of a test's images

    # ---- what a method gives

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> nn.Module:
        """The module that is learned."""
        raise TypeError(f"{cls.__name__} gives no build_learner")

    def problems(self, cfg) -> list[str]:
        """Settings of the method that contradict each other, one text each."""
        return []

    def meaning(self, c) -> dict[str, object]:
        """Settings of the section `c` that decide what learned tensors do without changing name or shape of any, {name:
        value}: learned with another value a model would load, and be another function.
        """
        return {}

    def training_columns(self, task: Tensor, label: Tensor) -> Tensor:
        """Sorted columns (N',) that a step with tasks (B,) and labels (B,) computes: all those of the tasks present."""
        return present_columns(self.space, task)

    def loss(self, logits: Tensor, columns: Tensor, task: Tensor, target: Tensor) -> Tensor:
        """Scalar from logits (B, N') over `columns` (N',), task (B,) and the position of each label among them (B,)."""
        smoothing = self.cfg.TRAINER.LABEL_SMOOTHING
        return multitask_cross_entropy(logits, self.task_of_column[columns], task, target, smoothing)

    def step(self, features: Tensor, columns: Tensor, task: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(scalar loss, logits (B, N')) of a training step from the images' frozen features (B, d), or without
        `frozen_features` the images (B, 3, H, W); the rest as in `loss`.

        To be overridden where text features depend on the image (with `model_inference`), or the loss reads more than
        the logits.
        """
        with self.autocast():
            text = self.model(columns)  # (N', d)
        logits = cosine_logits(features, text, self.scale)
        return self.loss(logits, columns, task, target), logits

    # ---- what the engine calls

    def check_cfg(self, cfg) -> None:
        check_name(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS)
        found = self.problems(cfg)
        if cfg.DATALOADER.K_TRANSFORMS != 1:
            found.append(
                f"DATALOADER.K_TRANSFORMS {cfg.DATALOADER.K_TRANSFORMS}: {type(self).__name__} takes one view an image"
            )
        if cfg.DATALOADER.FEATURE_BANK and not self.frozen_features:
            found.append(
                f"DATALOADER.FEATURE_BANK True: {type(self).__name__} needs the images themselves, not features of the "
                "frozen tower; set it to False"
            )
        if self.vit_only:
            kind = image_tower_kind(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS)
            found += [] if kind == "ViT" else [prompt_error(cfg.MODEL.BACKBONE.NAME, kind)]
        size = None if cfg.MODEL.BACKBONE.WEIGHTS else input_size(cfg.MODEL.BACKBONE.NAME)
        if size and tuple(cfg.INPUT.SIZE) != (size, size):
            found.append(size_error(cfg.MODEL.BACKBONE.NAME, size, tuple(cfg.INPUT.SIZE)))
        if found:
            raise ConfigError("\n".join(found))

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
        self.build_on(clip, self.dm.space, precision)

    def build_on(self, clip: CLIP, space: TaskSpace, precision: str = "fp32") -> None:
        """Everything the method needs, from a loaded CLIP (on `self.device`) and the tasks of `space`."""
        cfg = self.cfg
        self.clip, self.space, self.precision, self._text = clip, space, precision, None
        self.image_tower, self.text_tower = ImageTower(clip), TextTower(clip, cfg.MODEL.TEXT_CHUNK)
        self.scale = clip.logit_scale.exp()
        self.task_of_column = space.task_of_column.to(self.device)
        self.all_columns = torch.arange(space.num_classes, device=self.device)
        self.model = self.build_learner(cfg, self.text_tower, space).to(self.device)
        if self.learns:
            self.register_learner()

    def register_learner(self) -> None:
        """Register `self.model`, with its optimiser and schedule."""
        cfg = self.cfg
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        print(f"Learnable parameters: {count_num_param(params=learned):,}")
        self.optim = build_optimizer(learned, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model, self.optim, self.sched)
        self.scaler = torch.amp.GradScaler("cuda") if self.precision == "amp" else None

    def build_evaluator(self):
        """Per-task evaluation whatever the suite, unless the configuration names an evaluator of its own."""
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

    def autocast(self):
        """fp16 matrix products of an fp32 tower under PREC amp, nothing otherwise."""
        return torch.autocast(self.device.type, torch.float16) if self.precision == "amp" else nullcontext()

    def encode_images(self, images: Tensor) -> Tensor:
        """Frozen image features (B, d), or local ones (B, P, d), of images (B, 3, H, W); features out of the cache stay
        what they are.
        """
        features = images if images.ndim < 4 else self._encode(images.to(self.device))
        if self.zero_shot is not None:
            self.zero_shot.see(features)
        return features

    def _encode(self, images: Tensor) -> Tensor:
        with torch.no_grad(), self.autocast():
            return self.image_tower(images, local=True)[1] if self.local_features else self.image_tower(images)

    def before_train(self) -> None:
        super().before_train()
        if self.learns and self.cfg.DATALOADER.FEATURE_BANK:
            self.train_loader_x = self.from_features(
                self.train_loader_x, "training views", range(self.start_epoch, self.max_epoch)
            )

    def test(self, split: str | None = None) -> float:
        if self.cfg.DATALOADER.FEATURE_CACHE and self.frozen_features:
            name = f"{split or self.cfg.TEST.SPLIT}_loader"
            setattr(self, name, self.from_features(getattr(self, name), f"{name[:-7]} images"))
        if split or not self._compared():
            return super().test(split)
        try:
            more_images = getattr(self.dm.dataset, "more_images", self.cfg.DATASET.NUM_SHOTS > 0)
            self.zero_shot = ZeroShotCheck(self.cfg, self.clip, self.text_tower, self.space, more_images)
        except (FileNotFoundError, UserError) as error:  # of hand-made prompts, which the method itself may not need
            print(f"WARNING: not compared with zero-shot CLIP: {error}")
            return super().test(split)
        try:
            result = super().test(split)
            self.run_extra["zero_shot"] = self.zero_shot.compare(self.evaluator.report)
        finally:
            self.zero_shot = None
        return result

    def _compared(self) -> bool:
        """Whether a test is compared with zero-shot CLIP: that of a learned model, on the tower's own features."""
        trained = self.learns and self.epochs_done > 0
        own = self.frozen_features and not self.local_features and isinstance(self.evaluator, ClassificationMT)
        return trained and own and self.cfg.TEST.ZERO_SHOT_CHECK

    def parse_batch_test(self, batch: dict) -> tuple[Tensor, Tensor]:
        """img (B, 3, H, W), label (B,) within the task, on the device."""
        if self.zero_shot is not None:
            self.zero_shot.expect(batch["label"], batch["task"])
        return super().parse_batch_test(batch)

    def from_features(self, loader, what: str, epochs: range | None = None):
        """`loader` with features in place of images; itself where that cannot be, or has been done."""
        if loader is None or isinstance(loader, FeatureLoader):
            return loader
        if reason := why_not(loader):
            if epochs is not None:
                print(f"DATALOADER.FEATURE_BANK is not used: {reason}")
            return loader
        view_bytes = 4 * self.encode_images(torch.zeros(1, 3, *self.cfg.INPUT.SIZE)).numel()  # kept in fp32
        if reason := too_large(loader, epochs, view_bytes, self.cfg):
            print(f"DATALOADER.FEATURE_{'CACHE' if epochs is None else 'BANK'} is not used: {reason}")
            return loader
        store = store_for(loader, self.cfg, self.clip, self.device, self.local_features)
        loader = FeatureLoader(loader, store, epochs, self.encode_images, what, view_bytes)
        keep_limit(self.cfg)
        return loader

    def forward_backward(self, batch: dict) -> dict[str, float]:
        image, label, task = self.parse_batch_train(batch)
        columns = self.training_columns(task, label).to(self.device)
        target = torch.searchsorted(columns, self.space.column(task, label))
        seen = self.encode_images(image) if self.frozen_features else image
        loss, logits = self.step(seen, columns, task, target)
        self._text = None
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        own = self.task_of_column[columns] == task[:, None]
        right = logits.masked_fill(~own, float("-inf")).argmax(-1) == target
        return {"loss": loss.item(), "acc": 100 * right.float().mean().item()}

    def parse_batch_train(self, batch: dict) -> tuple[Tensor, Tensor, Tensor]:
        """img (B, 3, H, W), label (B,) within the task, task (B,), on the device."""
        return tuple(batch[key].to(self.device) for key in ("img", "label", "task"))

    @torch.no_grad()
    def text_features(self) -> Tensor:
        """Features of every class (N, d), computed once until the learner changes."""
        if self._text is None:
            with self.autocast():
                self._text = self.model(self.all_columns)
        return self._text

    def model_inference(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, N) over the classes of all tasks."""
        return cosine_logits(self.encode_images(images), self.text_features(), self.scale)

    def load_model(self, directory, epoch=None) -> None:
        """As of every trainer.

        Raises UserError for a model of another CLIP, or another `meaning`, where the run has recorded that.
        """
        self._text = None
        if directory:
            refuse_other_model(directory, self.cfg, self.section, self.clip.weights_hash, self.meaning)
        super().load_model(directory, epoch)
