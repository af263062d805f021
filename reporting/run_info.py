"""Answer questions of the scripts about a run: `python -m reporting.run_info state|last_epoch|error DIR [TRAIN ARGS]`.

state       prints complete, unfinished or none. If arguments of train.py are given, a finished run with other
            settings is an error, because its numbers are not the requested ones. Settings that change no number may
            differ, e.g. the number of workers, or the epochs of a method without training.
last_epoch  prints the number of the last epoch of a finished training run
error       prints the first line of the error of a failed run, if any

Exit code 2 with a message on standard error if there is no answer, 3 for a finished run with other settings.
"""

import contextlib
import sys
from pathlib import Path

from dassl import program
from dassl.runs.record import command_of, error_of, has_config, is_complete, is_run, last_epoch

SWITCHES = ("--eval-only", "--no-train", "--overwrite")


class OtherSettings(ValueError):
    """A finished run has other settings than the requested ones."""


def pairs(arguments: list[str]) -> dict[str, str]:
    """The KEY VALUE pairs among the arguments of train.py; a repeated key keeps its last value."""
    rest = list(arguments)
    while rest and rest[0].startswith("--"):
        option = rest.pop(0)
        if option == "--transforms":  # followed by any number of names
            while rest and not rest[0].startswith("--"):
                rest.pop(0)
        elif option not in SWITCHES and "=" not in option:
            del rest[:1]
    return dict(zip(rest[::2], rest[1::2], strict=False))


def state(folder: Path, arguments: list[str]) -> str:
    if not is_run(folder):
        return "none"
    if not is_complete(folder):
        return "unfinished"
    command = command_of(folder)
    # the words before the first option are the interpreter and train.py
    start = next((index for index, word in enumerate(command) if word.startswith("--")), len(command))
    recorded, asked = pairs(command[start:]), pairs(arguments)
    # a run repeated from its config.yaml records no pairs: nothing to compare
    keys = sorted(key for key in recorded.keys() | asked.keys() if recorded.get(key) != asked.get(key))
    if not (recorded and asked and keys):
        return "complete"
    try:
        from dassl.config import RESULT_NEUTRAL_KEYS as neutral  # imports PyTorch, so only when arguments differ
    except ImportError:
        neutral = ()
    keys = [key for key in keys if key not in neutral]
    if not keys:
        return "complete"
    changed = _changed(folder, arguments)
    if changed is None:
        changed = [(key, recorded.get(key, "(not given)"), asked.get(key, "(not given)")) for key in keys]
    if changed:
        there = ", ".join(f"{key} {value}" for key, value, _ in changed)
        now = ", ".join(f"{key} {value}" for key, _, value in changed)
        raise OtherSettings(
            f"{folder} holds a finished run made with other settings.\n  there: {there}\n  now:   {now}\n"
            "Replace it with --overwrite, or set OUTPUT to another folder."
        )
    return "complete"


def _changed(folder: Path, arguments: list[str]) -> list[tuple] | None:
    """(key, value of the run, requested value) of the settings that differ as values; 0.002 and 2e-3 do not.

    None if unknown: in a checkout without the engine, or for a run without config.yaml.

    Raises:
        ValueError, FileNotFoundError: a mistake in the arguments.
    """
    try:
        from dassl.engine.build import ignored_settings
        from dassl.runs.compare import changed_settings
        from reporting.calls import configuration

        with contextlib.redirect_stdout(sys.stderr):  # standard output is for the answer
            cfg = configuration(arguments)
    except ImportError:
        return None
    return changed_settings(cfg, folder, ignored_settings(cfg)) if has_config(folder) else None


@program.entry
def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or arguments[0] not in ("state", "last_epoch", "error"):
        print(__doc__, file=sys.stderr)
        return 2
    question, folder, rest = arguments[0], Path(arguments[1]), arguments[2:]
    try:
        answer = {"state": lambda: state(folder, rest), "last_epoch": lambda: last_epoch(folder)}
        print(answer.get(question, lambda: error_of(folder))())
    except OtherSettings as problem:
        print(problem, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
