"""Print what scripts would run with --dry-run: `python -m reporting.dry_run FILE PYTHON`.

FILE contains records of NUL-terminated words: the number of the words that follow, then the arguments of a call of
train.py or a line that begins with #. The calls are printed as lines for a shell in the repository, with notes as
comments. Each mistake is printed once to standard error; the exit code is then 2. No data, weights or checkpoints are
read.
"""

import contextlib
import io
import shlex
import sys
from pathlib import Path

from dassl import program
from reporting.calls import LAST, configuration, option, pairs_of_words
from reporting.run_info import state

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("--root", "--output-dir", "--model-dir", "--config-file", "--dataset-config-file")


def records(text: str) -> list[list[str]]:
    """The records of FILE."""
    words, found = iter(text.split("\0")[:-1]), []
    for number in words:
        found.append([next(words) for _ in range(int(number))])
    return found


def line(python: str, arguments: list[str]) -> str:
    """A call of train.py as a line for a shell in the repository."""
    words = [_short(word) if before in FOLDERS else word for before, word in pairs_of_words(arguments)]
    return shlex.join([_short(python), "train.py", *words])


def _short(path: str) -> str:
    return path.removeprefix(f"{REPOSITORY}/") or path


def look(arguments: list[str]) -> tuple[str, list[str], str]:
    """(state of the output folder, arguments to print, mistake in the arguments or "") of a call of train.py."""
    from dassl.utils.errors import describe, is_user_error
    from datasets.explain import explained

    folder = Path(option(arguments, "--output-dir"))
    try:
        cfg = configuration(arguments)
        if option(arguments, "--load-epoch") == LAST:
            arguments, place = list(arguments), arguments.index(LAST)
            arguments[place] = str(cfg.OPTIM.MAX_EPOCH)
            if cfg.OPTIM.STEPS_PER_SHOT:  # only the data tell the number of epochs; train.py takes the newest model
                del arguments[place - 1 : place + 1]
        rest = [word for word in arguments if word != "--overwrite"]
        return state(folder, [] if "--overwrite" in arguments else rest), arguments, ""
    except Exception as error:
        if not is_user_error(error):
            raise
        return "", arguments, describe(explained(error))


@program.entry
def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
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
            print(f"# {'removes the run' if '--overwrite' in words else 'continues the run'} in {folder}")
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
