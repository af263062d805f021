#!/bin/sh
# Dependence of results on the seed: CoOp-CA and SoftCPT-NATA with each number of shots in SHOTS_LIST (environment), for the
# standard deviation over SEEDS relative to the mean:
#   SEEDS="1 2 3 4 5" sh analysis_stability.sh icon5 tiny_ep20
# Results: output/analysis/DATASET/CFG/stability/METHOD/SHOTSshots/seedS

exec sh "$(dirname -- "$0")/launch.sh" analysis_stability "$@"
