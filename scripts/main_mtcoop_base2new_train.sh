#!/bin/sh
# Base to new, first half: SoftCPT is trained on the base classes (the first half, rounded up) of all tasks:
#   sh main_mtcoop_base2new_train.sh icon5 tiny_ep20 4 0 False 4 False 16 False lin 1
# Then main_mtcoop_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/MTCoOp/CFG_SHOTSshots/cnctx..._loss/base/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_mtcoop_base2new_train "$@"
