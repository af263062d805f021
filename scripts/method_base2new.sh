#!/bin/sh
# Base to new with any method: it is trained on the base classes (the first half, rounded up) of all tasks, and the model
# of the last epoch is tested on the new classes:
#   sh method_base2new.sh MaPLe icon5 tiny_ep20 4
# The arguments are those of method.sh.
# Results: output/base2new/DATASET/NAME/CFG_SHOTSshots/default (or keyVALUE_keyVALUE...)[/taskTASKID]/{base,new}/seedS

exec sh "$(dirname -- "$0")/launch.sh" method_base2new "$@"
