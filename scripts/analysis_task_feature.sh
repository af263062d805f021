#!/bin/sh
# Sources of task features: SoftCPT-NATA with features of the text encoder ("TE") and with features learned from scratch
# ("Rand"), both with d dimensions and with each of DIMS (environment); docs/methods.md explains TE with other dimensions:
#   sh analysis_task_feature.sh icon5 tiny_ep20 4
# Results: output/analysis/DATASET/CFG_SHOTSshots/task_feature/{te,rand}[_dimK]/seedS

exec sh "$(dirname -- "$0")/launch.sh" analysis_task_feature "$@"
