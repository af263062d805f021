#!/bin/sh
# Installs what is needed, then lint, formatting, parity with the published methods, and the test-suite.
# Arguments go to pytest: sh scripts/test.sh -x -k scripts
# JOBS (environment) test processes side by side; default: as many as there are processors, at most 4.

. "$(dirname -- "$0")/lib.sh"
if [ -n "$DRY_RUN$OVERWRITE" ]; then stop "makes no runs, so it takes no${DRY_RUN:+ $DRY_RUN}${OVERWRITE:+ $OVERWRITE}"; fi

prepare_python
cd "$REPO"

FAILED=
check() {
    echo
    echo "== $*"
    "$PYTHON" -m "$@" || FAILED="$FAILED
    python -m $*"
}

check ruff check
check ruff format --check
check tests.parity tests/parity/cases
several_jobs
if [ "$JOBS" -gt 1 ]; then set -- -n "$JOBS" --dist worksteal "$@"; fi
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export OMP_NUM_THREADS
check pytest "$@"

if [ -n "$FAILED" ]; then
    printf '\nfailed:%s\n' "$FAILED" >&2
    exit 1
fi
printf '\nall checks passed\n'
