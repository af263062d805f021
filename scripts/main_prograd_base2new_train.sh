#!/bin/sh
# Base to new, first half: ProGrad learns the base classes (the first half, rounded up) of every task or of TASKID:
#   sh main_prograd_base2new_train.sh icon5 tiny_ep20 4 16 1.0 False True
# Then main_prograd_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/ProGrad/CFG_SHOTSshots/nctxL_lambda..._csc..._tsc...[/taskTASKID]/base/seedS

TRAINER=ProGrad
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS N_CTX LAMBDA CSC TSC TASKID:optional" "icon5 tiny_ep20 4 16 1.0 False True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/nctx${N_CTX}_lambda${LAMBDA}_csc${CSC}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/base2new/$FOLDER/base" \
    DATASET.SUBSAMPLE_CLASSES base DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.PROGRAD.N_CTX "$N_CTX" TRAINER.PROGRAD.LAMBDA "$LAMBDA" \
    TRAINER.PROGRAD.CSC "$CSC" TRAINER.PROGRAD.TSC "$TSC" "$@"
