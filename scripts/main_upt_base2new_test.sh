#!/bin/sh
# Base to new, second half: the models of main_upt_base2new_train.sh, at their last epoch, on the new classes:
#   sh main_upt_base2new_test.sh icon5 tiny_ep20 4 upt 8 True
# Results: output/base2new/DATASET/UPT/CFG_SHOTSshots/mode..._nctxN_tsc...[/taskTASKID]/new/seedS

TRAINER=UPT
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS MODE N_CTX TSC TASKID:optional" "icon5 tiny_ep20 4 upt 8 True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/mode${MODE}_nctx${N_CTX}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_new "$OUTPUT/output/base2new/$FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.UPT.MODE "$MODE" TRAINER.UPT.N_CTX "$N_CTX" TRAINER.UPT.TSC "$TSC" "$@"
