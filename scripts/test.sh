#!/bin/sh
# Installs the requirements, then runs lint, the formatting check, parity with the published methods, and the tests.
# Arguments go to pytest: sh scripts/test.sh -x -k scripts
# JOBS (environment): concurrent test processes; default: the number of cores, at most 4.

SCRIPT=test.sh
. "$(dirname -- "$0")/python.sh"
for argument in "$@"; do
    case $argument in
        --dry-run | --overwrite) stop "starts no runs, so it takes no $argument" ;;
    esac
done

if [ -z "${JOBS:-}" ]; then
    JOBS=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || JOBS=1
    if [ "$JOBS" -gt 4 ]; then JOBS=4; fi
fi
case $JOBS in
    *[!0-9]* | 0 | "") stop "JOBS has to be a number of processes, at least 1; found \"$JOBS\"" ;;
esac

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
if [ "$JOBS" -gt 1 ]; then set -- -n "$JOBS" --dist worksteal "$@"; fi
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export OMP_NUM_THREADS
check pytest "$@"

if [ -n "$FAILED" ]; then
    printf '\nfailed:%s\n' "$FAILED" >&2
    exit 1
fi
printf '\nall checks passed\n'
