#!/bin/sh
# Base to new, first half: KgCoOp learns the base classes of every task (the first half, rounded up), or of task TASKID:
#   sh main_kgcoop_base2new_train.sh icon5 tiny_ep20 4 8.0 True
# Then main_kgcoop_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/KgCoOp/CFG_SHOTSshots/wW_tsc...[/taskTASKID]/base/seedS

TRAINER=KgCoOp
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS W TSC TASKID:optional" "icon5 tiny_ep20 4 8.0 True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/w${W}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/base2new/$FOLDER/base" \
    DATASET.SUBSAMPLE_CLASSES base DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.KGCOOP.W "$W" TRAINER.KGCOOP.TSC "$TSC" "$@"
