#!/bin/sh
# A method on each task of a suite separately: runs LAUNCHER with its arguments once per task.
#   sh per_task.sh main_coop.sh icon5 tiny_ep20 4 16 False False
#   sh per_task.sh main_mtcoop_base2new_train.sh icon5 tiny_ep20 4 0 False 4 False 16 False lin 1
# TASKS (environment): numbers of the tasks, default: all tasks of the suite. Finished runs are skipped,
# interrupted runs resume.
# Results: in the folder of the launcher, one folder per task: .../taskT/seedS. parse_test_res.py combines them when given
# the folder that contains task0, task1, ...

exec sh "$(dirname -- "$0")/launch.sh" per_task "$@"
