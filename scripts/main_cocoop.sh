#!/bin/sh
# CoCoOp on a suite, one run a seed: prompts for every task in one run, or one task alone as published (TASKID):
#   sh main_cocoop.sh icon5 tiny_ep20 4 True
#   sh main_cocoop.sh icon5 tiny_ep20 4 False 2
# Results: output/DATASET/CoCoOp/CFG_SHOTSshots/tsc...[/taskTASKID]/seedS

TRAINER=CoCoOp
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS TSC TASKID:optional" "icon5 tiny_ep20 4 True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/$FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.COCOOP.TSC "$TSC" "$@"
