#!/bin/sh
# CoCoOp on a suite, one run per seed: each task has its own prompts and all tasks are trained in one run, or one task
# (TASKID) is trained alone, as published:
#   sh main_cocoop.sh icon5 tiny_ep20 4 True
#   sh main_cocoop.sh icon5 tiny_ep20 4 False 2
# Results: output/DATASET/CoCoOp/CFG_SHOTSshots/tsc...[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_cocoop "$@"
