#!/bin/sh
# Zero-shot CLIP on the base or the new classes of one task of a suite (TASKID) or of all tasks:
#   sh zeroshot_base2new.sh icon5 tiny_ep20 2 new
#   sh zeroshot_base2new.sh icon5 tiny_ep20 base
# Results: output/base2new/ZeroshotCLIP/CFG/{base,new}/DATASET[-TASKID]

exec sh "$(dirname -- "$0")/launch.sh" zeroshot_base2new "$@"
