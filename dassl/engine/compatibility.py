"""For trainers written for Dassl: TrainerXU, and settings that no method of this project reads."""

from dassl.config import between, declare, each
from dassl.engine.loaders import Pair, start
from dassl.engine.trainer import SimpleTrainer
from dassl.utils.errors import UserError

declare(
    "MODEL.BACKBONE.PRETRAINED", True, help="for trainers with a backbone of their own; a CLIP is always pretrained"
)
declare("MODEL.HEAD.NAME", "", help="head between backbone and classifier, for trainers that have one")
declare(
    "MODEL.HEAD.HIDDEN_LAYERS",
    (),
    allowed=each(lambda width: type(width) is int and width > 0, "a list of integers > 0"),
    help="widths of the hidden layers of the head",
)
declare("MODEL.HEAD.ACTIVATION", "relu", help="activation of the head")
declare("MODEL.HEAD.BN", True, help="batch normalisation in the head")
declare("MODEL.HEAD.DROPOUT", 0.0, allowed=between(0, 1), help="dropout of the head")
declare(
    "TRAIN.COUNT_ITER",
    "train_x",
    allowed=("train_x", "train_u", "smaller_one"),
    help="loader that defines the number of batches per epoch, for trainers with labelled and unlabelled data",
)


class TrainerXU(SimpleTrainer):
    """A trainer on labelled and unlabelled images: forward_backward(batch_x, batch_u)."""

    def before_train(self):
        for part, loader in (("labelled", self.train_loader_x), ("unlabelled", self.train_loader_u)):
            if loader is None:
                raise UserError(f"{type(self).__name__} needs {part} training images; {self.cfg.DATASET.NAME} has none")
        super().before_train()

    def run_epoch(self):
        x, u = len(self.train_loader_x), len(self.train_loader_u)
        self.num_batches = {"train_x": x, "train_u": u, "smaller_one": min(x, u)}[self.cfg.TRAIN.COUNT_ITER]
        pairs = zip(self._endless(self.train_loader_x), self._endless(self.train_loader_u), strict=False)
        self.learn(Pair(pair) for _, pair in zip(range(self.num_batches), pairs, strict=False))

    @staticmethod
    def _endless(loader):
        while True:
            yield from start(loader)

    def parse_batch_train(self, batch_x, batch_u):
        """(labelled images, their labels, unlabelled images) on the device."""
        return batch_x["img"].to(self.device), batch_x["label"].to(self.device), batch_u["img"].to(self.device)
