#!/bin/sh
# Linear probe (trainer LinearProbe) of tasks 0 to MAXTASKID of a suite, one run per task, number of shots and seed.
# Without MAXTASKID, all tasks are in one run, which gives the same classifiers:
#   sh linearprob.sh icon5 tiny 4
#   sh linearprob.sh general10 rn50 9
# SHOTS (environment): numbers of images per class, default "1 2 4 8 16".
# Results: output/DATASET/LinearProbe/CFG_SHOTSshots[/taskTASKID]/seedS

TRAINER=LinearProbe
. "$(dirname -- "$0")/lib.sh"
ALL_SHOTS=${SHOTS:-1 2 4 8 16}
for SHOTS in $ALL_SHOTS; do
    EXPECTED=$(expectation SHOTS "$SHOTS")
    if [ -n "$EXPECTED" ]; then stop "SHOTS has to be numbers, each $EXPECTED; found \"$SHOTS\""; fi
done
arguments "DATASET CFG MAXTASKID:optional" "icon5 tiny 4" "$@"
shift "$ARGC"
if [ -n "$MAXTASKID" ]; then # a suite that does not say which tasks it has finds out later
    LAST=$(cd -- "$REPO" && "$PYTHON" -m scripts.suite_tasks "configs/datasets/$DATASET.yaml" "$@" 2>/dev/null) || LAST=
    LAST=${LAST##* }
    if [ "$MAXTASKID" -gt "${LAST:-$MAXTASKID}" ]; then
        stop "MAXTASKID has to be the number of a task of $DATASET, 0 to $LAST, found \"$MAXTASKID\""
    fi
fi

probe() {
    for SHOTS in $ALL_SHOTS; do
        # shellcheck disable=SC2086  # TASK_KEYS is empty or a pair
        run_seeds "$OUTPUT/output/$DATASET/$TRAINER/${CFG}_${SHOTS}shots$TASK_FOLDER" \
            DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS "$@"
    done
}

TASKID=${MAXTASKID:+0}
one_task
probe "$@"
while [ "${TASKID:-0}" -lt "${MAXTASKID:-0}" ]; do
    TASKID=$((TASKID + 1))
    one_task
    probe "$@"
done
