#!/bin/sh
# What the other scripts have in common: hands NAME and the arguments of NAME.sh over to Python.
#   sh launch.sh NAME ARGUMENT ...
# Environment of all scripts (all optional):
#   SEEDS   seeds to run, default "1 2 3"
#   OUTPUT  folder for output/ and outputd/, default: the repository
#   TASK    number of a task: only this task of the suite, in its own folder
#   PYTHON, YOUR_DATA_PATH   see set_env.sh
# All scripts accept, at any position among their arguments:
#   --dry-run    print the commands and check their settings, without running anything and without reading data or
#                weights; exit code 2 if a command cannot run
#   --overwrite  repeat finished and interrupted runs

SCRIPT=${1:-launch}.sh
. "$(dirname -- "$0")/python.sh"
if [ $# -eq 0 ]; then stop "expected the name of a script in this folder, such as main_coop"; fi
usable_python

YOUR_DATA_PATH=$DATA
export YOUR_DATA_PATH PYTHON
exec "$PYTHON" "$REPO/sweeps/__main__.py" "$@" # by its path: the current folder may have packages of these names
