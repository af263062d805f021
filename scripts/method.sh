#!/bin/sh
# Any method on a suite, one run per seed, with the settings of its configuration file:
#   sh method.sh MaPLe icon5 tiny_ep20 4
#   sh method.sh PromptSRC icon5 tiny_ep20 4 TRAINER.PROMPTSRC.SHARING soft
# NAME is a folder of configs/trainers. Pairs KEY VALUE change settings and name the folder of the results.
# Results: output/DATASET/NAME/CFG_SHOTSshots/default (or keyVALUE_keyVALUE...)[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" method "$@"
