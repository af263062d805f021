"""`python -m tests.parity DIR`: run every case in DIR, print the worst error of each, exit 1 above tolerance."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.parity.runner import NotHere, run_case


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("dir", type=Path, help="folder of <case>.json, <case>.npz and clip_*.npz")
    folder = parser.parse_args(argv).dir
    cases = [path for path in sorted(folder.glob("*.json")) if path.with_suffix(".npz").is_file()]
    if not cases:
        print(f"{folder}: no cases (<case>.json with <case>.npz beside it)", file=sys.stderr)
        return 2
    failed = absent = 0
    for path in cases:
        try:
            errors = run_case(path)
        except NotHere as method:
            absent += 1
            print(f"{path.stem:24s} no trainer here for {method}: not run")
            continue
        except Exception as error:  # whatever is wrong with a case, the others are run
            failed += 1
            print(f"{path.stem:24s} FAILED, it does not run: {type(error).__name__}: {' '.join(str(error).split())}")
            continue
        over = {name: error for name, (error, limit) in errors.items() if not error <= limit}
        failed += bool(over)
        worst = max(errors, key=lambda name: errors[name][0] / errors[name][1])
        verdict = "FAILED " + ", ".join(f"{name} {error:.1e}" for name, error in over.items()) if over else "ok"
        print(f"{path.stem:24s} worst {errors[worst][0]:.1e} (limit {errors[worst][1]:.0e}) {worst:40s} {verdict}")
    print(f"{len(cases) - absent - failed} passed, {failed} failed, {absent} not run")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
