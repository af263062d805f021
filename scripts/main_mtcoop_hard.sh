#!/bin/sh
# CoOp with hard sharing (trainer MTCoOpHard) on a suite, one run a seed:
#   sh main_mtcoop_hard.sh icon5 tiny_ep20 4 16 False False    CoOp-MT, one context for everything
#   sh main_mtcoop_hard.sh icon5 tiny_ep20 4 16 False True     CoOp-CA, one a task
#   sh main_mtcoop_hard.sh icon5 tiny_ep20 4 16 True False     CoOp-CS, one a class
# Results: output/DATASET/MTCoOpHard/CFG_SHOTSshots/nctxN_csc..._tsc.../seedS

TRAINER=MTCoOpHard
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS N_CTX CSC TSC" "icon5 tiny_ep20 4 16 False True" "$@"
shift "$ARGC"
TASKID=
one_task

# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/$DATASET/$TRAINER/${CFG}_${SHOTS}shots/nctx${N_CTX}_csc${CSC}_tsc${TSC}$TASK_FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.MTCOOPH.N_CTX "$N_CTX" TRAINER.MTCOOPH.CSC "$CSC" TRAINER.MTCOOPH.TSC "$TSC" "$@"
