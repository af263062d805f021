#!/bin/sh
# A method on each task of a suite separately: runs LAUNCHER with its arguments once per task.
#   sh per_task.sh main_coop.sh icon5 tiny_ep20 4 16 False False
#   sh per_task.sh main_mtcoop_base2new_train.sh icon5 tiny_ep20 4 0 False 4 False 16 False lin 1
# TASKS (environment): numbers of the tasks, default: all tasks of the suite. Finished runs are skipped,
# interrupted runs resume.
# Results: in the folder of the launcher, one folder per task: .../taskT/seedS. parse_test_res.py combines them when given
# the folder that contains task0, task1, ...

. "$(dirname -- "$0")/lib.sh"

LAUNCHER=$(basename -- "${1:-}")
DATASET=${2:-}
help_wanted "$@"
if [ $# -eq 0 ]; then
    own_comment >&2
    stop "the first argument has to be a launcher in scripts/, e.g. main_coop.sh; found \"\""
elif [ -z "$LAUNCHER" ] || [ ! -f "$SCRIPTS/$LAUNCHER" ] || ! grep -Eq '^(arguments|launch) ' "$SCRIPTS/$LAUNCHER"; then
    stop "the first argument has to be a launcher in scripts/, e.g. main_coop.sh; found \"${1:-}\""
elif [ -n "${TASK:-}" ]; then
    stop "TASK=$TASK is set for one task; TASKS=\"$TASK\" restricts this script to it"
elif [ ! -f "$REPO/configs/datasets/$DATASET.yaml" ]; then
    stop "the second argument has to be a file of configs/datasets; found \"$DATASET\""
fi
shift

usable_python
if [ -z "${TASKS:-}" ]; then
    TASKS=$(cd -- "$REPO" && "$PYTHON" -m scripts.suite_tasks "configs/datasets/$DATASET.yaml" "$@")
fi
export SEEDS OUTPUT PYTHON
unset TASKID
if [ -n "$DRY_RUN" ]; then dry_run_begin; fi
for TASK in $TASKS; do
    if [ -n "$DRY_RUN" ]; then dry_run "# task $TASK"; else echo "== task $TASK"; fi
    # shellcheck disable=SC2086  # zero or more flags
    attended env TASK="$TASK" sh "$SCRIPTS/$LAUNCHER" $FLAGS "$@"
done
