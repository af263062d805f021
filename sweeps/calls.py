"""A run of a sweep as a call of train.py: its words, its output folder, and its state."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dassl.runs.record import RESULTS, command_of, has_config, is_complete, is_run
from dassl.runs.results import last_epoch
from dassl.utils.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / "configs"
LAST = "last"  # value of --load-epoch for a model that another call has yet to train
NONE, UNFINISHED, COMPLETE = "none", "unfinished", "complete"
SWITCHES = ("--eval-only", "--no-train", "--overwrite")


class OtherSettings(UserError):
    """A finished run has other settings than the requested ones."""


@dataclass(frozen=True)
class Place:
    """Where runs find their data and write their results.

    Attributes:
        data: folder of the datasets.
        output: folder of output/ and outputd/.
    """

    data: Path = REPOSITORY / "data"
    output: Path = REPOSITORY

    @classmethod
    def of_environment(cls) -> Place:
        """The folders in YOUR_DATA_PATH and OUTPUT, relative to the current folder."""
        data, output = os.environ.get("YOUR_DATA_PATH"), os.environ.get("OUTPUT")
        return cls(*(Path(text).absolute() if text else own for text, own in ((data, cls.data), (output, cls.output))))


@dataclass(frozen=True)
class Call:
    """A call of train.py.

    Attributes:
        folder: output folder.
        trainer: name for --trainer.
        config: file of the method's settings.
        dataset: file of the dataset or suite.
        seed: seed.
        pairs: KEY and VALUE words; a later key wins.
        label: name of the run in lists, "SoftCPT-NATA, 4 images per class, seed 1".
        row: name of the table row that the run belongs to.
        eval_only: test without training.
        model: folder of the run whose last model is tested; None for other runs.
        source: folder of the run whose last model is the start of the training; None for other runs.
        first: the command that trains `model` or `source`, for messages.
        root: folder of the datasets.
    """

    folder: Path
    trainer: str
    config: Path
    dataset: Path
    seed: int
    pairs: tuple[str, ...] = ()
    label: str = ""
    row: str = ""
    eval_only: bool = False
    model: Path | None = None
    source: Path | None = None
    first: str = ""
    root: Path = field(default=Place.data)

    @property
    def settings(self) -> dict[str, str]:
        """{KEY: VALUE} of its pairs."""
        return settings_of(self.pairs)

    @property
    def needs(self) -> Path | None:
        """Folder of the run that has to be finished before this one."""
        return self.model or self.source

    def words(self, overwrite: bool = False, more: Iterable[str] = ()) -> list[str]:
        """The arguments of train.py; `more` KEY VALUE words come before those of the call.

        Raises:
            UserError: `model` or `source` is not a finished training run.
        """
        return self._words(overwrite, more, self.epoch() if self.needs else "")

    def planned(self, overwrite: bool = False, more: Iterable[str] = ()) -> list[str]:
        """The same words, with LAST as the epoch of a model that is not trained yet."""
        epoch = ""
        if self.needs:
            try:
                epoch = self.epoch()
            except UserError:
                epoch = LAST
        return self._words(overwrite, more, epoch)

    def _words(self, overwrite: bool, more: Iterable[str], epoch: str) -> list[str]:
        words = ["--root", str(self.root), "--trainer", self.trainer]
        words += ["--dataset-config-file", str(self.dataset), "--config-file", str(self.config)]
        words += ["--output-dir", str(self.folder)]
        words += ["--overwrite"] if overwrite or self.outdated() else []
        words += ["--seed", str(self.seed)]
        words += ["--model-dir", str(self.model), "--load-epoch", epoch] if self.model else []
        words += ["--eval-only"] if self.eval_only or self.model else []
        start = ["MODEL.INIT_WEIGHTS", f"{self.source}/prompt_learner/model.pth.tar-{epoch}"] if self.source else []
        settings = [*more, *self.pairs]
        if self.eval_only or self.model:  # sets of training images are not needed, and not there for other datasets
            pairs = zip(settings[::2], settings[1::2], strict=True)
            settings = [word for pair in pairs if pair[0] != "DATASET.FEWSHOT_SPLIT" for word in pair]
        return [*words, *settings, *start]

    def epoch(self) -> str:
        """The last epoch of `model` or `source`. Raises UserError if it is not a finished training run."""
        try:
            return str(last_epoch(self.needs))
        except ValueError as error:
            raise UserError(f"{error}\nfirst run {self.first}" if self.first else str(error)) from None

    def outdated(self) -> bool:
        """Whether the run tests a model, or starts from one, and is older than it."""
        if self.needs is None:
            return False
        with contextlib.suppress(OSError):
            return (self.needs / RESULTS).stat().st_mtime > (self.folder / RESULTS).stat().st_mtime
        return False

    def state(self, overwrite: bool = False) -> str:
        """NONE, UNFINISHED or COMPLETE. Raises OtherSettings for a finished run with other settings."""
        if overwrite or self.outdated():
            return NONE
        return state(self.folder, self.planned() if is_complete(self.folder) else [])


def settings_of(pairs: Sequence[str]) -> dict[str, str]:
    """{KEY: VALUE} of KEY VALUE words; a repeated key keeps its last value."""
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def option(words: list[str], name: str) -> str | None:
    """Value of an option among the arguments of train.py; None if the option is absent."""
    return words[words.index(name) + 1] if name in words else None


def pairs_of(words: list[str]) -> dict[str, str]:
    """The KEY VALUE pairs among the arguments of train.py; a repeated key keeps its last value."""
    rest = list(words)
    while rest and rest[0].startswith("--"):
        name = rest.pop(0)
        if name == "--transforms":  # followed by any number of names
            while rest and not rest[0].startswith("--"):
                rest.pop(0)
        elif name not in SWITCHES and "=" not in name:
            del rest[:1]
    return dict(zip(rest[::2], rest[1::2], strict=False))


def state(folder: Path, words: list[str]) -> str:
    """NONE, UNFINISHED or COMPLETE: the run in `folder`.

    With the arguments of train.py, a finished run with other settings is an error, because its numbers are not the
    requested ones. Settings that change no number may differ.

    Raises:
        OtherSettings.
    """
    if not is_run(folder):
        return NONE
    if not is_complete(folder):
        return UNFINISHED
    command = command_of(folder)
    # the words before the first option are the interpreter and train.py
    start = next((index for index, word in enumerate(command) if word.startswith("--")), len(command))
    recorded, asked = pairs_of(command[start:]), pairs_of(words)
    # a run repeated from its config.yaml records no pairs: nothing to compare
    keys = sorted(key for key in recorded.keys() | asked.keys() if recorded.get(key) != asked.get(key))
    if not (recorded and asked and keys):
        return COMPLETE
    from dassl.config import RESULT_NEUTRAL_KEYS as neutral  # imports PyTorch, so only when arguments differ

    keys = [key for key in keys if key not in neutral]
    if not keys:
        return COMPLETE
    changed = _changed(folder, words)
    if changed is None:
        changed = [(key, recorded.get(key, "(not given)"), asked.get(key, "(not given)")) for key in keys]
    if changed:
        there = ", ".join(f"{key} {value}" for key, value, _ in changed)
        now = ", ".join(f"{key} {value}" for key, _, value in changed)
        raise OtherSettings(
            f"{folder} holds a finished run made with other settings.\n  there: {there}\n  now:   {now}\n"
            "Replace it with --overwrite, or set OUTPUT to another folder."
        )
    return COMPLETE


def _changed(folder: Path, words: list[str]) -> list[tuple] | None:
    """(key, value of the run, requested value) of the settings that differ as values; 0.002 and 2e-3 do not.

    None if unknown: for a run without config.yaml.
    """
    from dassl.engine.build import ignored_settings
    from dassl.runs.compare import changed_settings

    with contextlib.redirect_stdout(sys.stderr):
        cfg = configuration(words)
    return changed_settings(cfg, folder, ignored_settings(cfg)) if has_config(folder) else None


def configuration(words: list[str]):
    """Build and check the configuration of a call of train.py, without data and weights.

    Returns:
        yacs CfgNode.

    Raises:
        ValueError, FileNotFoundError: the error that train.py would stop with.
    """
    import datasets  # noqa: F401  registers the datasets
    import train
    import trainers  # noqa: F401  registers the methods and declares their settings
    from dassl.engine.build import TRAINER_REGISTRY, warn_of_unused
    from datasets.suites import asked

    new = option(words, "--load-epoch") == LAST
    try:
        args = train.parse(["1" if new and words[i - 1] == "--load-epoch" else word for i, word in enumerate(words)])
    except SystemExit:
        raise ValueError("train.py does not understand these arguments, see above") from None
    cfg = train.configure(args)
    asked(cfg)  # refuses unknown tasks
    try:
        train.check_arguments(args, cfg)
    except FileNotFoundError:
        if not new:  # otherwise the model has yet to be trained
            raise
    method = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    method = method.__new__(method)  # check_cfg needs nothing that __init__ builds
    method.reads_weights = False
    method.check_cfg(cfg)
    warn_of_unused(cfg, args.opts)
    return cfg
