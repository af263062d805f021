#!/bin/sh
# Installs the requirements, then runs lint, the formatting check, parity with the published methods, and the tests.
# Arguments go to pytest: sh scripts/test.sh -x -k scripts
# JOBS (environment): concurrent test processes; default: the number of cores, at most 4.

. "$(dirname -- "$0")/lib.sh"
if [ -n "$DRY_RUN$OVERWRITE" ]; then stop "starts no runs, so it takes no${DRY_RUN:+ $DRY_RUN}${OVERWRITE:+ $OVERWRITE}"; fi

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
