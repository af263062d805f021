#!/bin/sh
# Base to new, first half: unified prompts learn the base classes of every task (the first half, rounded up), or of task TASKID:
#   sh main_mtupt_base2new_train.sh icon5 tiny_ep20 4 soft upt 8
# Then main_mtupt_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/MTUPT/CFG_SHOTSshots/sharing..._mode..._nctxN[/taskTASKID]/base/seedS

TRAINER=MTUPT
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS SHARING MODE N_CTX TASKID:optional" "icon5 tiny_ep20 4 soft upt 8" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/sharing${SHARING}_mode${MODE}_nctx${N_CTX}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/base2new/$FOLDER/base" \
    DATASET.SUBSAMPLE_CLASSES base DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.MTUPT.SHARING "$SHARING" TRAINER.MTUPT.MODE "$MODE" TRAINER.MTUPT.N_CTX "$N_CTX" "$@"
