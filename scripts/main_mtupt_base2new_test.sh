#!/bin/sh
# Base to new, second half: the models of main_mtupt_base2new_train.sh, at their last epoch, are tested on new classes:
#   sh main_mtupt_base2new_test.sh icon5 tiny_ep20 4 soft upt 8
# Results: output/base2new/DATASET/MTUPT/CFG_SHOTSshots/sharing..._mode..._nctxN[/taskTASKID]/new/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_mtupt_base2new_test "$@"
