#!/bin/sh
# Base to new, first half: PLOT learns the base classes of every task (the first half, rounded up), or of task TASKID:
#   sh main_plot_base2new_train.sh icon5 tiny_ep20 4 4 16 False True
# Then main_plot_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/PLOT/CFG_SHOTSshots/nN_nctxL_csc..._tsc...[/taskTASKID]/base/seedS

TRAINER=PLOT
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS N N_CTX CSC TSC TASKID:optional" "icon5 tiny_ep20 4 4 16 False True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/n${N}_nctx${N_CTX}_csc${CSC}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/base2new/$FOLDER/base" \
    DATASET.SUBSAMPLE_CLASSES base DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.PLOT.N "$N" TRAINER.PLOT.N_CTX "$N_CTX" \
    TRAINER.PLOT.CSC "$CSC" TRAINER.PLOT.TSC "$TSC" "$@"
