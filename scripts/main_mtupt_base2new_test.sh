#!/bin/sh
# Base to new, second half: the models of main_mtupt_base2new_train.sh, at their last epoch, are tested on new classes:
#   sh main_mtupt_base2new_test.sh icon5 tiny_ep20 4 soft upt 8
# Results: output/base2new/DATASET/MTUPT/CFG_SHOTSshots/sharing..._mode..._nctxN[/taskTASKID]/new/seedS

TRAINER=MTUPT
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
launch run_new "$@"
