#!/bin/sh
# Zero-shot CLIP with the ensemble of CLIP's 80 templates for ImageNet (TRAINER.ZSCLIP.ENSEMBLE selects the
# templates of each task instead), on one task of a suite (TASKID) or on all tasks:
#   sh zeroshot2.sh icon5 tiny_ep20
#   sh zeroshot2.sh icon5 tiny_ep20 2
# Results: output/ZeroshotCLIP2/CFG/DATASET[-TASKID]

TRAINER=ZeroshotCLIP2
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG TASKID:optional" "icon5 tiny_ep20 2" "$@"
shift "$ARGC"
one_task

# nothing is random, so there is a single run instead of one per seed
run "$OUTPUT/output/$TRAINER/$CFG/$DATASET${TASKID:+-$TASKID}" --seed 1 --eval-only \
    DATASET.SUBSAMPLE_TASKS "${TASKID:+task}${TASKID:-all}" "$@"
