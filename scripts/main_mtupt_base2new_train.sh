#!/bin/sh
# Base to new, first half: unified prompts are trained on the base classes (the first half,
# rounded up) of all tasks, or of TASKID:
#   sh main_mtupt_base2new_train.sh icon5 tiny_ep20 4 soft upt 8
# Then main_mtupt_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/MTUPT/CFG_SHOTSshots/sharing..._mode..._nctxN[/taskTASKID]/base/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_mtupt_base2new_train "$@"
