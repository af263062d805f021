"""The progress of a training run: a bar on a terminal, lines elsewhere and in the log."""

import datetime
import sys
import time

from tqdm import tqdm

from dassl.program import checked
from dassl.utils import AverageMeter, MetricMeter, log_only


def on_terminal():
    """Whether both output streams are terminals, so that somebody watches. Replaced streams may lack isatty()."""
    return all(hasattr(stream, "isatty") and stream.isatty() for stream in (sys.stdout, sys.stderr))


class EpochMeter:
    """Collect times and numbers of the batches of one epoch, and print the training line.

    Args:
        trainer: the line shows its epoch, max_epoch, batch_idx, num_batches and learning rate.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.losses, self.batch_time, self.data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.start = time.time()

    def data_ready(self):
        """Note that the next batch has been read, and its learning rate: after the last batch the rate has changed."""
        self.lr = self.trainer.get_current_lr()
        self.data_time.update(time.time() - self.start)

    def batch_done(self, summary):
        """Note that the step on a batch is done; `summary` is a dict of its numbers."""
        t = self.trainer
        self.batch_time.update(time.time() - self.start)
        self.losses.update(summary)
        freq = t.cfg.TRAIN.PRINT_FREQ
        due = (t.batch_idx + 1) % freq == 0 or (t.num_batches < freq and t.batch_idx + 1 == t.num_batches)
        if t.bar is not None:
            t.bar.update(1)
        if due:
            line = self.line()
            if t.bar is None:
                print(line)
            else:
                log_only(line)
                t.bar.set_postfix_str(f"epoch {t.epoch + 1}/{t.max_epoch} {self.losses}", refresh=False)
        step = t.epoch * t.num_batches + t.batch_idx
        for name, meter in self.losses.meters.items():
            t.write_scalar(f"train/{name}", meter.avg, step)
        t.write_scalar("train/lr", self.lr, step)
        self.start = time.time()

    def line(self):
        t = self.trainer
        left = t.num_batches - t.batch_idx - 1 + (t.max_epoch - t.epoch - 1) * t.num_batches
        eta = datetime.timedelta(seconds=int(self.batch_time.avg * left))
        return "\t".join(
            [
                f"epoch [{t.epoch + 1}/{t.max_epoch}][{t.batch_idx + 1}/{t.num_batches}]",
                f"time {self.batch_time.val:.3f} ({self.batch_time.avg:.3f})",
                f"data {self.data_time.val:.3f} ({self.data_time.avg:.3f})",
                f"eta {eta}",
                str(self.losses),
                f"lr {self.lr:.3e}",
            ]
        )


def run_bar(trainer):
    """A bar over all batches of the run; None if lines are printed instead."""
    if not on_terminal() or not trainer.num_batches:
        return None
    total, done = trainer.max_epoch * trainer.num_batches, trainer.start_epoch * trainer.num_batches
    return tqdm(total=total, initial=done, desc="training", unit="batch", dynamic_ncols=True)


def progress(iterable, what):
    """Show a bar over an iterable on a terminal; elsewhere show nothing. Signals are heeded between items."""
    total = len(iterable) if hasattr(iterable, "__len__") else None
    return tqdm(checked(iterable), what, total, leave=False, dynamic_ncols=True, disable=not on_terminal())
