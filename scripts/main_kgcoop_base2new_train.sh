#!/bin/sh
# Base to new, first half: KgCoOp is trained on the base classes (the first half, rounded up) of all tasks, or of TASKID:
#   sh main_kgcoop_base2new_train.sh icon5 tiny_ep20 4 8.0 True
# Then main_kgcoop_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/KgCoOp/CFG_SHOTSshots/wW_tsc...[/taskTASKID]/base/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_kgcoop_base2new_train "$@"
