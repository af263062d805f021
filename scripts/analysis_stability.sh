#!/bin/sh
# Dependence of results on the seed: CoOp-CA and SoftCPT-NATA with each number of shots in SHOTS_LIST (environment), for the
# standard deviation over SEEDS relative to the mean:
#   SEEDS="1 2 3 4 5" sh analysis_stability.sh icon5 tiny_ep20
# Results: output/analysis/DATASET/CFG/stability/METHOD/SHOTSshots/seedS

TRAINER=MTCoOp
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_analysis.sh"
arguments "DATASET CFG" "icon5 tiny_ep20" "$@"
shift "$ARGC"
FOLDER=$OUTPUT/output/analysis/$DATASET/$CFG/stability
SHOTS_LIST=${SHOTS_LIST-1 2 4 8 16}
each_is SHOTS_LIST "$SHOTS_LIST" '[1-9][0-9]*' "numbers of images per class"

for METHOD in CoOp-CA SoftCPT-NATA; do
    for SHOTS in $SHOTS_LIST; do
        analysis "$METHOD/${SHOTS}shots" "$METHOD" "$@"
    done
done
analysis_done --relative-std
