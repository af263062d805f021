#!/bin/sh
# Base to new, second half: the models of main_prograd_base2new_train.sh, at their last epoch, are tested on new classes:
#   sh main_prograd_base2new_test.sh icon5 tiny_ep20 4 16 1.0 False True
# Results: output/base2new/DATASET/ProGrad/CFG_SHOTSshots/nctxL_lambda..._csc..._tsc...[/taskTASKID]/new/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_prograd_base2new_test "$@"
