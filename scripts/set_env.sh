# Where things are on this machine. Sourced by the other scripts (". ./set_env.sh"), never run with "sh set_env.sh":
# a child shell would lose what it sets.
#
# YOUR_DATA_PATH  folder that holds the datasets; default: data/ in the repository (the embedded suite needs none)
# PYTHON          interpreter to use; default: .venv/bin/python of the repository, else python3
#
# Sets DATA and PYTHON, both absolute where they are paths. REPO is the repository; the scripts set it, by hand you are in it.

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
