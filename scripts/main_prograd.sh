#!/bin/sh
# ProGrad on a suite, one run a seed: prompts for every task in one run, or one task alone as published (TASKID):
#   sh main_prograd.sh icon5 tiny_ep20 4 16 1.0 False True
#   sh main_prograd.sh icon5 tiny_ep20 4 16 1.0 False False 2
# LAMBDA is the share of the conflicting gradient that is taken out; CSC True is one context a class.
# Results: output/DATASET/ProGrad/CFG_SHOTSshots/nctxL_lambda..._csc..._tsc...[/taskTASKID]/seedS

TRAINER=ProGrad
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS N_CTX LAMBDA CSC TSC TASKID:optional" "icon5 tiny_ep20 4 16 1.0 False True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/nctx${N_CTX}_lambda${LAMBDA}_csc${CSC}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/$FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.PROGRAD.N_CTX "$N_CTX" TRAINER.PROGRAD.LAMBDA "$LAMBDA" \
    TRAINER.PROGRAD.CSC "$CSC" TRAINER.PROGRAD.TSC "$TSC" "$@"
