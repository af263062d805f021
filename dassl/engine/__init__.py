"""The engine: the training loop, and trainers under Dassl's names."""

from dassl.engine.build import TRAINER_REGISTRY, build_trainer
from dassl.engine.compatibility import TrainerXU
from dassl.engine.trainer import SimpleTrainer, TrainerBase, TrainerX
from dassl.modeling import SimpleNet

__all__ = ["TRAINER_REGISTRY", "SimpleNet", "SimpleTrainer", "TrainerBase", "TrainerX", "TrainerXU", "build_trainer"]
