#!/bin/sh
# Base to new, first half: ProGrad is trained on the base classes (the first half, rounded up) of all tasks, or of TASKID:
#   sh main_prograd_base2new_train.sh icon5 tiny_ep20 4 16 1.0 False True
# Then main_prograd_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/ProGrad/CFG_SHOTSshots/nctxL_lambda..._csc..._tsc...[/taskTASKID]/base/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_prograd_base2new_train "$@"
