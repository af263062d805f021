"""`python -m sweeps NAME ARGUMENT ...`: what scripts/NAME.sh does."""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before all other imports

import sys

from .arguments import Reader, comment
from .dry_run import dry_run
from .launchers import LAUNCHERS, UsageError
from .local import Local
from .requests import script_calls
from .scripts import PLANS, run_script
from .work import FAILED, REFUSED, Attended, work


@program.entry(resume="the same command continues from the last checkpoints")
def main(arguments: list[str]) -> int:
    name, *words = arguments
    preview, overwrite = "--dry-run" in words, "--overwrite" in words
    words = [word for word in words if word not in ("--dry-run", "--overwrite")]
    if words[:1] in (["-h"], ["--help"]):
        print(Reader(name, LAUNCHERS[name]).help() if name in LAUNCHERS else comment(name))
        return 0
    try:
        if name in PLANS:
            return run_script(name, words, preview, overwrite)
        found = script_calls(name, words)
    except UsageError as error:
        text = str(error)
        print(text if text.startswith(f"{name}.sh: ") else f"{name}.sh: {text}", file=sys.stderr)
        return 2
    if preview:
        return dry_run(found, overwrite)
    jobs = work(found, Local(1), Attended(f"{name}.sh"), overwrite, go_on=False)
    failed = [job for job in jobs if job.state == FAILED]
    return failed[0].status if failed else 2 if any(job.state == REFUSED for job in jobs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
