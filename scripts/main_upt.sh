#!/bin/sh
# UPT on a suite, one run a seed: prompts for every task in one run, or one task alone as published (TASKID):
#   sh main_upt.sh icon5 tiny_ep20 4 upt 8 True
#   sh main_upt.sh icon5 tiny_ep20 4 upt 8 False 2
# MODE is upt, joint, shared or mlp; N_CTX counts the prompts of both towers at a layer.
# Results: output/DATASET/UPT/CFG_SHOTSshots/mode..._nctxN_tsc...[/taskTASKID]/seedS

TRAINER=UPT
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
launch run_seeds "$@"
