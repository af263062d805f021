#!/bin/sh
# VPT on a suite, one run per seed: each task has its own prompts and all tasks are trained in one run, or one task
# (TASKID) is trained alone, as published:
#   sh main_vpt.sh icon5 tiny_ep20 4 4 True True
#   sh main_vpt.sh icon5 tiny_ep20 4 4 True False 2
# DEEP True: prompts at every layer of the image tower; False: at the first layer only.
# Results: output/DATASET/VPT/CFG_SHOTSshots/nctxN_deep..._tsc...[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_vpt "$@"
