#!/bin/sh
# Base to new, second half: the models of main_kgcoop_base2new_train.sh, at their last epoch, on the new classes:
#   sh main_kgcoop_base2new_test.sh icon5 tiny_ep20 4 8.0 True
# Results: output/base2new/DATASET/KgCoOp/CFG_SHOTSshots/wW_tsc...[/taskTASKID]/new/seedS

TRAINER=KgCoOp
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS W TSC TASKID:optional" "icon5 tiny_ep20 4 8.0 True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/w${W}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_new "$OUTPUT/output/base2new/$FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.KGCOOP.W "$W" TRAINER.KGCOOP.TSC "$TSC" "$@"
