"""A small trainer and small datasets, written like CoOp's with Dassl's public names, for the tests of the engine.

Run as a program, it trains in child processes that are killed at chosen moments (see test_resume.py).
"""

import os
import os.path as osp
import random
import signal
import sys
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode as CN

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, DatasetBaseMT, Datum, DatumMT
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

CLASSES = ["red thing", "green thing", "blue thing"]


def draw_images(root, per_class=6, size=8):
    """Write noisy images of three colours into <root>/toy/<colour>/<number>.png."""
    noise = np.random.RandomState(0)
    for label, name in enumerate(CLASSES):
        folder = osp.join(root, "toy", name)
        os.makedirs(folder, exist_ok=True)
        for number in range(per_class):
            pixels = noise.randint(0, 120, (size, size, 3))
            pixels[..., label] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(osp.join(folder, f"{number}.png"))


class ToyColours(DatasetBase):
    dataset_dir = "toy"

    def __init__(self, cfg):
        root = osp.abspath(osp.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = osp.join(root, self.dataset_dir)
        items = []
        for label, classname in enumerate(CLASSES):
            folder = osp.join(self.dataset_dir, classname)
            for file in sorted(os.listdir(folder)):
                items.append(Datum(impath=osp.join(folder, file), label=label, classname=classname))
        train = self.generate_fewshot_dataset(items, num_shots=cfg.DATASET.NUM_SHOTS)
        val = items[::2] if cfg.DATASET.VAL_PERCENT > 0 else None
        super().__init__(train_x=train, train_u=items[::3], val=val, test=items)


class ToySuite(DatasetBaseMT):
    """Two tasks on the same images: the colour, and whether it is red. Task "red" has an extra class without images."""

    def __init__(self, cfg):
        single = ToyColours(cfg)
        space = TaskSpace(
            (
                Task(key="colours", name="colours of things", classnames=CLASSES),
                Task(key="red", name="redness", classnames=("red", "other", "invisible"), metric="mean_acc", id=4),
            )
        )

        def both(items):
            colours = [DatumMT(i.impath, i.label, 0, classname=i.classname) for i in items]
            return colours + [DatumMT(i.impath, min(i.label, 1), 1) for i in items]

        super().__init__(space, train_x=both(single.train_x), val=both(single.val), test=both(single.test))


class ToyNet(nn.Module):
    """A linear model with dropout on images; `bias` is registered as a second model."""

    def __init__(self, classnames):
        super().__init__()
        self.learner = nn.Sequential(nn.Dropout(0.1), nn.Linear(3 * 8 * 8, len(classnames)))
        self.bias = nn.Linear(1, len(classnames))

    def forward(self, image):
        return self.learner(image.flatten(1)) + self.bias(image.new_ones(len(image), 1))


class ToyCoOp(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.TOYCOOP.PREC in ["fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        self.model = ToyNet(self.dm.dataset.classnames)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("learner", self.model.learner, self.optim, self.sched)
        self.register_model("bias", self.model.bias, self.optim, self.sched)

    def forward_backward(self, batch):
        crash("batch", self.epoch + 1, self.batch_idx + 1)
        image, label = self.parse_batch_train(batch)
        image = image + 0.01 * random.random() + 0.01 * float(np.random.rand())  # uses every generator
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        loss_summary = {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return loss_summary

    def parse_batch_train(self, batch):
        input = batch["img"]
        label = batch["label"]
        input = input.to(self.device)
        label = label.to(self.device)
        return input, label

    def load_model(self, directory, epoch=None):
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        names = self.get_model_names()
        model_file = "model-best.pth.tar"  # by default, the best model is loaded
        if epoch is not None:
            model_file = "model.pth.tar-" + str(epoch)
        for name in names:
            model_path = osp.join(directory, name, model_file)
            if not osp.exists(model_path):
                raise FileNotFoundError(f'Model not found at "{model_path}"')
            checkpoint = load_checkpoint(model_path)
            self._models[name].load_state_dict(checkpoint["state_dict"], strict=False)

    def save_model(self, epoch, directory, **kwargs):
        crash("save", epoch + 1, 0)
        super().save_model(epoch, directory, **kwargs)
        crash("saved", epoch + 1, 0)


@contextmanager
def registered(*trainers):
    """Register the toys (and more trainers) inside the block only, because other tests use all registered names."""
    saved = [
        (registry, dict(registry._objects)) for registry in (TRAINER_REGISTRY, DATASET_REGISTRY, EVALUATOR_REGISTRY)
    ]
    for dataset in (ToyColours, ToySuite):
        DATASET_REGISTRY.register(dataset)
    for trainer in (ToyCoOp, *trainers):
        TRAINER_REGISTRY.register(trainer)
    try:
        yield
    finally:
        for registry, objects in saved:
            registry._objects.clear()
            registry._objects.update(objects)


def crash(what, epoch, batch):
    """Kill this process with SIGKILL at the moment in $TOY_CRASH ("batch 2 1")."""
    if os.environ.get("TOY_CRASH") == f"{what} {epoch} {batch}":
        os.kill(os.getpid(), signal.SIGKILL)


def crash_between_models():
    """Kill this process when the second model's checkpoint of epoch 3 is about to be renamed."""
    rename = os.replace

    def replace(source, target):
        if str(target).endswith(osp.join("bias", "model.pth.tar-3")):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace


def config(root, output, dataset="ToyColours", trainer="ToyCoOp", **settings):
    """A configuration built as in CoOp."""
    cfg = get_cfg_default()
    cfg.TRAINER.TOYCOOP = CN()
    cfg.TRAINER.TOYCOOP.PREC = "fp32"
    cfg.merge_from_list(
        ["DATASET.ROOT", str(root), "OUTPUT_DIR", str(output), "DATASET.NAME", dataset, "TRAINER.NAME", trainer]
        + ["SEED", 0, "INPUT.SIZE", (8, 8), "INPUT.TRANSFORMS", ["random_flip", "normalize"], "VERBOSE", False]
        + ["DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 6, "DATALOADER.TEST.BATCH_SIZE", 7]
        + ["OPTIM.NAME", "sgd", "OPTIM.LR", 0.05, "OPTIM.LR_SCHEDULER", "cosine", "OPTIM.MAX_EPOCH", 4]
        + ["OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant", "TRAIN.PRINT_FREQ", 2, "TRAIN.TENSORBOARD", False]
    )
    for key, value in settings.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def run_and_die(root, output, moment, **settings):
    """Train in a child process that is killed at `moment` ("" = never). Returns its signal, or 0."""
    child = os.fork()
    if child == 0:
        os.environ["TOY_CRASH"] = moment
        if moment == "between":
            crash_between_models()
        code = 1
        try:
            torch.set_num_threads(1)
            build_trainer(config(root, output, **settings)).train()
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the run failed at {moment!r}")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main(root):
    keep = {"TRAIN__CHECKPOINT_FREQ": 1, "TEST__FINAL_MODEL": "best_val"}
    assert run_and_die(root, osp.join(root, "whole"), "", **keep) == 0
    for moment in ("batch 1 2", "batch 3 1", "between", "save 3 0", "saved 4 0"):
        assert run_and_die(root, osp.join(root, "killed"), moment, **keep) == signal.SIGKILL, moment
    assert run_and_die(root, osp.join(root, "killed"), "", DATALOADER__NUM_WORKERS=1, **keep) == 0


if __name__ == "__main__":
    with registered():
        main(sys.argv[1])
