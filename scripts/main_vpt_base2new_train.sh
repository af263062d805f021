#!/bin/sh
# Base to new, first half: VPT is trained on the base classes (the first half, rounded up) of all tasks, or of TASKID:
#   sh main_vpt_base2new_train.sh icon5 tiny_ep20 4 4 True True
# Then main_vpt_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/VPT/CFG_SHOTSshots/nctxN_deep..._tsc...[/taskTASKID]/base/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_vpt_base2new_train "$@"
