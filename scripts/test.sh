#!/bin/sh
# Installs what is needed, then lint, formatting, parity with the published methods, and the test-suite.
# Arguments go to pytest: sh scripts/test.sh -x -k scripts

. "$(dirname -- "$0")/lib.sh"

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
check pytest "$@"

if [ -n "$FAILED" ]; then
    printf '\nfailed:%s\n' "$FAILED" >&2
    exit 1
fi
printf '\nall checks passed\n'
