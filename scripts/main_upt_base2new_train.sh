#!/bin/sh
# Base to new, first half: UPT learns the base classes of every task (the first half, rounded up), or of task TASKID:
#   sh main_upt_base2new_train.sh icon5 tiny_ep20 4 upt 8 True
# Then main_upt_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/UPT/CFG_SHOTSshots/mode..._nctxN_tsc...[/taskTASKID]/base/seedS

TRAINER=UPT
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS MODE N_CTX TSC TASKID:optional" "icon5 tiny_ep20 4 upt 8 True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/mode${MODE}_nctx${N_CTX}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/base2new/$FOLDER/base" \
    DATASET.SUBSAMPLE_CLASSES base DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.UPT.MODE "$MODE" TRAINER.UPT.N_CTX "$N_CTX" TRAINER.UPT.TSC "$TSC" "$@"
