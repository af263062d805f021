"""Training step and test shared by all methods on a frozen CLIP. `building.py` builds them, `inference.py` has their
passes of images through the towers.

A training step is `forward_backward`, which calls `step` (towers, text, logits) and `loss`.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from dassl.config import method_name
from dassl.evaluation import ClassificationMT, TaskUnknown
from dassl.utils import UserError

from .choices import Choices
from .inference import InferenceTrainer
from .losses import class_weights, label_cross_entropy, mixed_losses, multitask_cross_entropy, present_columns
from .samples import StartSamples, Views, read_samples
from .step import Step, first_view, spread, with_numbers
from .zero_shot import ZeroShotCheck


class MultiTaskTrainer(InferenceTrainer):
    """Train a `Learner` on all tasks at once.

    A method defines `section` and `build_learner` and, if needed, `problems`, `training_columns` and `loss`. The towers
    are never trained. Checkpoints contain the learner only: `prompt_learner/model.pth.tar-<epoch>`.
    """

    zero_shot: ZeroShotCheck | None = None  # compares a test with zero-shot CLIP
    task_unknown: TaskUnknown | None = None  # classifies among the classes of all tasks in a test

    # ---- the parts that a method defines

    def training_columns(self, task: Tensor, label: Tensor) -> Tensor:
        """Sorted columns (N',) of a step with tasks (B,) and labels (B,): all classes of the tasks in the batch."""
        return present_columns(self.space, task)

    def loss(self, step: Step) -> Tensor | tuple[Tensor, dict[str, float]]:
        """The loss of a step, a scalar; or (loss, {name: number to log})."""
        return self.classification_loss(step.logits, step.columns, step.task, step.target)

    def classification_loss(self, logits: Tensor, columns: Tensor, task: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits (B, N') over `columns` (N',); each image is classified within its task.

        task (B,), target (B,) or (B, N'): see `Step`. In tagging tasks, the binary cross-entropy.
        """
        smoothing, weights = self.cfg.TRAINER.LABEL_SMOOTHING, self.task_weights
        weight, of_column = None if weights is None else weights()[task], self.task_of_column[columns]
        if target.ndim == 1:
            loss = multitask_cross_entropy(logits, of_column, task, target, smoothing, weight)
        else:
            losses = mixed_losses(logits, of_column, task, target, self.tagging, smoothing)
            loss = (losses if weight is None else weight * losses).mean()
        return loss if weights is None else loss + weights.penalty(task)

    def class_mean(self, values: Tensor, step: Step) -> Tensor:
        """Mean of `values` (N',) over the classes of a step, where tasks weigh as in the cross-entropy."""
        task = self.task_of_column[step.columns]
        weight = class_weights(task, step.task)
        if self.task_weights is not None:
            weight = weight * self.task_weights()[task].detach()
        return weight @ values

    def gradients(self, loss: Tensor, step: Step) -> None:
        """Compute the gradients of `loss`. Methods that change gradients (ProGrad) override it."""
        self.model_backward(loss)

    # ---- a training step

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """Run one training step on a batch, including the optimiser. Returns the numbers to print and log."""
        step = self.step(batch)
        if self.task_weights is not None:
            values = step.logits, self.task_of_column[step.columns], step.task, step.target
            losses = label_cross_entropy(*values) if step.target.ndim == 1 else mixed_losses(*values, self.tagging)
            self.task_weights.observe(losses, step.task)
        loss, numbers = with_numbers(self.loss(step))
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
        best = step.logits.masked_fill(~own, float("-inf")).argmax(-1)
        right = best == step.target if step.target.ndim == 1 else step.target.gather(1, best[:, None])
        return {"loss": loss.item(), "acc": 100 * right.float().mean().item(), **step.numbers}

    def step(self, batch: dict) -> Step:
        """Compute a training step up to the logits.

        `batch` contains task (B,), label (B,) within the task, and img (B, 3, H, W) or the frozen tower's features of
        the views.
        """
        batch, more = first_view(batch)
        images, features, label, task, rows = self.parse_batch(batch)
        if self.start and "tokens" in batch:
            images = batch["tokens"].to(self.device)
        tags = self._tags(batch, task, rows)
        occurring = (task, label) if tags is None else self.space.of_column(tags.nonzero()[:, 1])
        columns = self.training_columns(*occurring).to(self.device)  # (N',)
        target = torch.searchsorted(columns, self.space.column(task, label)) if tags is None else tags[:, columns]
        added = self.model.additions()
        with self.autocast():
            image = self.model.image(self._encode(images, features, added.image, task, rows), task)  # (R, d)
            text = self.model.text(columns, added.text)  # (N', d)
        logits, numbers = with_numbers(self.model.logits(image, text, columns, task))  # (R, N')

        def frozen() -> Tensor:
            return features if features is not None else self.frozen_features(images)

        return Step(columns, task, target, image, text, logits, dict(numbers), more, rows, frozen)

    # ---- a test

    def test_batch(self, batch: dict) -> tuple[Tensor, list[Tensor]]:
        """Return (logits (R, N), [label (R,), task (R,) if the evaluator needs it]) of a batch.

        R = B, one row per image, unless images have several labels. With tagging tasks, labels are (R, N). Also
        evaluates zero-shot CLIP if it is compared.
        """
        images, features, label, task, rows = self.parse_batch(batch)
        if self.frozen and features is None:
            features = self.frozen_features(images)
        tags = self._tags(batch, task, rows)
        if tags is not None:
            label = tags.long().masked_fill(~self.space.mask(task), -1)  # (R, N), as `TaskSpace.encode` gives them
        if self.zero_shot is not None:
            self.zero_shot.process(spread(self.joint_features(features), rows), label, task)
        target = [label, task] if getattr(self.evaluator, "needs_task", False) else [label]
        logits = self.model_inference(images, None if self.task_unknown else task, features, rows)
        if self.task_unknown:
            self.task_unknown.process(logits, label, task)
        return logits, target

    def tested_paths(self, batch: dict) -> list[str]:
        paths, label = batch.get("impath", ()), batch["label"]
        return [paths[i] for i in self.space.decode(label)[0].tolist()] if label.ndim == 2 else list(paths)

    def split_loader(self, split: str):
        """The loader of a split, which yields features from the cache where they serve."""
        if self.cfg.DATALOADER.FEATURE_CACHE and self.frozen:
            setattr(self, f"{split}_loader", self.from_features(super().split_loader(split), f"{split} images"))
        return super().split_loader(split)

    def test(self, split: str | None = None) -> float:
        if self.task_weights is not None:
            self.run_extra["task_weights"] = self.task_weights.record()
        if split or self.cfg.TEST.TASK_KNOWN:
            return self._test(split)
        self.task_unknown = TaskUnknown(self.space)
        try:
            result = self._test(split)
            self.run_extra["task_unknown"] = self.task_unknown.show(self.cfg.TEST.PER_TASK_RESULT)
        finally:
            self.task_unknown = None
        return result

    def _test(self, split: str | None) -> float:
        """Test, and compare the result with zero-shot CLIP unless a `split` is given."""
        chosen = {}
        for part in self.model.modules():
            if isinstance(part, Choices):
                chosen |= part.record()
        if chosen:
            self.run_extra["chosen"] = chosen
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
        own = self.frozen and self.part != "local" and isinstance(self.evaluator, ClassificationMT)
        return trained and own and self.cfg.TEST.ZERO_SHOT_CHECK

    # ---- the start of a learner

    def before_train(self) -> None:
        super().before_train()
        if not self._by_gradients:
            self.close_bar()  # it counts batches
            return
        if self.cfg.DATALOADER.FEATURE_BANK:
            epochs = range(self.start_epoch, self.max_epoch)
            self.train_loader_x = self.from_features(self.train_loader_x, "training views", epochs)
        if self.model.starts and not self.start_epoch and not self._initialised:
            known = self.num_learnable()
            self._start()
            self._settle_additions()
            if (count := self.num_learnable()) != known:  # rows of training images
                print(f"Learnable parameters: {count:,}")
        if self.start_epoch < self.max_epoch:
            self.model.known.fill_(True)
            self.model.known_data.fill_(True)

    def run_epoch(self) -> None:
        """Run one epoch of steps. For a method without steps, the only epoch is the learner's start."""
        if self._by_gradients:
            super().run_epoch()
        else:
            self._start()

    @cached_property
    def samples(self) -> StartSamples:
        """Frozen features for the start and the end of the learner."""
        return StartSamples(lambda split: read_samples(self, split), lambda count: Views(self, count))

    @torch.no_grad()
    def _start(self) -> None:
        self.model.start(self.samples)
        self._prepared = None

    def after_epoch(self) -> None:
        last = self.epoch + 1 == self.max_epoch
        if self._by_gradients and self.model.finishes and (last or self.cfg.TEST.FINAL_MODEL == "best_val"):
            with torch.no_grad():
                self.model.finish(self.samples)
            self._prepared = None
        super().after_epoch()


class FittedTrainer(MultiTaskTrainer):
    """A method whose `start` computes everything, from one pass over the training images without augmentation.

    The method has one epoch, after which the checkpoint `classifier/model.pth.tar-1` is written. OPTIM.* and the
    feature bank are not used. The features come from the feature cache, so all shots, seeds and methods share them.
    """

    ignored_settings = ("OPTIM.", "DATALOADER.TRAIN_X.", "LOSS.")
    fitted, tags = True, False
    model_names = ("classifier",)

    def problems(self, cfg) -> list[str]:
        if cfg.MODEL.INIT_WEIGHTS:
            name = method_name(cfg)
            return [f"MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS}: {name} does not start from weights; leave it empty"]
        return []
