"""Print the calls of a sweep and check their settings, without data, weights or checkpoints."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Sequence

from .calls import COMPLETE, LAST, NONE, REPOSITORY, Call, configuration, option, state

FOLDERS = ("--root", "--output-dir", "--model-dir", "--config-file", "--dataset-config-file")


def line(words: list[str]) -> str:
    """A call of train.py as a line for a shell in the repository."""
    python = _short(os.environ.get("PYTHON") or sys.executable)
    short = [_short(word) if before in FOLDERS else word for before, word in zip(["", *words], words, strict=False)]
    return shlex.join([python, "train.py", *short])


def _short(path: str) -> str:
    return path.removeprefix(f"{REPOSITORY}/") or path


def look(words: list[str], checked: dict[tuple[str, ...], int]) -> tuple[str, list[str], str]:
    """(state of the output folder, words to print, mistake in the words or "") of a call of train.py.

    `checked`: {settings: last epoch}, filled here, because calls that differ in seed and folder are checked once. 0:
    only the data tell the number of epochs; then train.py takes the newest model.
    """
    from dassl.utils.errors import describe, is_user_error
    from datasets.explain import explained

    settings = tuple(_settings(words))
    try:
        if settings not in checked or not settings:
            optim = configuration(words).OPTIM
            checked[settings] = 0 if optim.STEPS_PER_SHOT else optim.MAX_EPOCH
        if option(words, "--load-epoch") == LAST:
            place = words.index("--load-epoch")
            epoch = ["--load-epoch", str(checked[settings])] if checked[settings] else []
            words = [*words[:place], *epoch, *words[place + 2 :]]
        overwrite = "--overwrite" in words
        return state(option(words, "--output-dir"), [] if overwrite else words), words, ""
    except Exception as error:
        if not is_user_error(error):
            raise
        return "", words, describe(explained(error))


def _settings(words: list[str]) -> list[str]:
    """The words without seed and output folder; [] for a test of a model that exists, which is checked itself."""
    epoch = option(words, "--load-epoch")
    if epoch not in (None, LAST):
        return []
    own = ("--seed", "--output-dir", "--model-dir")
    return [word for before, word in zip(["", *words], words, strict=False) if before not in own and word not in own]


def dry_run(calls: Sequence[Call], overwrite: bool = False, more: Sequence[str] = ()) -> int:
    """Print all calls as lines for a shell, with comments, and each mistake once to standard error.

    Returns 2 if a call cannot run, else 0.
    """
    skipped, mistakes, printed, missing, label = 0, {}, io.StringIO(), None, ""
    checked: dict[tuple[str, ...], int] = {}
    for call in calls:
        if call.label.partition(", seed")[0] != label:
            label = call.label.partition(", seed")[0]
            print("#", label)
        words = call.planned(overwrite, more)
        with contextlib.redirect_stdout(printed):
            found, words, mistake = look(words, checked)
        new = any(word == LAST or word.endswith(f"-{LAST}") for word in call.planned()) if call.needs else False
        if new and call.needs != missing and call.first:  # once for all runs that need this model
            missing = call.needs
            print(f"# after {call.first}, which has not trained the model of seed {call.seed} yet:")
        folder = _short(str(call.folder))
        if mistake:
            mistakes.setdefault(mistake, []).append(folder)
        elif found == COMPLETE and "--overwrite" not in words:
            skipped += 1
            print(f"# finished already: {folder}")
            continue
        elif found != NONE:
            print(f"# {'removes the run' if '--overwrite' in words else 'continues the run'} in {folder}")
        print(line(words))
    for warning in dict.fromkeys(printed.getvalue().splitlines()):
        print("#", warning)
    print(f"# {len(calls) - skipped} to run" + (f", {skipped} finished already" if skipped else ""), flush=True)
    if mistakes:
        print(f"{sum(map(len, mistakes.values()))} of {len(calls)} cannot run:", file=sys.stderr)
    for mistake, folders in mistakes.items():
        rest = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
        print(f"  {folders[0]}{rest}:\n    " + mistake.replace("\n", "\n    "), file=sys.stderr)
    return 2 if mistakes else 0
