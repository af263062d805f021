"""The building of a method: settings, towers, learner, optimiser, and features of the frozen image tower."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from clip.additions import Additions
from clip.backbones import effective_precision, load_backbone, tokenizer_of
from clip.image_tower import ImageTower, size_error
from clip.model import CLIP
from clip.names import check_name, input_size
from clip.text_tower import TextTower
from dassl.config import ConfigError, method_name
from dassl.data.datasets.base_dataset import labels_of
from dassl.data.tasks import TaskSpace
from dassl.engine import TrainerX
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.runs.compare import refuse_other_model
from dassl.runs.open import read_space
from dassl.utils import UserError, count_num_param, counted, load_pretrained_weights
from features.loader import FeatureLoader, keep_limit, one_view, store_for, too_large, why_not

from .learner import Learner, WrappedLearner
from .needs import BackboneNeeds, bank_problem
from .rows import class_owners
from .settings import is_shared
from .task_weights import TaskWeights, given_weights
from .templates import shared_template_problems, task_templates


class BuiltTrainer(BackboneNeeds, TrainerX):
    """Builds a method from its settings and registers its learner; `MultiTaskTrainer` trains and tests it.

    One file per run holds the learner: `prompt_learner/model.pth.tar-<epoch>`, or `classifier/model.pth.tar-1` of a
    method without steps.

    Attributes:
        clip, image_tower, text_tower: the frozen CLIP and its towers.
        space: the tasks.
        model: the learner.
        frozen: whether features of the frozen image tower serve, because the learner adds nothing to it.
        part: the output of the frozen image tower that the learner requests: "" for the features (B, d), "local" for
            local features (B, P, d), "unprojected" for features before the last projection (B, W).
        start: layer of the image tower from which on images are encoded: 0, or with the feature bank the first layer
            with an addition, since the tokens before it are those of the frozen tower.
    """

    section = ""  # cfg.TRAINER.<section> holds the method's settings, PREC among them
    ignored_settings = ()  # prefixes of settings that this method ignores; or a function of cfg that returns them
    learns = True  # False: nothing is trained, and the method is tested without a checkpoint
    fitted = False  # True: the learner's `start` computes all that is learned, see FittedTrainer
    model_names = ("prompt_learner",)  # folders of the checkpoints
    views = 1  # views of each training image per batch
    tests_without_task = True
    tags = True  # whether the method learns from images with several classes in one task
    task_weights: TaskWeights | None = None  # weights of the tasks in the loss; None: 1

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

    def check_cfg(self, cfg) -> None:
        check_name(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS)
        if "PREC" not in cfg.TRAINER.get(self.section, {}):
            raise ConfigError(
                f"{type(self).__name__} has no setting TRAINER.{self.section}.PREC: declare it in the method's file, "
                f'declare_shared("{self.section}", PREC="fp16")'
            )
        found = self.problems(cfg)
        if is_shared(self.section, "TEMPLATES"):
            found += shared_template_problems(cfg.TRAINER[self.section].TEMPLATES, f"TRAINER.{self.section}.TEMPLATES")
        if self.learns and self.views != cfg.DATALOADER.K_TRANSFORMS:
            found.append(
                f"DATALOADER.K_TRANSFORMS {cfg.DATALOADER.K_TRANSFORMS}: {method_name(cfg)} takes "
                f"{counted(self.views, 'view')} per image; set it to {self.views}"
            )
        size = None if cfg.MODEL.BACKBONE.WEIGHTS else input_size(cfg.MODEL.BACKBONE.NAME)
        if size and tuple(cfg.INPUT.SIZE) != (size, size):
            found.append(size_error(cfg.MODEL.BACKBONE.NAME, size, tuple(cfg.INPUT.SIZE)))
        if found:
            raise ConfigError("\n".join(found))
        if self.reads_weights:  # last, because it may need the network
            tokenizer_of(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS)

    def build_model(self) -> None:
        cfg = self.cfg
        self._check_tagging(self.dm.space)
        self._check_task_unknown()
        precision, line = effective_precision(cfg.TRAINER[self.section].PREC, self.device)
        if line:
            print(line)
        self._check_texts(cfg, self.dm.space)
        if self.learns and not self.fitted and not isinstance(cfg.LOSS.TASK_WEIGHTS, str):
            given_weights(cfg.LOSS.TASK_WEIGHTS, self.dm.space)  # a wrong name is found before weights are loaded
        name, weights = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS
        print(f"Loading CLIP (backbone: {name}{', weights: ' + weights if weights else ''}, precision: {precision})")
        clip = load_backbone(name, weights=weights, precision=precision, device=self.device)
        self._check_images(clip)
        self.run_extra = {"backbone": name, "precision": precision, "hashes": {"weights": clip.weights_hash}}
        self.build_on(clip, self.dm.space)

    def _check_texts(self, cfg, space: TaskSpace) -> None:
        """Raise UserError if a file of texts lacks a class of the tasks, before weights are loaded."""
        for name in ("TEMPLATES", "SENTENCES"):
            value = cfg.TRAINER[self.section].get(name)
            if value and isinstance(value, str):
                task_templates(value, f"TRAINER.{self.section}.{name}", space, quiet=True)

    def _check_tagging(self, space: TaskSpace) -> None:
        """Raise UserError for tagging tasks if the method, or TEST.TASK_KNOWN False, needs one class per image."""
        tagging = [task for task in space.tasks if task.tagging]
        if tagging and not (self.tags and self.cfg.TEST.TASK_KNOWN):
            who = "TEST.TASK_KNOWN False" if self.tags else method_name(self.cfg)
            remedy = "leave it True" if self.tags else "take a method that learns prompts or adapters by gradients"
            raise UserError(
                f"{who} needs images with one class, and {tagging[0].key} is a tagging task (METRIC "
                f"{tagging[0].metric}); {remedy}, or choose other tasks with DATASET.SUBSAMPLE_TASKS"
            )

    def _check_task_unknown(self) -> None:
        """Raise UserError if the task is to be predicted of images that belong to several tasks."""
        if self.cfg.TEST.TASK_KNOWN:
            return
        dataset = getattr(self.dm, "dataset", None)
        for item in (*(getattr(dataset, "test", None) or ()), *(getattr(dataset, "val", None) or ())):
            if len(labels_of(item)) > 1:
                raise UserError(
                    f"TEST.TASK_KNOWN False: {item.impath} has labels of several tasks, so its task cannot be "
                    "predicted; leave it True, or choose one task with DATASET.SUBSAMPLE_TASKS"
                )

    def build_on(self, clip: CLIP, space: TaskSpace) -> None:
        """Build all parts of the method from a loaded CLIP (on `self.device`) and the tasks of `space`."""
        image_tower = ImageTower(clip, checkpoint=self.cfg.MODEL.IMAGE_CHECKPOINT)
        self.build_on_towers(clip, image_tower, TextTower(clip, self.cfg.MODEL.TEXT_CHUNK), space)

    def build_on_towers(self, clip: CLIP, image_tower: ImageTower, text_tower: TextTower, space: TaskSpace) -> None:
        """Build all parts of the method from the towers of a CLIP."""
        cfg = self.cfg
        self.clip, self.space, self._prepared, self._initialised, self.start = clip, space, None, False, 0
        self.image_tower, self.text_tower = image_tower, text_tower
        self.scale = clip.logit_scale.exp()
        self.task_of_column = space.task_of_column.to(self.device)
        self.tagging = None if space.tagging is None else space.tagging.to(self.device)
        self.all_columns = torch.arange(space.num_classes, device=self.device)
        self.model = self.build_learner(cfg, self.text_tower, space).to(self.device)
        self._apply_shared_settings()
        towers = {id(parameter) for parameter in clip.parameters()}
        if shared := [name for name, parameter in self.model.named_parameters() if id(parameter) in towers]:
            raise UserError(
                f"The learner of {type(self).__name__} holds {shared[0]}, a weight of the frozen CLIP: keep a tower in "
                "an object that is not a module, such as ImageTower(tower.clip), or copy the weight"
            )
        self._settle_additions()
        if cfg.DATALOADER.FEATURE_BANK and not self.frozen and not self._first:
            raise ConfigError(bank_problem(cfg))
        if self.learns:
            self.register_learner()

    def _apply_shared_settings(self) -> None:
        """Set the learner's hand-made prompts and scale from TEMPLATES and SCALE, if the method declares them."""
        learner, c = self.model, self.cfg.TRAINER[self.section]
        while isinstance(learner, WrappedLearner):
            learner = learner.base
        if is_shared(self.section, "TEMPLATES"):
            setting = f"TRAINER.{self.section}.TEMPLATES"
            learner.hand_templates = task_templates(c.TEMPLATES, setting, self.space)
        if is_shared(self.section, "SCALE"):
            learner.fixed_scale = c.SCALE

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
        self.frozen, self._first = not image.alters, image.first or 0
        self.part = "local" if image.local else "unprojected" if image.unprojected else ""

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
                    f"MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS}: {method_name(cfg)} trains nothing by gradients; "
                    "leave it empty"
                )
            self.max_epoch = self.run_extra["epochs"] = 1
            self.register_model("classifier", self.model)
            return
        if cfg.MODEL.INIT_WEIGHTS:
            self._initialised = load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        if count := self.num_learnable():
            print(f"Learnable parameters: {count:,}")
        for group in groups:
            if (factor := group.pop("lr_scale", None)) is not None:
                group["lr"] = factor * cfg.OPTIM.LR
        if (rule := cfg.LOSS.TASK_WEIGHTS) != "none":
            self.task_weights = TaskWeights(rule, self.space, self._training_items()).to(self.device)
            if learned := list(self.task_weights.parameters()):
                groups.append({"params": learned, "weight_decay": 0.0})
        self.optim = build_optimizer(groups, cfg.OPTIM)
        batches = len(getattr(self, "train_loader_x", None) or ())
        length = {"epochs": self.max_epoch, "steps": self.max_steps} if batches else {}
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM, batches, **length)
        self.register_model("prompt_learner", self.model, self.optim, self.sched)
        if self.task_weights is not None:
            learned = next(self.task_weights.parameters(), None) is not None
            steps = (self.optim, self.sched) if learned else (None, None)
            self.register_model("task_weights", self.task_weights, *steps)
        self.scaler = torch.amp.GradScaler("cuda") if self.clip.precision == "amp" else None

    def _training_items(self) -> Sequence:
        return getattr(getattr(self.dm, "dataset", None), "train_x", None) or ()

    def num_learnable(self) -> int:
        """Number of scalars that are trained by gradients."""
        return count_num_param(params=[p for p in self.model.parameters() if p.requires_grad])

    @property
    def _by_gradients(self) -> bool:
        return "prompt_learner" in self._models

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
        for key, want in (
            ("INTERPOLATION", clip.interpolation),
            ("RESIZE_MODE", "squash" if clip.squash else "shortest"),
        ):
            if cfg.INPUT[key] != want:
                print(f'WARNING: INPUT.{key} is "{cfg.INPUT[key]}", {clip.name} was trained with "{want}"')

    def _load_weights(self, name, state_dict, source) -> None:
        self._prepared = None
        super()._load_weights(name, state_dict, source)

    def _load_critical(self, c) -> dict[str, object]:
        """`load_critical_settings`, and SCALE of a method that declares it: other logits from the same features."""
        return self.load_critical_settings(c) | ({"SCALE": c.SCALE} if is_shared(self.section, "SCALE") else {})

    def load_model(self, directory, epoch=None) -> None:
        """Load the learner of the run in `directory`.

        Raises UserError if the run recorded another CLIP or other `load_critical_settings`.
        """
        if directory:
            refuse_other_model(directory, self.cfg, self.section, self.clip.weights_hash, self._load_critical)
        super().load_model(directory, epoch)
        if directory and (there := read_space(directory)) is not None:
            trained, keys = set(class_owners(there)), {task.key for task in there.tasks}
            self.model.known = torch.tensor([owner in trained for owner in class_owners(self.space)]).to(self.device)
            same = torch.tensor([task.key in keys for task in self.space.tasks])
            self.model.known_data = same.to(self.device)[self.task_of_column]

    def frozen_features(self, images: Tensor, part: str | None = None) -> Tensor:
        """Output `part` of the frozen image tower for images (B, 3, H, W); default: what the method requests."""
        part = self.part if part is None else part
        with torch.no_grad(), self.autocast():
            found = self.image_tower(images.to(self.device), Additions(**({part: True} if part else {})))
        return found[1] if part == "local" else found

    def joint_features(self, features: Tensor) -> Tensor:
        """Features (B, d) of the frozen tower, from `features` (B, W) if the method requests unprojected ones."""
        if self.part != "unprojected":
            return features
        weight, bias = self._projection
        found = features.float() @ weight
        return found if bias is None else found + bias

    @cached_property
    def _projection(self) -> tuple[Tensor, Tensor | None]:
        return self.image_tower.projection()

    def frozen_tokens(self, images: Tensor) -> Tensor:
        """Tokens (B, 1 + P, W) of images (B, 3, H, W) before the first layer of the image tower with an addition."""
        with self.autocast():
            return self.image_tower.before(images.to(self.device), self._first)

    def autocast(self):
        """Context manager: matrix products in fp16 if PREC is amp; otherwise without effect."""
        return self.text_tower.autocast()

    def from_features(self, loader, what: str, epochs: range | None = None, part: str | None = None):
        """Wrap `loader` so that it yields frozen features in place of images.

        `epochs`: the epochs of a training loader. `part`: see `frozen_features`.
        Returns `loader` unchanged if it cannot be wrapped or already is.
        """
        if loader is None or isinstance(loader, FeatureLoader):
            return loader
        if reason := why_not(loader):
            if epochs is not None:
                print(f"DATALOADER.FEATURE_BANK is not used: {reason}")
            return loader
        with_tokens = epochs is not None and not self.frozen
        if one_view(loader, self.cfg):
            epochs = None
        if epochs is not None and (cycle := self.cfg.DATALOADER.VIEWS):
            epochs = sorted({epoch % cycle for epoch in epochs})
        part = self.part if part is None else part
        parts = {"features": (part, partial(self.frozen_features, part=part))}
        if with_tokens:
            parts["tokens"] = f"tokens {self._first}", self.frozen_tokens
        blank = torch.zeros(1, 3, *self.cfg.INPUT.SIZE)
        shapes = {key: encode(blank).shape[1:] for key, (_, encode) in parts.items()}
        view_bytes = {key: 4 * shape.numel() for key, shape in shapes.items()}  # kept in fp32
        if reason := too_large(loader, epochs, sum(view_bytes.values()), self.cfg):
            print(f"DATALOADER.FEATURE_{'CACHE' if epochs is None else 'BANK'} is not used: {reason}")
            return loader
        batch_size = self.cfg.DATALOADER.TEST.BATCH_SIZE if epochs is None else loader.batch_size
        found = None
        for key, (kind, encode) in parts.items():
            store = store_for(loader, self.cfg, self.clip, self.device, kind, tuple(shapes[key]))
            found = FeatureLoader(loader, store, epochs, encode, what, view_bytes[key], batch_size, key, found)
        if with_tokens:
            self.start = self._first
        loader = found
        keep_limit(self.cfg)
        return loader
