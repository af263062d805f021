#!/bin/sh
# Prompt lengths: SoftCPT-NATA with each of LENGTHS context tokens in the class prompts, and with each of TASK_LENGTHS in
# the task prompts (both: environment); the other length is as published (16 and 4):
#   sh analysis_length.sh icon5 tiny_ep20 4
# Results: output/analysis/DATASET/CFG_SHOTSshots/length/nctxL/seedS and .../tnctxM/seedS

exec sh "$(dirname -- "$0")/launch.sh" analysis_length "$@"
