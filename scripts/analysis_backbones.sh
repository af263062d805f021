#!/bin/sh
# Backbones on one suite: CoOp-CA and SoftCPT-NATA with each of BACKBONES (environment), otherwise with the settings of CFG:
#   sh analysis_backbones.sh general10 rn50_ep50 4
#   BACKBONES=tiny sh analysis_backbones.sh icon5 tiny_ep20 4
# Results: output/analysis/DATASET/CFG_SHOTSshots/backbones/BACKBONE/METHOD/seedS ("/" in a name becomes "-")

exec sh "$(dirname -- "$0")/launch.sh" analysis_backbones "$@"
