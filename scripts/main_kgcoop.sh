#!/bin/sh
# KgCoOp on a suite, one run per seed: each task has its own prompts and all tasks are trained in one run, or one task
# (TASKID) is trained alone, as published:
#   sh main_kgcoop.sh icon5 tiny_ep20 4 8.0 True
#   sh main_kgcoop.sh icon5 tiny_ep20 4 8.0 False 2
# W is the weight of the distance to the hand-made prompts.
# Results: output/DATASET/KgCoOp/CFG_SHOTSshots/wW_tsc...[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_kgcoop "$@"
