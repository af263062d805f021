#!/bin/sh
# UPT on a suite, one run per seed: each task has its own prompts and all tasks are trained in one run, or one task
# (TASKID) is trained alone, as published:
#   sh main_upt.sh icon5 tiny_ep20 4 upt 8 True
#   sh main_upt.sh icon5 tiny_ep20 4 upt 8 False 2
# MODE is upt, joint, shared or mlp; N_CTX is the number of prompts of both towers together, per layer.
# Results: output/DATASET/UPT/CFG_SHOTSshots/mode..._nctxN_tsc...[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_upt "$@"
