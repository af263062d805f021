# Paths on this machine. Sourced by the other scripts (". ./set_env.sh"). Do not run it with "sh set_env.sh": the variables
# would be lost with the child shell.
#
# YOUR_DATA_PATH  folder that contains the datasets; default: data/ in the repository (the embedded suite needs no folder)
# PYTHON          interpreter to use; default: .venv/bin/python of the repository, else python3
#
# Sets DATA and PYTHON, as absolute paths unless PYTHON is a name. REPO is the repository, set by the scripts; default: the
# current folder.

REPO=${REPO:-$(pwd)}

DATA=${YOUR_DATA_PATH:-$REPO/data}
case $DATA in
    /*) ;;
    *) DATA=$(pwd)/$DATA ;;
esac

if [ -z "${PYTHON:-}" ]; then
    if [ -x "$REPO/.venv/bin/python" ]; then
        PYTHON=$REPO/.venv/bin/python
    else
        PYTHON=python3
    fi
fi
case $PYTHON in
    /*) ;;
    */*) PYTHON=$(pwd)/$PYTHON ;;
esac
