#!/bin/sh
# VPT on a suite, one run a seed: prompts for every task in one run, or one task alone as published (TASKID):
#   sh main_vpt.sh icon5 tiny_ep20 4 4 True True
#   sh main_vpt.sh icon5 tiny_ep20 4 4 True False 2
# DEEP True has prompts at every layer of the image tower, False at the first alone.
# Results: output/DATASET/VPT/CFG_SHOTSshots/nctxN_deep..._tsc...[/taskTASKID]/seedS

TRAINER=VPT
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
launch run_seeds "$@"
