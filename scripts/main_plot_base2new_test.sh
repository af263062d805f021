#!/bin/sh
# Base to new, second half: the models of main_plot_base2new_train.sh, at their last epoch, are tested on new classes:
#   sh main_plot_base2new_test.sh icon5 tiny_ep20 4 4 16 False True
# Results: output/base2new/DATASET/PLOT/CFG_SHOTSshots/nN_nctxL_csc..._tsc...[/taskTASKID]/new/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_plot_base2new_test "$@"
