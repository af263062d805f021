"""Weights & Biases (TRAIN.WANDB): the numbers that TensorBoard gets, settings, command and results of a run.

wandb is imported only if the setting is used. Its environment variables apply, e.g. WANDB_MODE=offline.
"""

from dassl.config import declare
from dassl.config.tree import flatten
from dassl.requirements import met
from dassl.runs.writer import describe
from dassl.utils import preserved_rng
from dassl.utils.errors import UserError
from dassl.utils.tools import finite, without_home

declare("TRAIN.WANDB", "", help="log to this project of Weights & Biases: PROJECT or TEAM/PROJECT; '': do not")

REQUIREMENT = "wandb>=0.19.10"  # as in requirements-wandb.txt
SHOWN = ("trainer", "method", "suite", "protocol", "shots", "seed", "backbone", "command", "git_commit", "versions")
RESULTS = ("mean", "tasks", "zero_shot", "seconds", "learnable_parameters", "peak_memory_bytes")


def require_wandb(cfg):
    """Raise UserError if TRAIN.WANDB does not name a project, or if it does and wandb is not installed."""
    if not cfg.TRAIN.WANDB:
        return
    *team, project = cfg.TRAIN.WANDB.split("/")
    if not project or len(team) > 1 or "" in team:
        raise UserError(f"TRAIN.WANDB {cfg.TRAIN.WANDB}: expected PROJECT or TEAM/PROJECT")
    try:
        import wandb
    except ImportError:
        wandb = None
    if not hasattr(wandb, "init") or not met(REQUIREMENT):  # a folder of this name is a package to Python, too
        raise UserError(
            f"TRAIN.WANDB {cfg.TRAIN.WANDB} needs the package {REQUIREMENT}: pip install -r requirements-wandb.txt; or "
            "leave TRAIN.WANDB empty"
        )


class WandbRun:
    """A run of Weights & Biases, whose files are in OUTPUT_DIR/wandb. They name neither the user nor the machine.

    An interrupted run that is resumed on the same machine goes on there, too, unless it is offline.

    Raises:
        UserError: wandb cannot start the run, e.g. without an account.
    """

    def __init__(self, cfg):
        import wandb

        *team, project = cfg.TRAIN.WANDB.split("/")
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            host="host",
            username="user",
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
        )
        record = describe(cfg)
        config = flatten(cfg) | {name: record[name] for name in SHOWN}
        try:
            with preserved_rng():
                self._run = wandb.init(
                    entity=team[0] if team else None,
                    project=project,
                    dir=cfg.OUTPUT_DIR,
                    name=f"{record['method']} {record['suite']} seed {cfg.SEED}",
                    config=finite(without_home(config)),
                    resume="auto",
                    reinit="create_new",
                    settings=settings,
                )
        except (wandb.Error, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"TRAIN.WANDB {cfg.TRAIN.WANDB}: Weights & Biases cannot start: {reason}. `wandb login` logs in, "
                "WANDB_MODE=offline writes files for a later `wandb sync`, and an empty TRAIN.WANDB turns it off"
            ) from None
        self._axis, self._row, self._axes = None, {}, set()
        self._done = False

    def log(self, tag, value, step):
        """Log a number under "GROUP/NAME". The x axis is the batch for the group train, else the epoch."""
        group = tag.partition("/")[0]
        axis = f"{group}/step" if group == "train" else "epoch"
        if group not in self._axes:
            self._axes.add(group)
            self._run.define_metric(f"{group}/*", step_metric=axis)
        if self._axis != (axis, step):
            self._flush()
            self._axis = axis, step
        self._row[tag] = value

    def _flush(self):
        """Send the numbers that have been logged for one value of an axis: a row."""
        if self._row:
            axis, step = self._axis
            self._run.log({**self._row, axis: step})
            self._row = {}

    def finish(self, record):
        """Add the results of a finished run, from its results.json."""
        results = {name: record.get(name) for name in RESULTS}
        results["tasks"] = {task["key"]: task for task in results["tasks"] or ()}
        self._run.summary.update({"result": results})
        self._done = True

    def close(self):
        """End the run; without `finish` it counts as failed."""
        self._flush()
        self._run.finish(exit_code=0 if self._done else 1)
