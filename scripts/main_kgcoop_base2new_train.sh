#!/bin/sh
# Base to new, first half: KgCoOp learns the base classes of every task (the first half, rounded up), or of task TASKID:
#   sh main_kgcoop_base2new_train.sh icon5 tiny_ep20 4 8.0 True
# Then main_kgcoop_base2new_test.sh with the same arguments.
# Results: output/base2new/DATASET/KgCoOp/CFG_SHOTSshots/wW_tsc...[/taskTASKID]/base/seedS

TRAINER=KgCoOp
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
launch run_base "$@"
