#!/bin/sh
# CoOp on a suite, one run a seed: prompts for every task in one run, or one task alone as published (TASKID):
#   sh main_coop.sh icon5 tiny_ep20 4 16 False True
#   sh main_coop.sh icon5 tiny_ep20 4 16 False False 2
# CSC True is one context a class.
# Results: output/DATASET/CoOp/CFG_SHOTSshots/nctxN_csc..._tsc...[/taskTASKID]/seedS

TRAINER=CoOp
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
launch run_seeds "$@"
