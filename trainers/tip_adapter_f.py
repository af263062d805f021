"""Tip-Adapter-F (Zhang et al., ECCV 2022; arXiv 2207.09519): the cache of Tip-Adapter, whose keys are trained.

    logits_k = s f . t_k + alpha sum_{i: y_i = k} exp(-beta (1 - f . key_i)),   loss: cross-entropy

The keys (M, d) start as those of Tip-Adapter and are not normalised again; alpha and beta are INIT_ALPHA and INIT_BETA
during training. After the last step alpha and beta are searched with the trained keys, as in Tip-Adapter. Each epoch
sees a new view of each image.

The published code keeps the epoch that is best on test images, and reports the better one of its test accuracy and that
after the search. CHOSEN_ON test does so for each task, with a search on test images as published for ImageNet. By
default the last epoch is kept, or the best on validation images (TEST.FINAL_MODEL best_val). Keys are fp32, published
fp16. See also tip_adapter.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clip.text_tower import TextTower
from dassl.config import at_least, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .cache import ALPHA, BETA, PUBLISHED, Cache, cache_options, declare_cache
from .choices import Choices, samples_to_choose
from .rows import SampleRows
from .samples import StartSamples

KEY = "TRAINER.TIPADAPTERF."
declare_cache("TIPADAPTERF")
declare(KEY + "INIT_ALPHA", ALPHA, allowed=at_least(0), help="weight of the cache in training")
declare(KEY + "INIT_BETA", BETA, allowed=at_least(0), help="sharpness of the affinities in training")


class TrainedCache(Cache):
    """A cache whose keys are learned.

    Args:
        tower, space: as for every learner.
        init_alpha, init_beta: (T,) weights of each task in training.
        options: further arguments of `Cache`.

    With `chosen_on` "test", `best` has the keys of each task at its best epoch, and `accuracy` its score there.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, *, init_alpha: Tensor, init_beta: Tensor, **options):
        super().__init__(tower, space, **options)
        self.by_epoch = self.chosen_on == "test"
        self.register_buffer("init_alpha", init_alpha, persistent=False)
        self.register_buffer("init_beta", init_beta, persistent=False)
        if self.by_epoch:
            self.chosen = Choices(space, alpha=0, beta=0, epoch=0)
            self.best, self.accuracy = SampleRows(space, tower.output_dim), Choices(space, value=-1)
            self.best.keys.requires_grad_(False)
        self.chosen.alpha.copy_(init_alpha)
        self.chosen.beta.copy_(init_beta)

    def weights(self) -> tuple[Tensor, Tensor]:
        return (self.init_alpha, self.init_beta) if self.training else super().weights()

    @property
    def kept(self) -> SampleRows:
        return self.best if self.by_epoch and len(self.best.keys) else self.rows

    def keep_best(self, samples: StartSamples, epoch: int) -> None:
        """Keep the keys of each task with a better score in `epoch` than before, with the weights of training."""
        if not len(self.best.keys):
            self.best.fill(self.rows.keys, self.rows.column)
        for position, own in enumerate(samples_to_choose(samples, self.chosen_on, self.space, self.fixed)):
            pair = [self.init_beta[position].item()], [self.init_alpha[position].item()]
            score = self.scores(self.rows, position, own, *pair)
            if score is not None and score.item() > self.accuracy.value[position].item():
                mine = self.task_of_column[self.rows.column] == position
                self.best.keys.data[mine] = self.rows.keys.detach()[mine]
                self.accuracy.choose(position, "", value=score.item())
                self.chosen.choose(position, self.chosen_on, epoch=epoch)

    def finish(self, samples: StartSamples) -> None:
        self.choose(samples)
        if self.by_epoch:  # test images chose the epoch, also if alpha and beta are given
            for position in (self.accuracy.value >= 0).nonzero()[:, 0].tolist():
                self.chosen.choose(position, self.chosen_on)

    def settle(self, position: int, alpha: float, beta: float, score: float) -> None:
        if self.by_epoch and score <= (before := self.accuracy.value[position].item()):
            alpha, beta, score = self.init_alpha[position].item(), self.init_beta[position].item(), before
        super().settle(position, alpha, beta, score)


@TRAINER_REGISTRY.register()
class TipAdapterF(MultiTaskTrainer):
    """Tip-Adapter with trained keys. New classes are predicted zero-shot: the cache has no vote for them."""

    section = "TIPADAPTERF"
    tags = False

    def problems(self, cfg) -> list[str]:
        if cfg.TRAINER.TIPADAPTERF.CHOSEN_ON == "test" and cfg.TEST.FINAL_MODEL == "best_val":
            return [f"{KEY}CHOSEN_ON test chooses the epoch on test images: set TEST.FINAL_MODEL last_step"]
        return []

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"CHOSEN_ON": c.CHOSEN_ON}

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> TrainedCache:
        c = cfg.TRAINER.TIPADAPTERF
        table = PUBLISHED if c.BY_DATASET else {}
        alpha = torch.tensor([float(table.get(task.owner, (0, 0, c.INIT_ALPHA))[2]) for task in space.tasks])
        options = cache_options(c, cls.section, space)
        return TrainedCache(tower, space, init_alpha=alpha, init_beta=torch.full_like(alpha, c.INIT_BETA), **options)

    def before_train(self) -> None:
        super().before_train()
        images, size = len(self.train_loader_x.dataset), self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        if self.cfg.DATALOADER.TRAIN_X.DROP_LAST and images > size and images % size:
            print(
                f"WARNING: {images % size} of {images} training images are left out of every epoch; published: "
                "DATALOADER.TRAIN_X.DROP_LAST False"
            )

    def after_epoch(self) -> None:
        if self.model.by_epoch:
            with torch.no_grad():
                self.model.keep_best(self.samples, self.epoch + 1)
            self._prepared = None
        super().after_epoch()
