#!/bin/sh
# PLOT on a suite, one run per seed: each task has its own prompts and all tasks are trained in one run, or one task
# (TASKID) is trained alone, as published:
#   sh main_plot.sh icon5 tiny_ep20 4 4 16 False True
#   sh main_plot.sh icon5 tiny_ep20 4 4 16 False False 2
# N is the number of prompts per class; CSC True: each class has its own contexts.
# Results: output/DATASET/PLOT/CFG_SHOTSshots/nN_nctxL_csc..._tsc...[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_plot "$@"
