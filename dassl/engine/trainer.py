"""SimpleTrainer, a trainer built from a configuration, and TrainerX, its loop on labelled images."""

import math
import os
import time
from datetime import timedelta
from itertools import islice
from types import SimpleNamespace

import torch

from dassl import program
from dassl.config import check, method_name
from dassl.data import DataManager
from dassl.data.datasets import DatasetBaseMT
from dassl.engine.base import TrainerBase
from dassl.engine.build import DEVICE, TASKS
from dassl.engine.confidence import fit_temperatures, measure_unknown
from dassl.engine.loaders import LOADERS, Pair, end_workers, start
from dassl.engine.progress import EpochMeter, progress, run_bar
from dassl.engine.several_tasks import check_tasks_read, watched
from dassl.engine.wandb_run import WandbRun, require_wandb
from dassl.evaluation import build_evaluator
from dassl.modeling import SimpleNet
from dassl.optim import build_lr_scheduler, build_optimizer, run_length
from dassl.runs import checkpoints
from dassl.runs.compare import changed_settings, split_change
from dassl.runs.folder import TENSORBOARD, replace_run, replacing, settle_seed
from dassl.runs.predictions import record_predictions
from dassl.runs.record import known_results
from dassl.runs.writer import write_config, write_results, write_tasks
from dassl.utils import counted, load_pretrained_weights, preserved_rng, set_random_seed
from dassl.utils.errors import UserError
from dassl.utils.names import found_in

__all__ = ["SimpleTrainer", "TrainerBase", "TrainerX"]

# Names that code written for Dassl imports from here; TensorBoard is slow to import.
NAMES = {
    "dassl.utils": "AverageMeter MetricMeter count_num_param load_checkpoint mkdir_if_missing resume_from_checkpoint "
    "save_checkpoint tolist_if_not",
    "dassl.modeling": "build_backbone build_head",
    "dassl.engine.compatibility": "TrainerXU",
    "torch.utils.tensorboard": "SummaryWriter",
    "tqdm": "tqdm",
}
__getattr__ = found_in(__name__, NAMES)


