#!/bin/sh
# ProtoNet, nearest class mean of frozen features, on a suite or on one task of it (TASKID), one run a seed:
#   sh protonet.sh icon5 tiny 4 cosine
# METRIC is cosine or euclidean.
# Results: output/DATASET/ProtoNet/CFG_SHOTSshots/metricMETRIC[/taskTASKID]/seedS

TRAINER=ProtoNet
. "$(dirname -- "$0")/lib.sh"
arguments "DATASET CFG SHOTS METRIC TASKID:optional" "icon5 tiny 4 cosine" "$@"
shift "$ARGC"
one_task

# shellcheck disable=SC2086  # TASK_KEYS is nothing or a pair
run_seeds "$OUTPUT/output/$DATASET/$TRAINER/${CFG}_${SHOTS}shots/metric$METRIC$TASK_FOLDER" \
    DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS TRAINER.PROTONET.METRIC "$METRIC" "$@"
