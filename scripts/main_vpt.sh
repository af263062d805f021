#!/bin/sh
# VPT on a suite, one run a seed: prompts for every task in one run, or one task alone as published (TASKID):
#   sh main_vpt.sh icon5 tiny_ep20 4 4 True True
#   sh main_vpt.sh icon5 tiny_ep20 4 4 True False 2
# DEEP True has prompts at every layer of the image tower, False at the first alone.
# Results: output/DATASET/VPT/CFG_SHOTSshots/nctxN_deep..._tsc...[/taskTASKID]/seedS

TRAINER=VPT
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS N_CTX DEEP TSC TASKID:optional" "icon5 tiny_ep20 4 4 True True" "$@"
shift "$ARGC"
one_task

FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/nctx${N_CTX}_deep${DEEP}_tsc${TSC}$TASK_FOLDER
# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/$FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS \
    TRAINER.VPT.N_CTX "$N_CTX" TRAINER.VPT.DEEP "$DEEP" TRAINER.VPT.TSC "$TSC" "$@"
