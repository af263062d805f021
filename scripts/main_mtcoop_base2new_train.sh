#!/bin/sh
# Base to new, first half: train SoftCPT on the base classes of every task (the first half, rounded up), test on them:
#   sh main_mtcoop_base2new_train.sh icon5 tiny_ep20 4 0 False 4 False 16 False lin 1
# Then main_mtcoop_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/MTCoOp/CFG_SHOTSshots/cnctx..._loss/base/seedS

TRAINER=MTCoOp
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
arguments "$MTCOOP_ARGS" "icon5 tiny_ep20 4 0 False 4 False 16 False lin 1" "$@"
shift "$ARGC"

mtcoop_settings
# shellcheck disable=SC2086  # pairs without spaces
run_base "$OUTPUT/output/base2new/$MTCOOP_FOLDER" $MTCOOP_KEYS "$@"
