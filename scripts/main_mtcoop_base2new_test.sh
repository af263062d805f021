#!/bin/sh
# Base to new, second half: the models of main_mtcoop_base2new_train.sh, at their last epoch, are tested on new classes:
#   sh main_mtcoop_base2new_test.sh icon5 tiny_ep20 4 0 False 4 False 16 False lin 1
# Results: output/base2new/DATASET/MTCoOp/CFG_SHOTSshots/cnctx..._loss/new/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_mtcoop_base2new_test "$@"
