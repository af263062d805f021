#!/bin/sh
# Base to new, second half: the models of main_plot_base2new_train.sh, at their last epoch, on the new classes:
#   sh main_plot_base2new_test.sh icon5 tiny_ep20 4 4 16 False True
# Results: output/base2new/DATASET/PLOT/CFG_SHOTSshots/nN_nctxL_csc..._tsc...[/taskTASKID]/new/seedS

TRAINER=PLOT
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS N N_CTX CSC TSC TASKID:optional" "icon5 tiny_ep20 4 4 16 False True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/n${N}_nctx${N_CTX}_csc${CSC}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_new "$OUTPUT/output/base2new/$FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.PLOT.N "$N" TRAINER.PLOT.N_CTX "$N_CTX" \
    TRAINER.PLOT.CSC "$CSC" TRAINER.PLOT.TSC "$TSC" "$@"
