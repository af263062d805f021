#!/bin/sh
# Linear probe (trainer LinearProbe) of tasks 0 to MAXTASKID of a suite, one run per task, number of shots and seed.
# Without MAXTASKID, all tasks are in one run, which gives the same classifiers:
#   sh linearprob.sh icon5 tiny 4
#   sh linearprob.sh general10 rn50 9
# SHOTS (environment): numbers of images per class, default "1 2 4 8 16".
# Results: output/DATASET/LinearProbe/CFG_SHOTSshots[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" linearprob "$@"
