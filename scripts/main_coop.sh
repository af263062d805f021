#!/bin/sh
# CoOp on a suite, one run per seed: each task has its own prompts and all tasks are trained in one run, or one task
# (TASKID) is trained alone, as published:
#   sh main_coop.sh icon5 tiny_ep20 4 16 False True
#   sh main_coop.sh icon5 tiny_ep20 4 16 False False 2
# CSC True: one context per class.
# Results: output/DATASET/CoOp/CFG_SHOTSshots/nctxN_csc..._tsc...[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_coop "$@"
