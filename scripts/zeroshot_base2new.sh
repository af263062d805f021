#!/bin/sh
# Zero-shot CLIP on the base or the new classes of one task of a suite (TASKID) or of all tasks:
#   sh zeroshot_base2new.sh icon5 tiny_ep20 2 new
#   sh zeroshot_base2new.sh icon5 tiny_ep20 base
# Results: output/base2new/ZeroshotCLIP/CFG/{base,new}/DATASET[-TASKID]

TRAINER=ZeroshotCLIP
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG TASKID:optional CLASSES" "icon5 tiny_ep20 2 new" "$@"
shift "$ARGC"
one_task

# nothing is random, so there is a single run instead of one per seed
run "$OUTPUT/output/base2new/$TRAINER/$CFG/$CLASSES/$DATASET${TASKID:+-$TASKID}" --seed 1 --eval-only \
    DATASET.SUBSAMPLE_TASKS "${TASKID:+task}${TASKID:-all}" DATASET.SUBSAMPLE_CLASSES "$CLASSES" "$@"
