#!/bin/sh
# Base to new, second half: the models of main_vpt_base2new_train.sh, at their last epoch, are tested on new classes:
#   sh main_vpt_base2new_test.sh icon5 tiny_ep20 4 4 True True
# Results: output/base2new/DATASET/VPT/CFG_SHOTSshots/nctxN_deep..._tsc...[/taskTASKID]/new/seedS

TRAINER=VPT
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
launch run_new "$@"
