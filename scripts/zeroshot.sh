#!/bin/sh
# Zero-shot CLIP with each task's hand-written template, on one task of a suite or, without TASKID, on all at once:
#   sh zeroshot.sh icon5 tiny_ep20
#   sh zeroshot.sh icon5 tiny_ep20 2
# Results: output/ZeroshotCLIP/CFG/DATASET[-TASKID]

TRAINER=ZeroshotCLIP
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG TASKID:optional" "icon5 tiny_ep20 2" "$@"
shift "$ARGC"
one_task

# nothing is drawn at random, so there is one run and not one a seed
run "$OUTPUT/output/$TRAINER/$CFG/$DATASET${TASKID:+-$TASKID}" --seed 1 --eval-only \
    DATASET.SUBSAMPLE_TASKS "${TASKID:+task}${TASKID:-all}" "$@"
