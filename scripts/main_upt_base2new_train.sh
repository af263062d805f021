#!/bin/sh
# Base to new, first half: UPT is trained on the base classes (the first half, rounded up) of all tasks, or of TASKID:
#   sh main_upt_base2new_train.sh icon5 tiny_ep20 4 upt 8 True
# Then main_upt_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/UPT/CFG_SHOTSshots/mode..._nctxN_tsc...[/taskTASKID]/base/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_upt_base2new_train "$@"
