"""What the scripts print with --dry-run: `python -m reporting.dry_run FILE PYTHON`.

FILE holds records of words that end in NUL: first how many follow, then the arguments of a call of train.py, or one
line that begins with #. Standard output takes the calls that would be made, each as a line for a shell in the
repository, and what is to be known of them as comments. What is wrong with them goes to standard error, each mistake
once; then the exit status is 2. No data, weights or checkpoints are read.
"""

import contextlib
import io
import shlex
import sys
from pathlib import Path

from reporting.run_info import state

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("--root", "--output-dir", "--model-dir", "--config-file", "--dataset-config-file")
LAST = "last"  # of --load-epoch: that of a run which has not been made


def records(text: str) -> list[list[str]]:
    """The records of FILE."""
    words, found = iter(text.split("\0")[:-1]), []
    for number in words:
        found.append([next(words) for _ in range(int(number))])
    return found


def option(arguments: list[str], name: str) -> str | None:
    """The value of an option among the arguments of train.py; None without it."""
    return arguments[arguments.index(name) + 1] if name in arguments else None


def configuration(arguments: list[str]):
    """The configuration of a call of train.py (yacs CfgNode), checked as far as that needs no data and no weights.

    Raises:
        ValueError, FileNotFoundError: what train.py would refuse the call with.
    """
    import datasets  # noqa: F401  registers the datasets
    import train
    import trainers  # noqa: F401  registers the methods and declares their settings
    from dassl.engine.build import TRAINER_REGISTRY, warn_of_unused
    from datasets.suites import asked

    known = ["1" if word == LAST and before == "--load-epoch" else word for before, word in _pairs(arguments)]
    try:
        args = train.parse(known)
    except SystemExit:
        raise ValueError("train.py does not understand these arguments, see above") from None
    cfg = train.configure(args)
    asked(cfg)  # refuses unknown tasks
    try:
        train.check_arguments(args, cfg)
    except FileNotFoundError:
        if option(arguments, "--load-epoch") != LAST:  # else the run that makes the model has not been made
            raise
    method = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    method = method.__new__(method)  # check_cfg comes before anything is built
    method.reads_weights = False
    method.check_cfg(cfg)
    warn_of_unused(cfg, args.opts)
    return cfg


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(zip(["", *words], words, strict=False))


def line(python: str, arguments: list[str]) -> str:
    """The call of train.py for a shell in the repository."""
    words = [_short(word) if before in FOLDERS else word for before, word in _pairs(arguments)]
    return shlex.join([_short(python), "train.py", *words])


def _short(path: str) -> str:
    return path.removeprefix(f"{REPOSITORY}/") or path


def look(arguments: list[str]) -> tuple[str, list[str], str]:
    """(state of the output folder, arguments to print, what is wrong with them or "") of a call of train.py."""
    from dassl.utils import is_user_error
    from datasets.explain import explained

    folder = Path(option(arguments, "--output-dir"))
    try:
        cfg = configuration(arguments)
        if option(arguments, "--load-epoch") == LAST:
            arguments = list(arguments)
            arguments[arguments.index(LAST)] = str(cfg.OPTIM.MAX_EPOCH)
        rest = [word for word in arguments if word != "--overwrite"]
        return state(folder, [] if "--overwrite" in arguments else rest), arguments, ""
    except Exception as error:
        if not is_user_error(error):
            raise
        return "", arguments, str(explained(error))


def main(arguments: list[str]) -> int:
    text, python = Path(arguments[0]).read_text(encoding="utf-8", errors="surrogateescape"), arguments[1]
    calls, skipped, mistakes, printed = 0, 0, {}, io.StringIO()
    for record in records(text):
        if record[0].startswith("#"):
            print(*record)
            continue
        calls += 1
        with contextlib.redirect_stdout(printed):
            found, words, mistake = look(record)
        folder = _short(option(words, "--output-dir"))
        if mistake:
            mistakes.setdefault(mistake, []).append(folder)
        elif found == "complete" and "--overwrite" not in words:
            skipped += 1
            print(f"# finished already: {folder}")
            continue
        elif found != "none":
            print(f"# {'removes the run' if '--overwrite' in words else 'goes on with the run'} in {folder}")
        print(line(python, words))
    for warning in dict.fromkeys(printed.getvalue().splitlines()):
        print("#", warning)
    print(f"# {calls - skipped} to run" + (f", {skipped} finished already" if skipped else ""), flush=True)
    if mistakes:
        print(f"{sum(map(len, mistakes.values()))} of {calls} cannot run:", file=sys.stderr)
    for mistake, folders in mistakes.items():
        more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
        print(f"  {folders[0]}{more}:\n    " + mistake.replace("\n", "\n    "), file=sys.stderr)
    return 2 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
