#!/bin/sh
# Sources of task features: SoftCPT-NATA with features of the text encoder ("TE") and with features learned from scratch
# ("Rand"), both with d dimensions and with each of DIMS (environment); docs/methods.md explains TE with other dimensions:
#   sh analysis_task_feature.sh icon5 tiny_ep20 4
# Results: output/analysis/DATASET/CFG_SHOTSshots/task_feature/{te,rand}[_dimK]/seedS

TRAINER=MTCoOp
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_analysis.sh"
arguments "DATASET CFG SHOTS" "icon5 tiny_ep20 4" "$@"
shift "$ARGC"
FOLDER=$OUTPUT/output/analysis/$DATASET/${CFG}_${SHOTS}shots/task_feature
DIMS=${DIMS-16 64 256 1024}
each_is DIMS "$DIMS" '[1-9][0-9]*' "numbers of dimensions"

for DIM in 0 $DIMS; do
    for FEATURE in te rand; do
        NAME=$FEATURE
        if [ "$DIM" -ne 0 ]; then NAME=${FEATURE}_dim$DIM; fi
        analysis "$NAME" SoftCPT-NATA \
            TRAINER.MTCOOP.TASK_FEATURE "$FEATURE" TRAINER.MTCOOP.TASK_FEATURE_DIM "$DIM" "$@"
    done
done
analysis_done
