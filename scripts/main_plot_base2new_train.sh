#!/bin/sh
# Base to new, first half: PLOT is trained on the base classes (the first half, rounded up) of all tasks, or of TASKID:
#   sh main_plot_base2new_train.sh icon5 tiny_ep20 4 4 16 False True
# Then main_plot_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/PLOT/CFG_SHOTSshots/nN_nctxL_csc..._tsc...[/taskTASKID]/base/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_plot_base2new_train "$@"
