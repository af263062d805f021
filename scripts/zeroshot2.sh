#!/bin/sh
# Zero-shot CLIP with the ensemble of CLIP's 80 templates for ImageNet (TRAINER.ZSCLIP.ENSEMBLE selects the
# templates of each task instead), on one task of a suite (TASKID) or on all tasks:
#   sh zeroshot2.sh icon5 tiny_ep20
#   sh zeroshot2.sh icon5 tiny_ep20 2
# Results: output/ZeroshotCLIP2/CFG/DATASET[-TASKID]

exec sh "$(dirname -- "$0")/launch.sh" zeroshot2 "$@"
