#!/bin/sh
# SoftCPT* (trainer MTCoOp), one run per seed: SoftCPT-NATA with task features learned from scratch instead of encoded
# task names. This is our interpretation; no source defines this row (docs/methods.md):
#   sh main_mtcoop_star.sh icon5 tiny_ep20 4 16
# Results: output/DATASET/MTCoOp/CFG_SHOTSshots/star_nctxL/seedS

TRAINER=MTCoOp
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS N_CTX TASKID:optional" "icon5 tiny_ep20 4 16" "$@"
shift "$ARGC"
one_task

# shellcheck disable=SC2086  # TASK_KEYS is empty or a pair
run_seeds "$OUTPUT/output/$DATASET/$TRAINER/${CFG}_${SHOTS}shots/star_nctx${N_CTX}$TASK_FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.MTCOOP.N_CTX "$N_CTX" TRAINER.MTCOOP.TASK_FEATURE rand "$@"
