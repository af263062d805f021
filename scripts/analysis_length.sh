#!/bin/sh
# Prompt lengths: SoftCPT-NATA with each of LENGTHS context tokens in the class prompts, and with each of TASK_LENGTHS in
# the task prompts (both: environment); the other length is as published (16 and 4):
#   sh analysis_length.sh icon5 tiny_ep20 4
# Results: output/analysis/DATASET/CFG_SHOTSshots/length/nctxL/seedS and .../tnctxM/seedS

TRAINER=MTCoOp
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_analysis.sh"
arguments "DATASET CFG SHOTS" "icon5 tiny_ep20 4" "$@"
shift "$ARGC"
FOLDER=$OUTPUT/output/analysis/$DATASET/${CFG}_${SHOTS}shots/length
LENGTHS=${LENGTHS-2 4 8 16 32}
TASK_LENGTHS=${TASK_LENGTHS-2 4 8 16}
each_is LENGTHS "$LENGTHS" '[1-9][0-9]*' "numbers of tokens"
each_is TASK_LENGTHS "$TASK_LENGTHS" '[1-9][0-9]*' "numbers of tokens"

for LENGTH in $LENGTHS; do
    analysis "nctx$LENGTH" SoftCPT-NATA TRAINER.MTCOOP.N_CTX "$LENGTH" "$@"
done
for LENGTH in $TASK_LENGTHS; do
    analysis "tnctx$LENGTH" SoftCPT-NATA TRAINER.MTCOOP.TASK_N_CTX "$LENGTH" "$@"
done
analysis_done
