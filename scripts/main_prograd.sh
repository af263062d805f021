#!/bin/sh
# ProGrad on a suite, one run per seed: each task has its own prompts and all tasks are trained in one run, or one task
# (TASKID) is trained alone, as published:
#   sh main_prograd.sh icon5 tiny_ep20 4 16 1.0 False True
#   sh main_prograd.sh icon5 tiny_ep20 4 16 1.0 False False 2
# LAMBDA is the share of the conflicting gradient that is removed; CSC True: one context per class.
# Results: output/DATASET/ProGrad/CFG_SHOTSshots/nctxL_lambda..._csc..._tsc...[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_prograd "$@"
