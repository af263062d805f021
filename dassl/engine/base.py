"""TrainerBase: registered models, optimiser steps, checkpoints, and the loop over epochs."""

import os
import time
from collections import OrderedDict

import torch

from dassl import program
from dassl.engine.writers import TensorBoard
from dassl.runs import checkpoint_file, checkpoints
from dassl.utils import get_rng_state, preserved_rng, save_checkpoint, set_rng_state
from dassl.utils.errors import NonFiniteLossError, UserError


class TrainerBase:
    """The base of all trainers: models registered by name with their optimiser and schedule, and the loop over epochs.

    An optimiser or schedule that is registered under several names is one object and steps once.

    Attributes:
        learns: class attribute; False for trainers that train nothing, whose train() only tests.
        scaler: GradScaler of PREC amp, or None.
        run_extra: entries for results.json, e.g. {"backbone": "tiny", "hashes": {"weights": ...}, "precision": "fp32"}.
        epoch, batch_idx, num_batches: position of the loop, counted from 0.
        epochs_done: number of epochs that the weights have been trained.
        best_result: best result on the validation split so far (TEST.FINAL_MODEL best_val).
        seconds: {"train", "test"}, summed over all parts of a resumed run.
    """

    learns = True
    scaler = None
    bar = None
    dm = None
    cfg = None

    def __init__(self):
        self._models, self._optims, self._scheds = OrderedDict(), OrderedDict(), OrderedDict()
        self._writers = []
        self._batch = self._resumed_rng = self._train_began = None
        self.epoch = self.start_epoch = self.max_epoch = self.epochs_done = 0
        self.batch_idx = self.num_batches = 0
        self.best_result = float("-inf")
        self.seconds = {"train": 0.0, "test": 0.0}
        self.run_extra = {}

    # ---- models ----

    def register_model(self, name="model", model=None, optim=None, sched=None):
        """Register a module under a name. Its state is saved, and its optimiser and schedule (or None) step.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._models:
            raise ValueError(f"two models are registered as {name!r}; give each model its own name")
        self._models[name], self._optims[name], self._scheds[name] = model, optim, sched

    def get_model_names(self, names=None):
        """All registered names, or the given names (one or a list) after a check."""
        registered = list(self._models)
        if names is None:
            return registered
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in registered:
                raise ValueError(f"no model is registered as {name!r}; there are: {', '.join(registered) or 'none'}")
        return names

    def _distinct(self, objects, names):
        """The objects in order, each once even if it is registered under several names."""
        return list(
            {id(objects[n]): objects[n] for n in self.get_model_names(names) if objects[n] is not None}.values()
        )

    def set_model_mode(self, mode="train", names=None):
        """Set the mode of models: "train", or evaluation mode ("eval", "test", "val")."""
        if mode not in ("train", "eval", "test", "val"):
            raise ValueError(f"unknown mode {mode!r}; expected train, eval, test or val")
        for model in self._distinct(self._models, names):
            model.train(mode == "train")

    def get_current_lr(self, names=None):
        """Learning rate of the first group of the first optimiser; 0 without an optimiser."""
        optims = self._distinct(self._optims, names)
        return optims[0].param_groups[0]["lr"] if optims else 0.0

    # ---- steps ----

    @property
    def _repeat(self):
        """How often each optimiser and schedule steps: once, or as OPTIM.LEGACY_REPEAT_STEP says."""
        return max(self.cfg.OPTIM.get("LEGACY_REPEAT_STEP", 0), 1) if self.cfg is not None else 1

    def update_lr(self, names=None):
        """Step every schedule: once per epoch, or per step with OPTIM.LR_PER step."""
        for scheduler in self._distinct(self._scheds, names):
            for _ in range(self._repeat):
                scheduler.step()

    def model_zero_grad(self, names=None):
        for optimizer in self._distinct(self._optims, names):
            optimizer.zero_grad()

    def model_backward(self, loss):
        """Check the loss and compute its gradients, which a GradScaler scales."""
        self.detect_anomaly(loss)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def model_update(self, names=None):
        """Step every optimiser. A GradScaler steps each of them once in any case."""
        for optimizer in self._distinct(self._optims, names):
            if self.scaler is not None:
                self.scaler.step(optimizer)
                continue
            for _ in range(self._repeat):
                optimizer.step()
        if self.scaler is not None:
            self.scaler.update()

    def model_backward_and_update(self, loss, names=None):
        """Compute the gradients of the loss and step every optimiser."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def detect_anomaly(self, loss):
        """Stop if the loss is infinite or NaN.

        Raises:
            NonFiniteLossError: naming epoch, batch and the tasks of the batch.
        """
        if torch.isfinite(torch.as_tensor(loss)).all():
            return
        where = f"epoch {self.epoch + 1}, batch {self.batch_idx + 1} of {self.num_batches}"
        raise NonFiniteLossError(
            f"the loss is infinite or NaN in {where}{self._tasks_of_batch()}; learning rate "
            f"{self.get_current_lr():.3e}. The usual remedies: a smaller OPTIM.LR, PREC fp32 instead of half precision"
        )

    def _tasks_of_batch(self):
        batch = self._batch[0] if isinstance(self._batch, tuple) else self._batch
        if not isinstance(batch, dict) or not isinstance(batch.get("task"), torch.Tensor):
            return ""
        space = getattr(self.dm, "space", None)
        positions = sorted(set(batch["task"].tolist()))
        names = [f"{space.tasks[t].id} ({space.tasks[t].name})" if space is not None else str(t) for t in positions]
        return f", tasks of the batch: {', '.join(names)}"

    # ---- checkpoints ----

    def save_model(self, epoch, directory, is_best=False, val_result=None, model_name=""):
        """Write a checkpoint of every registered model: <directory>/<name>/model.pth.tar-<epoch + 1>.

        Args:
            epoch: the finished epoch, counted from 0.
            is_best: write model-best.pth.tar as well.
            model_name: file name instead of model.pth.tar-<epoch + 1>.
        """
        common = {
            "epoch": epoch + 1,
            "val_result": val_result,
            "best_result": self.best_result,
            "rng": get_rng_state(),
            "seconds": self._seconds_now(),
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
        }
        for name in self.get_model_names():
            optimizer, scheduler = self._optims[name], self._scheds[name]
            state = {
                "state_dict": self._models[name].state_dict(),
                "optimizer": optimizer.state_dict() if optimizer is not None else None,
                "scheduler": scheduler.state_dict() if scheduler is not None else None,
                **common,
            }
            save_checkpoint(checkpoint_file.plain(state), os.path.join(directory, name), is_best, model_name=model_name)

    def resume_model_if_exist(self, directory):
        """Restore the newest epoch for which every registered model has an undamaged checkpoint.

        Returns:
            the number of epochs done, 0 if the folder contains no checkpoint.

        Raises:
            UserError: no checkpoint can be read, or the newest one that can be read is of another model.
        """
        names = self.get_model_names()
        damage = None
        for epoch in reversed(checkpoints.saved_epochs(directory, names) if names else []):
            paths = {name: checkpoints.checkpoint_path(directory, name, epoch) for name in names}
            try:
                loaded = {name: checkpoint_file.load_saved(path, epoch) for name, path in paths.items()}
            except UserError as error:
                print(f"WARNING: the checkpoint of epoch {epoch} is skipped: {error}")
                damage = damage or error
                continue
            self._restore(loaded, paths)
            print(f"Resumed from {directory} after epoch {epoch}")
            return epoch
        if damage is not None:
            raise UserError(
                f"no checkpoint in {directory} can be read: {damage}; --overwrite trains from the beginning"
            )
        print(f"No checkpoint in {directory}, training starts from the beginning")
        return 0

    def _restore(self, loaded, paths):
        restored = set()
        for name, checkpoint in loaded.items():
            if _owners(checkpoint["state_dict"]) != _owners(self._models[name].state_dict()):
                print("WARNING: the checkpoint is of other tasks or classes; the optimiser starts without its history")
                checkpoint = {**checkpoint, "optimizer": None}
            self._load_weights(name, checkpoint["state_dict"], paths[name])
            for part, state in ((self._optims[name], "optimizer"), (self._scheds[name], "scheduler")):
                if part is not None and checkpoint.get(state) is not None and id(part) not in restored:
                    checkpoint_file.load_state(part, checkpoint[state], paths[name], state)
                    restored.add(id(part))
        name, first = next(iter(loaded.items()))
        if self.scaler is not None and first.get("scaler"):
            checkpoint_file.load_state(self.scaler, first["scaler"], paths[name], "scaler")
        if first.get("best_result") is not None:
            self.best_result = first["best_result"]
        self.seconds.update(first.get("seconds") or {})
        self._resumed_rng = first.get("rng")
        if self._resumed_rng is not None:
            with preserved_rng():
                try:
                    set_rng_state(self._resumed_rng)
                except Exception:  # whatever the generators make of a foreign state
                    raise UserError(f"{paths[name]}: its rng is not a state of the random generators") from None
        self.epochs_done = first["epoch"]

    def load_model(self, directory, epoch=None):
        """Load the weights of every registered model.

        Args:
            directory: folder of a run.
            epoch: which checkpoint; None for the best model on validation if there is one, else the newest checkpoint.

        Raises:
            FileNotFoundError: the folder, the checkpoint or the epoch does not exist.
            UserError: the checkpoint was trained with other classes, tasks or settings.
        """
        if not directory:
            print("load_model() is skipped, because no folder is given")
            return
        names = self.get_model_names()
        checkpoints.require_checkpoint(directory, epoch, names)
        if epoch is None and not all(os.path.isfile(checkpoints.checkpoint_path(directory, name)) for name in names):
            epoch = checkpoints.saved_epochs(directory, names)[-1]
        for name in names:
            path = checkpoints.checkpoint_path(directory, name, epoch)
            checkpoint = checkpoint_file.load_saved(path, epoch)
            self._load_weights(name, checkpoint["state_dict"], path)
            self.epochs_done = checkpoint["epoch"]
            print(f"Loaded {path} (epoch {checkpoint['epoch']})")

    def _load_weights(self, name, state_dict, source):
        checkpoint_file.load_state(self._models[name], state_dict, source)

    # ---- scalars ----

    def init_writer(self, log_dir):
        """Write scalars to TensorBoard files in `log_dir`."""
        self._writers.append(TensorBoard(log_dir))

    def close_writer(self):
        """Finish the TensorBoard files and the run of Weights & Biases."""
        while self._writers:
            self._writers.pop().close()

    def close_bar(self):
        """Remove the progress bar of the run, if there is one."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def close(self):
        """End everything that the trainer runs in the background. Call it when the trainer is no longer needed."""
        self.close_writer()

    def write_scalar(self, tag, scalar_value, global_step=None):
        """Log a number "GROUP/NAME" of a batch (group "train") or of an epoch."""
        for writer in self._writers:
            writer.log(tag, scalar_value, global_step)

    # ---- the loop over epochs ----

    def train(self, start_epoch, max_epoch):
        """Run the epochs start_epoch … max_epoch - 1. before_train may change the start."""
        self.start_epoch, self.max_epoch = start_epoch, max_epoch
        self.before_train()
        if self._resumed_rng is not None:
            set_rng_state(self._resumed_rng)
            self._resumed_rng = None
        self._train_began = time.time()
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            if hasattr(self.dm, "set_epoch"):
                self.dm.set_epoch(self.epoch)
            self.before_epoch()
            self.run_epoch()
            self.epochs_done = self.epoch + 1
            self.after_epoch()
            program.check()
        self.seconds = self._seconds_now()
        self._train_began = None
        self.after_train()

    def _seconds_now(self):
        running = time.time() - self._train_began if self._train_began is not None else 0.0
        return {**self.seconds, "train": self.seconds["train"] + running}

    def before_train(self):
        pass

    def after_train(self):
        pass

    def before_epoch(self):
        pass

    def after_epoch(self):
        pass

    def run_epoch(self):
        raise NotImplementedError

    def test(self):
        raise NotImplementedError

    def parse_batch_train(self, batch):
        raise NotImplementedError

    def parse_batch_test(self, batch):
        raise NotImplementedError

    def forward_backward(self, batch):
        raise NotImplementedError

    def model_inference(self, input):
        raise NotImplementedError


def _owners(state_dict):
    """The owners of learned rows that modules have saved beside their tensors."""
    return {key: value for key, value in state_dict.items() if key.endswith("_extra_state") and value}
