#!/bin/sh
# ProtoNet, nearest class mean of frozen features, on a suite or on one of its tasks (TASKID), one run per seed:
#   sh protonet.sh icon5 tiny 4 cosine
# METRIC is cosine or euclidean.
# Results: output/DATASET/ProtoNet/CFG_SHOTSshots/metricMETRIC[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" protonet "$@"
