#!/bin/sh
# Zero-shot CLIP with the hand-written template of each task, on one task of a suite (TASKID) or on all tasks:
#   sh zeroshot.sh icon5 tiny_ep20
#   sh zeroshot.sh icon5 tiny_ep20 2
# Results: output/ZeroshotCLIP/CFG/DATASET[-TASKID]

TRAINER=ZeroshotCLIP
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG TASKID:optional" "icon5 tiny_ep20 2" "$@"
shift "$ARGC"
one_task

# nothing is random, so there is a single run instead of one per seed
run "$OUTPUT/output/$TRAINER/$CFG/$DATASET${TASKID:+-$TASKID}" --seed 1 --eval-only \
    DATASET.SUBSAMPLE_TASKS "${TASKID:+task}${TASKID:-all}" "$@"
