#!/bin/sh
# PLOT on a suite, one run a seed: prompts for every task in one run, or one task alone as published (TASKID):
#   sh main_plot.sh icon5 tiny_ep20 4 4 16 False True
#   sh main_plot.sh icon5 tiny_ep20 4 4 16 False False 2
# N is the number of prompts of a class; CSC True is contexts of their own for every class.
# Results: output/DATASET/PLOT/CFG_SHOTSshots/nN_nctxL_csc..._tsc...[/taskTASKID]/seedS

TRAINER=PLOT
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
launch run_seeds "$@"
