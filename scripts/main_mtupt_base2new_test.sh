#!/bin/sh
# Base to new, second half: the models of main_mtupt_base2new_train.sh, at their last epoch, on the new classes:
#   sh main_mtupt_base2new_test.sh icon5 tiny_ep20 4 soft upt 8
# Results: output/base2new/DATASET/MTUPT/CFG_SHOTSshots/sharing..._mode..._nctxN[/taskTASKID]/new/seedS

TRAINER=MTUPT
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS SHARING MODE N_CTX TASKID:optional" "icon5 tiny_ep20 4 soft upt 8" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/sharing${SHARING}_mode${MODE}_nctx${N_CTX}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_new "$OUTPUT/output/base2new/$FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.MTUPT.SHARING "$SHARING" TRAINER.MTUPT.MODE "$MODE" TRAINER.MTUPT.N_CTX "$N_CTX" "$@"
