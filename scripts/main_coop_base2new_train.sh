#!/bin/sh
# Base to new, first half: CoOp learns the base classes of every task (the first half, rounded up), or of task TASKID:
#   sh main_coop_base2new_train.sh icon5 tiny_ep20 4 16 False True
# Then main_coop_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/CoOp/CFG_SHOTSshots/nctxN_csc..._tsc...[/taskTASKID]/base/seedS

TRAINER=CoOp
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
arguments "DATASET CFG SHOTS N_CTX CSC TSC TASKID:optional" "icon5 tiny_ep20 4 16 False True" "$@"
shift "$ARGC"

method_settings
# shellcheck disable=SC2086  # pairs without spaces
run_base "$OUTPUT/output/base2new/$FOLDER" $KEYS "$@"
