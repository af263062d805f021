#!/bin/sh
# Zero-shot CLIP with the hand-written template of each task, on one task of a suite (TASKID) or on all tasks:
#   sh zeroshot.sh icon5 tiny_ep20
#   sh zeroshot.sh icon5 tiny_ep20 2
# Results: output/ZeroshotCLIP/CFG/DATASET[-TASKID]

exec sh "$(dirname -- "$0")/launch.sh" zeroshot "$@"
