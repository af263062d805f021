#!/bin/sh
# Base to new, second half: the models of main_coop_base2new_train.sh, at their last epoch, on the new classes:
#   sh main_coop_base2new_test.sh icon5 tiny_ep20 4 16 False True
# Results: output/base2new/DATASET/CoOp/CFG_SHOTSshots/nctxN_csc..._tsc...[/taskTASKID]/new/seedS

TRAINER=CoOp
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS N_CTX CSC TSC TASKID:optional" "icon5 tiny_ep20 4 16 False True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/nctx${N_CTX}_csc${CSC}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_new "$OUTPUT/output/base2new/$FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.COOP.N_CTX "$N_CTX" TRAINER.COOP.CSC "$CSC" TRAINER.COOP.TSC "$TSC" "$@"