class SimpleTrainer(TrainerBase):
    """A trainer built from a configuration.

    Subclasses define build_model(), which registers the learned modules, and forward_backward(batch).

    Args:
        cfg: configuration. A negative SEED is replaced by a random one.
        space: TaskSpace in place of the data, for predictions without the images of the run.

    Attributes:
        dm, train_loader_x, train_loader_u, val_loader, test_loader, unknown_loader: the data and its loaders.
        num_classes, num_source_domains, lab2cname: properties of the data.
        max_epoch, max_steps: length of the run; max_steps is 0 unless OPTIM.STEPS_PER_SHOT sets the number of steps.
        device: torch.device, the GPU if there is one and USE_CUDA is set. Always one device.
        evaluator, output_dir.
        test_paths: paths of the images of the last test, in order.

    Raises:
        ConfigError, UserError, FileNotFoundError: before any model is built.
    """

    unknown_loader, test_paths = None, ()
    tests_without_task = False  # whether it can test with TEST.TASK_KNOWN False

    def __init__(self, cfg, space=None):
        super().__init__()
        check(cfg)
        require_wandb(cfg)
        self.check_cfg(cfg)
        if not (cfg.TEST.TASK_KNOWN or self.tests_without_task):
            raise UserError(f"TEST.TASK_KNOWN False: {method_name(cfg)} tests one task at a time; leave it True")
        self.cfg = cfg
        cuda = torch.cuda.is_available() and cfg.USE_CUDA
        self.device = DEVICE.get() or torch.device("cuda:0" if cuda else "cpu")
        self.output_dir = cfg.OUTPUT_DIR
        seed = settle_seed(cfg)
        set_random_seed(seed)
        if (space := space or TASKS.get()) is None:
            self.build_data_loader()
            self._check_splits()
        else:
            self.set_tasks(space)
        tasks = getattr(getattr(self.dm, "space", None), "num_tasks", 1)
        self.max_epoch, self.max_steps = run_length(cfg, tasks, len(self.train_loader_x or ()))
        set_random_seed(seed)  # the model's initial values do not depend on what reading the data drew
        self.build_model()
        self.evaluator = self.build_evaluator()
        if not self.learns:
            self.max_epoch = 0

    # ---- parts, in the order they are built ----

    def check_cfg(self, cfg):
        """Hook: raise UserError for settings that this trainer cannot work with."""

    def build_data_loader(self):
        """Set dm, the loaders, and the properties of the data."""
        self._use_data(DataManager(self.cfg))

    def set_tasks(self, space):
        """Set the tasks in place of data: there are no images and no loaders."""
        known = {"num_classes": space.num_classes, "lab2cname": dict(space.lab2cname), "num_source_domains": 0}
        self._use_data(SimpleNamespace(space=space, dataset=DatasetBaseMT(space), **known))

    def _use_data(self, dm):
        self.dm = dm
        for name in LOADERS:  # a data manager written for Dassl does not have all of them
            setattr(self, name, getattr(dm, name, None))
        self.num_classes, self.num_source_domains, self.lab2cname = dm.num_classes, dm.num_source_domains, dm.lab2cname

    def build_model(self):
        """Build self.model and register the learned modules (register_model). By default, as in Dassl: a SimpleNet."""
        self.model = SimpleNet(self.cfg, self.cfg.MODEL, self.num_classes)
        if self.cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, self.cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM, epochs=self.max_epoch)
        self.register_model("model", self.model, self.optim, self.sched)

    def build_evaluator(self):
        """Build the evaluator of tests and validation."""
        return build_evaluator(self.cfg, lab2cname=self.lab2cname, space=getattr(self.dm, "space", None))

    def _check_splits(self):
        test, name = self.cfg.TEST, self.cfg.DATASET.NAME
        if self.val_loader is None and (test.SPLIT == "val" or (test.FINAL_MODEL == "best_val" and self.learns)):
            key = "SPLIT val" if test.SPLIT == "val" else "FINAL_MODEL best_val"
            raise UserError(
                f"TEST.{key} needs a validation split, and {name} has none; "
                "use TEST.SPLIT test and TEST.FINAL_MODEL last_step"
            )

    def close(self):
        """End the worker processes of all loaders and everything else in the background."""
        super().close()
        self.close_bar()
        for owner in (self, self.dm):
            for name in LOADERS:
                end_workers(getattr(owner, name, None))

    # ---- the run ----

    def train(self):
        """Train, resuming an unfinished run, and test. A trainer that does not learn only tests."""
        super().train(self.start_epoch, self.max_epoch)

    def _begin(self):
        """Create the output folder, and begin the run of Weights & Biases."""
        os.makedirs(self.output_dir, exist_ok=True)
        if self.cfg.TRAIN.WANDB and not any(isinstance(writer, WandbRun) for writer in self._writers):
            self._writers.append(WandbRun(self.cfg))

    def before_train(self):
        self._begin()
        if self.learns:
            self._resume()
        replace_run(self.output_dir)
        if self.learns:
            checkpoints.tidy(self.output_dir, self.get_model_names(), *checkpoints.kept(self.cfg))
            if self.cfg.TRAIN.TENSORBOARD:
                self.init_writer(os.path.join(self.output_dir, TENSORBOARD))
        write_config(self.cfg)
        write_tasks(self)
        write_results(self, "running")
        loader = getattr(self, "train_loader_x", None)
        self.num_batches = len(loader) if loader is not None else 0
        if self.learns and self.start_epoch < self.max_epoch:
            self.bar = run_bar(self)
        self.time_start = time.time()

    def _resume(self):
        """Resume the run in the output folder; without one, the run in RESUME."""
        directory, names = self.output_dir, self.get_model_names()
        own = bool(names and checkpoints.saved_epochs(directory, names)) and not replacing(directory)
        if own and (change := split_change(self, directory)):
            raise UserError(f"{change}. Put them back to go on with it, or start anew with --overwrite")
        if self.cfg.RESUME and not own:
            directory = self.cfg.RESUME
            if os.path.abspath(directory) != os.path.abspath(self.output_dir):
                checkpoints.require_checkpoint(directory, names=names)
                if changed := changed_settings(self.cfg, directory):
                    print(f"WARNING: {directory} was trained with another {', '.join(key for key, _, _ in changed)}")
                if change := split_change(self, directory):
                    print(f"WARNING: {change}, so that test images may be among those it was trained on")
        if self.cfg.RESUME or not replacing(self.output_dir):
            self.start_epoch = self.resume_model_if_exist(directory)
        if self.start_epoch > self.max_epoch:
            length = "OPTIM.STEPS_PER_SHOT gives" if self.max_steps else "OPTIM.MAX_EPOCH is"
            raise UserError(
                f"{directory} was trained for {counted(self.start_epoch, 'epoch')}, {length} {self.max_epoch}; "
                "raise it, or choose another --output-dir"
            )

    def after_epoch(self):
        cfg = self.cfg
        last = self.epoch + 1 == self.max_epoch
        freq = cfg.TRAIN.CHECKPOINT_FREQ
        if cfg.TEST.FINAL_MODEL == "best_val" and not cfg.TEST.NO_TEST:
            result = self.validate()
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=checkpoints.BEST)
        if last or (freq > 0 and (self.epoch + 1) % freq == 0):
            self.save_model(self.epoch, self.output_dir)
            checkpoints.prune(self.output_dir, self.get_model_names(), *checkpoints.kept(cfg))

    def after_train(self):
        self.close_bar()
        if self.learns:
            print("Finished training\nFinish training")  # programs that read logs wait for one of the two lines
        if self.cfg.TEST.NO_TEST:
            self._complete()
        else:
            if self.learns and self.cfg.TEST.FINAL_MODEL == "best_val":
                if math.isfinite(self.best_result):
                    print(f"Testing the best model on validation ({self.best_result:.2f})")
                    self.load_model(self.output_dir)
                else:
                    print("WARNING: no epoch had a validation result; testing the last model")
            self.test_and_record()
        print(f"Elapsed: {timedelta(seconds=round(time.time() - self.time_start))}")
        self.close_writer()

    def test_and_record(self):
        """Test, and write config.yaml and results.json of the finished run.

        Returns:
            the headline result, in per cent.
        """
        self._begin()
        replace_run(self.output_dir)
        start = time.time()
        if self.cfg.TEST.CONFIDENCE:
            fit_temperatures(self)
        result = self.test()
        if self.cfg.TEST.CONFIDENCE:
            measure_unknown(self)
        self.seconds["test"] += time.time() - start
        write_config(self.cfg)
        write_tasks(self)
        record_predictions(self)
        self._complete(getattr(self.evaluator, "report", None))
        return result

    def _complete(self, report=None):
        write_results(self, "complete", report)
        for writer in self._writers:
            writer.finish(known_results(self.output_dir))

    def validate(self):
        """The result on the validation split during training, printed under its own heading."""
        self.evaluator.validating = True
        try:
            return self.test(split="val")
        finally:
            self.evaluator.validating = False

    def test(self, split=None):
        """Evaluate on a split ("val" or "test", default TEST.SPLIT). Random states stay unchanged.

        Returns:
            the evaluator's first result, in per cent.
        """
        split = split or self.cfg.TEST.SPLIT
        self.evaluator.reset()
        self.test_paths = []
        for output, target, batch in self.outputs(split, f"Evaluating on the {split} split"):
            self.evaluator.process(output, *target)
            self.test_paths += self.tested_paths(batch)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def tested_paths(self, batch):
        """Path of the image of each row of a batch's output."""
        return batch.get("impath", ())

    def split_loader(self, split):
        """The loader of a split: "val", "test", or "unknown" for test images of no class. None if it has no images."""
        return getattr(self, f"{split}_loader", None)

    @torch.no_grad()
    def outputs(self, split, line):
        """Yield (output, targets of the evaluator, batch) of all batches of a split, after printing `line`.

        Random states stay unchanged.
        """
        loader = self.split_loader(split)
        if loader is None:
            raise UserError(f"{self.cfg.DATASET.NAME} has no images in its {split} split to evaluate on")
        self.set_model_mode("eval")
        print(line)
        with preserved_rng():
            for batch in progress(loader, f"{split} split"):
                output, target = self.test_batch(batch)
                if getattr(self.evaluator, "needs_task", False) and len(target) == 1:
                    target.append(batch["task"])
                yield output, target, batch

    def test_batch(self, batch):
        """The model's output and the list of targets for one batch of a test."""
        input, *target = self.parse_batch_test(batch)
        return self.model_inference(input), target

    def model_inference(self, input):
        return self.model(input)

    def parse_batch_test(self, batch):
        """(images (B, 3, H, W), labels (B,)) on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)

    # ---- one epoch ----

    def learn(self, batches):
        """Train on the batches of one epoch: the inner loop of all trainers."""
        self.set_model_mode("train")
        if not self.num_batches:
            raise UserError(f"{self.cfg.DATASET.NAME} has no training images, so no batch can be formed")
        meter = EpochMeter(self)
        for self.batch_idx, batch in enumerate(batches):
            meter.data_ready()
            batch = batch if self.batch_idx else watched(self, batch)
            self._batch = batch
            summary = self.forward_backward(*batch if isinstance(batch, Pair) else (batch,)) or {}
            check_tasks_read(self, batch)
            for name, value in summary.items():
                if "loss" in name:
                    self.detect_anomaly(value)
            meter.batch_done(summary)
            program.check()


class TrainerX(SimpleTrainer):
    """A trainer on labelled images."""

    def run_epoch(self):
        self.num_batches = len(self.train_loader_x) if self.train_loader_x is not None else 0
        batches = start(self.train_loader_x) if self.num_batches else ()
        if self.max_steps:
            batches = islice(batches, self.max_steps - self.epoch * self.num_batches)
        self.learn(batches)

    def parse_batch_train(self, batch):
        """(images (B, 3, H, W), labels (B,), domains (B,)) on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device), batch["domain"].to(self.device)
