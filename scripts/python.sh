# The interpreter of the scripts in this folder, and its packages. Sourced by them; POSIX sh; paths may contain spaces.
# Sets REPO, DATA and PYTHON (see set_env.sh). SCRIPT, set before, is the name in messages.

set -eu

{ true <&0; } 2>/dev/null || exec </dev/null # a closed standard input

REPO=$(dirname -- "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)")
PYTHON_GIVEN=${PYTHON:-}
. "$REPO/scripts/set_env.sh"

# python_version PYTHON: e.g. "3.12.1", also for interpreters that are too old; nothing if it does not start
python_version() {
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null
}

new_enough() {
    [ "$("$1" -c 'import sys; print(sys.version_info >= (3, 10))' 2>/dev/null)" = True ]
}

# usable_python: exits unless $PYTHON is an interpreter that is new enough; which packages it lacks, the programs say
usable_python() {
    if new_enough "$PYTHON"; then return; fi
    prepare_found=$(python_version "$PYTHON") || prepare_found=
    if [ -z "$prepare_found" ]; then
        stop "PYTHON=$PYTHON is not a Python that starts; set PYTHON to an interpreter, or run sh scripts/install.sh"
    fi
    stop "Python 3.10 or newer is needed, PYTHON=$PYTHON is $prepare_found"
}

stop() {
    printf '%s: %s\n' "$SCRIPT" "$1" >&2
    exit 2
}

# prepare_python: sets PYTHON to an interpreter with all packages of requirements.txt. If $PYTHON is given, pip adds only
# its missing packages. Otherwise .venv of the repository is used, and created if necessary. Packages come from the index
# that pip is configured for, where "torch" may be a CUDA build of several GB. Without a GPU, the CPU build from the PyTorch
# site is smaller; if it is already installed, in .venv or in the interpreter given as PYTHON, it is kept.
prepare_python() {
    if [ -n "$PYTHON_GIVEN" ]; then
        given_python
    else
        venv_python
    fi
    export PYTHON
}

given_python() {
    prepare_found=$(python_version "$PYTHON") || stop "PYTHON=$PYTHON does not start"
    new_enough "$PYTHON" || stop "Python 3.10 or newer is needed, PYTHON=$PYTHON is $prepare_found"
    # pip may refuse to touch an environment that needs nothing, so it is called only if something is missing
    if "$PYTHON" "$REPO/dassl/requirements.py" 2>/dev/null; then return; fi
    echo "installing the missing packages of requirements.txt into $PYTHON"
    "$PYTHON" -m pip install --disable-pip-version-check -r "$REPO/requirements.txt" ||
        stop "pip could not install into $PYTHON (see its message above). Without PYTHON, .venv is created instead."
}

venv_python() {
    PYTHON=$REPO/.venv/bin/python
    if [ ! -e "$PYTHON" ] || ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        # .venv does not exist or is incomplete; creating it again keeps its content
        base_python
        echo "creating $REPO/.venv with $prepare_base ($(python_version "$prepare_base"))"
        "$prepare_base" -m venv "$REPO/.venv" || stop "could not create $REPO/.venv (see the message above). \
On Debian and Ubuntu the package python3-venv is needed; a broken .venv has to be removed first. \
Or set PYTHON to an interpreter."
    fi
    prepare_found=$(python_version "$PYTHON") || stop "$PYTHON does not start: remove $REPO/.venv and try again"
    new_enough "$PYTHON" ||
        stop "Python 3.10 or newer is needed, $REPO/.venv has $prepare_found: remove it, or set PYTHON to an interpreter"

    # written only after a successful installation, so that an interrupted one does not count
    prepare_stamp=$REPO/.venv/requirements.stamp
    prepare_hash=$("$PYTHON" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), "python", sys.version.split()[0])' "$REPO/requirements.txt")
    if [ -f "$prepare_stamp" ] && [ "$(cat "$prepare_stamp")" = "$prepare_hash" ]; then return; fi
    echo "installing requirements.txt into $REPO/.venv (once; PyTorch is large)"
    "$PYTHON" -m pip install --disable-pip-version-check -r "$REPO/requirements.txt" ||
        stop "pip could not install requirements.txt into $REPO/.venv (see its message above); run the same command to try again"
    printf '%s\n' "$prepare_hash" >"$prepare_stamp.new"
    mv -f "$prepare_stamp.new" "$prepare_stamp"
}

# base_python: sets prepare_base to the first interpreter on the PATH that is new enough
base_python() {
    prepare_seen=
    for prepare_base in python3 python3.13 python3.12 python3.11 python3.10 python; do
        prepare_found=$(python_version "$prepare_base") || continue
        if new_enough "$prepare_base"; then return; fi
        prepare_seen="$prepare_seen $prepare_base ($prepare_found)"
    done
    stop "Python 3.10 or newer is needed; found on the PATH:${prepare_seen:- none}. Or set PYTHON to an interpreter."
}
