#!/bin/sh
# Base to new, second half: the models of main_kgcoop_base2new_train.sh, at their last epoch, are tested on new classes:
#   sh main_kgcoop_base2new_test.sh icon5 tiny_ep20 4 8.0 True
# Results: output/base2new/DATASET/KgCoOp/CFG_SHOTSshots/wW_tsc...[/taskTASKID]/new/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_kgcoop_base2new_test "$@"
