#!/bin/sh
# Base to new, second half: the models of main_vpt_base2new_train.sh, at their last epoch, are tested on new classes:
#   sh main_vpt_base2new_test.sh icon5 tiny_ep20 4 4 True True
# Results: output/base2new/DATASET/VPT/CFG_SHOTSshots/nctxN_deep..._tsc...[/taskTASKID]/new/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_vpt_base2new_test "$@"
