#!/bin/sh
# Zero-shot CLIP with the ensemble of CLIP's 80 templates for ImageNet (TRAINER.ZSCLIP.ENSEMBLE: or of each task's own),
# on one task of a suite or, without TASKID, on all at once:
#   sh zeroshot2.sh icon5 tiny_ep20
#   sh zeroshot2.sh icon5 tiny_ep20 2
# Results: output/ZeroshotCLIP2/CFG/DATASET[-TASKID]

TRAINER=ZeroshotCLIP2
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG TASKID:optional" "icon5 tiny_ep20 2" "$@"
shift "$ARGC"
one_task

# nothing is drawn at random, so there is one run and not one a seed
run "$OUTPUT/output/$TRAINER/$CFG/$DATASET${TASKID:+-$TASKID}" --seed 1 --eval-only \
    DATASET.SUBSAMPLE_TASKS "${TASKID:+task}${TASKID:-all}" "$@"
