#!/bin/sh
# Base to new, second half: the models of main_coop_base2new_train.sh, at their last epoch, are tested on new classes:
#   sh main_coop_base2new_test.sh icon5 tiny_ep20 4 16 False True
# Results: output/base2new/DATASET/CoOp/CFG_SHOTSshots/nctxN_csc..._tsc...[/taskTASKID]/new/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_coop_base2new_test "$@"
