#!/bin/sh
# SoftCPT* (trainer MTCoOp), one run per seed: SoftCPT-NATA with task features learned from scratch instead of encoded
# task names. This is our interpretation; no source defines this row (docs/methods.md):
#   sh main_mtcoop_star.sh icon5 tiny_ep20 4 16
# Results: output/DATASET/MTCoOp/CFG_SHOTSshots/star_nctxL/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_mtcoop_star "$@"
