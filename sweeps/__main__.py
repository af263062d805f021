"""What scripts/NAME.sh does: `python sweeps/__main__.py NAME ARGUMENT ...`, or `python -m sweeps` in the repository."""

import sys

if __name__ == "__main__":  # before all other imports
    from pathlib import Path

    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the current folder may have packages of these names
    from dassl import program

    program.begin()

import re

from dassl import program
from sweeps.arguments import Reader, comment
from sweeps.dry_run import dry_run
from sweeps.launchers import LAUNCHERS, UsageError
from sweeps.local import Local
from sweeps.requests import SCRIPTS, script_calls
from sweeps.scripts import PLANS, help_of, run_script
from sweeps.work import FAILED, REFUSED, Attended, work


@program.entry(resume="the same command continues from the last checkpoints")
def main(arguments: list[str]) -> int:
    name, *words = arguments or [""]
    if name not in (*LAUNCHERS, *SCRIPTS, *PLANS):
        print(f'expected the name of a launcher in scripts/, such as main_coop; found "{name}"', file=sys.stderr)
        return 2
    preview, overwrite = "--dry-run" in words, "--overwrite" in words
    words = [word for word in words if word not in ("--dry-run", "--overwrite")]
    if words[:1] in (["-h"], ["--help"]):
        spec = LAUNCHERS.get(name)
        print(Reader(name, spec).help() if spec else help_of(name) if name in PLANS else comment(name))
        return 0
    try:
        if name in PLANS:
            return run_script(name, words, preview, overwrite)
        found = script_calls(name, words)
    except UsageError as error:
        text = str(error)
        told = re.match(r"\w+\.sh: ", text) or text.startswith(comment(name))
        print(text if told else f"{name}.sh: {text}", file=sys.stderr)
        return 2
    if preview:
        return dry_run(found, overwrite)
    jobs = work(found, Local(1), Attended(f"{name}.sh"), overwrite, go_on=False)
    failed = [job for job in jobs if job.state == FAILED]
    return failed[0].status if failed else 2 if any(job.state == REFUSED for job in jobs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
