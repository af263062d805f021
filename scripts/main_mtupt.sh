#!/bin/sh
# Unified prompts that tasks share on a suite, one run a seed, all tasks in one run:
#   sh main_mtupt.sh icon5 tiny_ep20 4 soft upt 8
# SHARING is soft, hard (one set for all tasks) or task (one for each); MODE and N_CTX as of main_upt.sh.
# Results: output/DATASET/MTUPT/CFG_SHOTSshots/sharing..._mode..._nctxN[/taskTASKID]/seedS

TRAINER=MTUPT
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
launch run_seeds "$@"
