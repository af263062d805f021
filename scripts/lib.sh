# Shared by the scripts of this folder, which source it. POSIX sh; every path may contain spaces.
#
# Environment (all optional):
#   SEEDS   seeds to run, default "1 2 3"
#   OUTPUT  folder that takes output/ and outputd/, default: the repository
#   TASK    number of a task: that task of the suite alone, in a folder of its own (per_task.sh sets it)
#   PYTHON, YOUR_DATA_PATH   see set_env.sh
#
# Anywhere among the arguments of every script:
#   --dry-run    nothing is run, and no data or weights are read: the commands that would be run are printed, and their
#                settings checked (reporting/dry_run.py); exit status 2 when one of them cannot run
#   --overwrite  finished and stopped runs are made anew

set -eu

# takes these two out of the arguments; FLAGS, unquoted, passes them on to another script
DRY_RUN= OVERWRITE=
for lib_argument in "$@"; do
    shift
    case $lib_argument in
        --dry-run) DRY_RUN=--dry-run ;;
        --overwrite) OVERWRITE=--overwrite ;;
        *) set -- "$@" "$lib_argument" ;;
    esac
done
FLAGS="$DRY_RUN $OVERWRITE"

SCRIPTS=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
REPO=$(dirname -- "$SCRIPTS")
PYTHON_GIVEN=${PYTHON:-}
. "$SCRIPTS/set_env.sh"

SEEDS=${SEEDS:-1 2 3}
OUTPUT=${OUTPUT:-$REPO}
case $OUTPUT in
    /*) ;;
    *) OUTPUT=$(pwd)/$OUTPUT ;;
esac

# ---------------------------------------------------------------------------------------------------- arguments

# matches TEXT ERE: the whole of TEXT, on one line
matches() {
    [ "$(printf '%s\n' "$1" | wc -l)" -eq 1 ] && printf '%s\n' "$1" | grep -Eq "^($2)\$"
}

# yaml_names FOLDER: the config files in it, without ".yaml", in lines that fit a terminal
yaml_names() {
    for yaml_file in "$1"/*.yaml; do
        if [ -e "$yaml_file" ]; then basename -- "$yaml_file" .yaml; fi
    done | tr '\n' ' ' | fold -s -w 100 | sed 's/^/    /'
    echo
}

# expectation NAME VALUE: nothing when VALUE suits the argument NAME, else what it has to be
expectation() {
    case $1 in
        DATASET)
            [ -n "$2" ] && [ -f "$REPO/configs/datasets/$2.yaml" ] || echo "a file of configs/datasets" ;;
        CFG)
            [ -n "$2" ] && [ -f "$REPO/configs/trainers/$TRAINER/$2.yaml" ] || echo "a file of configs/trainers/$TRAINER" ;;
        SHOTS)
            matches "$2" '-1|[0-9]+' || echo "a whole number of images a class (0 or -1: all of them)" ;;
        *N_CTX | N | TASKID | MAXTASKID)
            matches "$2" '[0-9]+' || echo "a whole number" ;;
        *CSC | TSC | DEEP)
            matches "$2" 'True|False' || echo "True or False" ;;
        PG_RATIO | CLS_SAMPLE_RATE | W | LAMBDA)
            matches "$2" '-?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?' || echo "a number" ;;
        PG_TYPE)
            matches "$2" '[A-Za-z0-9_]+' || echo "a word: lin, linmean, lincls, mlp or transformer" ;;
        MODE)
            matches "$2" 'upt|joint|shared|mlp' || echo "upt, joint, shared or mlp" ;;
        SHARING)
            matches "$2" 'soft|hard|task' || echo "soft, hard or task" ;;
        CLASSES)
            matches "$2" 'base|new' || echo "base or new" ;;
        METRIC)
            matches "$2" 'cosine|euclidean' || echo "cosine or euclidean" ;;
    esac
}

# own_comment: the comment at the head of the script
own_comment() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

# help_wanted "$@": -h or --help shows the script's comment and ends it
help_wanted() {
    case ${1:-} in
        -h | --help) own_comment; exit 0 ;;
    esac
}

# usage: the text for a call that cannot be understood
usage() {
    echo "usage: sh $(basename -- "$0") $(echo "$arg_names" | sed 's/\([A-Z_]*\):optional/[\1]/g') [KEY VALUE ...] [--dry-run] [--overwrite]"
    if [ -n "$arg_found" ]; then echo "found:$arg_found"; fi
    echo "example: sh $(basename -- "$0") $arg_example"
    echo "DATASET, a file of configs/datasets:"
    yaml_names "$REPO/configs/datasets"
    echo "CFG, a file of configs/trainers/$TRAINER:"
    yaml_names "$REPO/configs/trainers/$TRAINER"
    echo "environment: SEEDS (now: $SEEDS), OUTPUT (now: $OUTPUT),"
    echo "             YOUR_DATA_PATH (now: $DATA), PYTHON (now: $PYTHON)"
}

# arguments "NAME NAME:optional ..." EXAMPLE "$@": sets a variable a NAME and ARGC, how many were used;
# what follows them are KEY VALUE pairs. An optional one is a number, so it cannot be mistaken for what follows.
# On a mistake: all of them and the usage on stderr, exit status 2. TRAINER has to be set.
arguments() {
    arg_names=$1
    arg_example=$2
    shift 2
    arg_found=
    arg_problems=
    arg_task=
    TASKID= # an argument, nothing of the environment
    ARGC=0
    case ${1:-} in
        -h | --help) usage; exit 0 ;;
    esac
    for arg_item in $arg_names; do
        arg_name=${arg_item%:optional}
        eval "$arg_name="
        if [ "$arg_item" != "$arg_name" ]; then
            case ${1:-} in
                [0-9]*) ;;
                *) continue ;;
            esac
        elif [ $# -eq 0 ]; then
            add_problem "$arg_name is missing"
            continue
        fi
        arg_found="$arg_found $arg_name=$1"
        arg_expected=$(expectation "$arg_name" "$1")
        if [ -n "$arg_expected" ]; then add_problem "$arg_name has to be $arg_expected, found \"$1\""; fi
        eval "$arg_name=\$1"
        ARGC=$((ARGC + 1))
        shift
    done
    while [ $# -gt 0 ]; do
        arg_found="$arg_found $1${2+ $2}"
        # a setting's name: SEED, OPTIM.LR, TRAINER.MyMethod.RATE; but not False, 16 or lin
        if ! matches "$1" '[A-Z][A-Z0-9_]*([.][A-Za-z0-9_]+)*'; then
            add_problem "\"$1\" is one argument too many, or not the KEY of a KEY VALUE pair"
            shift
            continue
        fi
        if [ $# -eq 1 ]; then
            add_problem "the setting $1 has no value"
            shift
        elif [ "$1" = DATASET.SUBSAMPLE_TASKS ] && matches "$2" 'task[0-9]+'; then
            arg_task=${2#task} # for one_task
            shift 2
        else
            shift 2
        fi
    done
    for arg_seed in $SEEDS; do
        matches "$arg_seed" '[0-9]+' || add_problem "SEEDS has to be whole numbers, found \"$arg_seed\""
    done
    if [ -n "${TASK:-}" ]; then
        matches "$TASK" '[0-9]+' || add_problem "TASK has to be the number of a task, found \"$TASK\""
    fi
    if [ -n "$arg_problems" ]; then
        { printf '%s\n' "$arg_problems"; echo; usage; } >&2
        exit 2
    fi
}

add_problem() {
    arg_problems="$arg_problems${arg_problems:+
}$(basename -- "$0"): $1"
}

# ---------------------------------------------------------------------------------------------------- runs

# run_info QUESTION DIR ...: asks reporting/run_info.py about the run in DIR
run_info() {
    (cd -- "$REPO" && "$PYTHON" -m reporting.run_info "$@")
}

# run DIR TRAIN_ARGS...: one run of train.py into DIR. Skipped when DIR holds its finished result; a run that was
# stopped is started again, which resumes from its last checkpoint. With RUN_AGAIN=--overwrite, or the argument
# --overwrite, it is always made anew. Ends the script when the run fails.
RUN_AGAIN=
run() {
    run_dir=$1
    shift
    check_tasks "$@"
    set -- --root "$DATA" --trainer "$TRAINER" \
        --dataset-config-file "$REPO/configs/datasets/$DATASET.yaml" \
        --config-file "$REPO/configs/trainers/$TRAINER/$CFG.yaml" \
        --output-dir "$run_dir" ${RUN_AGAIN:-$OVERWRITE} "$@"

    if [ -n "$DRY_RUN" ]; then
        dry_run "$@"
        return
    fi
    if [ -n "${RUN_AGAIN:-$OVERWRITE}" ]; then
        run_state=none
    else
        run_status=0
        run_state=$(run_info state "$run_dir" "$@") || run_status=$?
        case $run_status in
            0) ;;
            3) # a finished run of other settings, which stays as it is
                if [ -z "${POOL_REFUSED:-}" ]; then exit 2; fi
                echo "$run_dir" >>"$POOL_REFUSED" # for pool.sh, which goes on with the others
                return ;;
            *) exit "$run_status" ;;
        esac
    fi
    case $run_state in
        complete)
            echo "skipped, finished already: $run_dir"
            return ;;
        unfinished) echo "goes on: $run_dir" ;;
        *) echo "starts: $run_dir" ;;
    esac

    run_marker=$(mktemp "${TMPDIR:-/tmp}/softcpt.XXXXXX")
    trap 'rm -f "$run_marker"; exit 130' INT
    trap 'rm -f "$run_marker"; exit 143' TERM HUP
    run_status=0
    set -- "$REPO/train.py" "$@"
    if [ -S "${PRELOADED:-}" ]; then set -- "$SCRIPTS/preloaded.py" "$PRELOADED" "$@"; fi # see pool.sh
    "$PYTHON" "$@" || run_status=$?
    if [ "$run_status" -eq 0 ] && [ "$(run_info state "$run_dir")" != complete ]; then
        echo "$(basename -- "$0"): train.py ended well, yet left no complete results.json" >&2
        run_status=1
    fi
    if [ "$run_status" -ne 0 ]; then
        run_failed >&2
        rm -f "$run_marker"
        exit "$run_status"
    fi
    rm -f "$run_marker"
    trap - INT TERM HUP
}

# check_tasks TRAIN_ARGS...: ends the script unless the tasks of the run are those of its folder, see one_task
check_tasks() {
    check_found=all check_key=
    for check_word in "$@"; do # a repeated key keeps its last value
        if [ "$check_key" = DATASET.SUBSAMPLE_TASKS ]; then check_found=$check_word; fi
        check_key=$check_word
    done
    if [ "${TASK:-${TASKID:-}}" != "${TASKID:-}" ]; then
        stop "TASK=$TASK, and this script runs something else: it does not know TASK, or got another TASKID"
    elif [ "$check_found" = "${TASKID:+task}${TASKID:-all}" ]; then
        return
    elif [ -n "${TASKID:-}" ]; then
        stop "DATASET.SUBSAMPLE_TASKS $check_found, and this is the folder of task $TASKID: leave the setting out"
    elif [ -z "${TASK_FOLDER+set}" ]; then
        stop "DATASET.SUBSAMPLE_TASKS $check_found: this script runs all tasks of a suite; leave the setting out"
    fi
    stop "DATASET.SUBSAMPLE_TASKS $check_found has no folder here. One task: task2, by its number. Several, each by itself: \
TASKS=\"0 2\" sh scripts/per_task.sh and this command. Several together: python train.py with an --output-dir for them."
}

# at_end COMMAND: runs it when the script ends, also by a signal, with which not every shell runs an EXIT trap
at_end() {
    # shellcheck disable=SC2064  # to be expanded now
    trap "$1" EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# dry_run WORD...: notes a call of train.py, or one line that begins with #, for the end of the first script that has
# called this function or dry_run_begin
dry_run() {
    dry_run_begin
    printf '%s\0' "$#" "$@" >>"$SOFTCPT_DRY_RUN"
}

dry_run_begin() {
    if [ -n "${SOFTCPT_DRY_RUN:-}" ]; then return; fi
    SOFTCPT_DRY_RUN=$(mktemp "${TMPDIR:-/tmp}/softcpt.XXXXXX")
    export SOFTCPT_DRY_RUN
    at_end dry_run_end
}

# dry_run_end: prints what has been noted and what is wrong with it
dry_run_end() {
    dry_run_status=$?
    trap - EXIT
    (cd -- "$REPO" && "$PYTHON" -m reporting.dry_run "$SOFTCPT_DRY_RUN" "$PYTHON") || dry_run_status=$?
    rm -f "$SOFTCPT_DRY_RUN"
    exit "$dry_run_status"
}

# run_failed: what is known about the run that has just failed
run_failed() {
    echo
    echo "$(basename -- "$0"): failed with exit status $run_status: $run_dir"
    # only a log of this attempt: one of an earlier attempt would mislead
    run_log=
    if [ -d "$run_dir" ]; then
        run_log=$(find "$run_dir" -name 'log.txt*' -newer "$run_marker" | sort | tail -n 1)
    fi
    if [ "$run_status" -eq 2 ]; then
        # a mistake of the user's, which train.py has just named in full: not a second time
        echo "its message is above; when that is mended, the same command (or one with better arguments) goes on"
        return
    elif [ -z "$run_log" ]; then
        echo "it wrote no log; its message is above"
    else
        echo "last lines of $run_log:"
        tail -n 15 "$run_log" | sed 's/^/    /'
    fi
    run_error=$(run_info error "$run_dir") || run_error=
    # without the exception's name, as the log has it; said once is enough
    if [ -n "$run_error" ] && ! tail -n 15 "${run_log:-/dev/null}" | grep -Fq -e "${run_error#*: }"; then
        echo "error: $run_error"
    fi
    echo "the same command again goes on from here"
}

# run_seeds FOLDER TRAIN_ARGS...: a run a seed, in FOLDER/seed1, FOLDER/seed2, ... With XD_TARGETS (xd_test.sh sets it)
# nothing is trained: the models that these runs have made are tested on other datasets
run_seeds() {
    seeds_folder=$1
    shift
    if [ -n "${XD_TARGETS:-}" ]; then
        run_targets "$seeds_folder" "$@"
        return
    fi
    for SEED in $SEEDS; do
        run "$seeds_folder/seed$SEED" --seed "$SEED" "$@"
    done
}

# run_tested MODEL FOLDER FIRST TRAIN_ARGS...: a test, into FOLDER, of the model of the finished run MODEL at its last
# epoch; FIRST is the command that makes that run. A test that is older than the model is of another one and made anew.
run_tested() {
    tested_model=$1 tested_folder=$2 tested_first=$3
    shift 3
    if [ -z "$DRY_RUN" ]; then
        EPOCH=$(run_info last_epoch "$tested_model") || stop "first run $tested_first"
    elif ! EPOCH=$(run_info last_epoch "$tested_model" 2>/dev/null); then
        EPOCH=last # reporting/dry_run.py knows its number
        if [ "$tested_model" != "${tested_missing:-}" ]; then # once for all tests of it
            dry_run "# after $tested_first, which has not made the model of seed $SEED:"
        fi
        tested_missing=$tested_model
    fi
    RUN_AGAIN=
    if [ -f "$tested_folder/results.json" ] &&
        [ -n "$(find "$tested_model/results.json" -newer "$tested_folder/results.json" 2>/dev/null)" ]; then
        if [ -z "$DRY_RUN" ]; then echo "the model is newer than its test, which is repeated: $tested_folder"; fi
        RUN_AGAIN=--overwrite
    fi
    run "$tested_folder" --seed "$SEED" --model-dir "$tested_model" --load-epoch "$EPOCH" --eval-only "$@"
}

# run_new FOLDER TRAIN_ARGS...: base to new, second half: the models of FOLDER/base/seedS on the new classes, into
# FOLDER/new/seedS
run_new() {
    new_folder=$1
    shift
    for SEED in $SEEDS; do
        run_tested "$new_folder/base/seed$SEED" "$new_folder/new/seed$SEED" \
            "$(basename -- "$0" _test.sh)_train.sh with the same arguments" DATASET.SUBSAMPLE_CLASSES new "$@"
    done
}

# run_targets FOLDER TRAIN_ARGS...: the models of FOLDER/seedS on each of XD_TARGETS, into FOLDER/xd/TARGET/seedS
run_targets() {
    targets_folder=$1
    shift
    for SEED in $SEEDS; do
        for DATASET in $XD_TARGETS; do
            case "${TASKID:+ $XD_SHIFTED }" in
                "" | *" $DATASET "*) ;; # all tasks, or those of the target are the source's
                *) stop "TASKID $TASKID is a task of the source, $DATASET has other ones; train on that task's own dataset" ;;
            esac
            run_tested "$targets_folder/seed$SEED" "$targets_folder/xd/$DATASET/seed$SEED" "$XD_FIRST" "$@"
        done
    done
}

# one_task: TASK_KEYS and TASK_FOLDER for an optional TASKID, or else TASK of the environment, or DATASET.SUBSAMPLE_TASKS
# taskN among the pairs: that task of the suite alone, in a folder of its own
one_task() {
    TASKID=${TASKID:-${TASK:-$arg_task}}
    TASK_FOLDER=${TASKID:+/task$TASKID}
    TASK_KEYS=${TASKID:+DATASET.SUBSAMPLE_TASKS task$TASKID}
}

# several_jobs: JOBS, how many things may run side by side, unless it is set: the number of processors, at most 4; and
# PROCESSORS
several_jobs() {
    PROCESSORS=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || PROCESSORS=1
    matches "$PROCESSORS" '[1-9][0-9]*' || PROCESSORS=1
    if [ -z "${JOBS:-}" ]; then
        JOBS=$PROCESSORS
        if [ "$JOBS" -gt 4 ]; then JOBS=4; fi
    fi
    matches "$JOBS" '[1-9][0-9]*' || stop "JOBS has to be a number of runs, at least 1; found \"$JOBS\""
}

# ---------------------------------------------------------------------------------------------------- installation

# python_version PYTHON: "3.12.1", also of interpreters too old for this project; nothing when it does not start
python_version() {
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

stop() {
    printf '%s: %s\n' "$(basename -- "$0")" "$1" >&2
    exit 2
}

# prepare_python: PYTHON becomes an interpreter that has all of requirements.txt.
# With $PYTHON given: that one as it is, and pip adds only what it lacks. Otherwise .venv of the repository, made here
# when there is none. Packages come from wherever pip is configured to look. A plain "torch" may be a CUDA build of
# several GB there; on a machine without a GPU the CPU build of the PyTorch site is smaller: install it into .venv
# beforehand, or give the interpreter that has it as PYTHON, and it is kept.
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
    echo "installing what $PYTHON lacks of requirements.txt"
    "$PYTHON" -m pip install --disable-pip-version-check -r "$REPO/requirements.txt" ||
        stop "pip could not install into $PYTHON (its message is above). Without PYTHON a .venv is made instead."
}

venv_python() {
    PYTHON=$REPO/.venv/bin/python
    if [ ! -e "$PYTHON" ] || ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        # none, or one whose making was interrupted; making it again keeps what is in it
        base_python
        echo "making $REPO/.venv with $prepare_base ($(python_version "$prepare_base"))"
        "$prepare_base" -m venv "$REPO/.venv" || stop "could not make $REPO/.venv (message above). \
On Debian and Ubuntu the package python3-venv is needed; a broken .venv has to be removed first. \
Or give an interpreter as PYTHON."
    fi
    prepare_found=$(python_version "$PYTHON") || stop "$PYTHON does not start: remove $REPO/.venv and try again"
    new_enough "$PYTHON" ||
        stop "Python 3.10 or newer is needed, $REPO/.venv has $prepare_found: remove it, or give an interpreter as PYTHON"

    # written only after a successful installation, so an interrupted one is not taken for finished
    prepare_stamp=$REPO/.venv/requirements.stamp
    prepare_hash=$("$PYTHON" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), "python", sys.version.split()[0])' "$REPO/requirements.txt")
    if [ -f "$prepare_stamp" ] && [ "$(cat "$prepare_stamp")" = "$prepare_hash" ]; then return; fi
    echo "installing requirements.txt into $REPO/.venv (once; PyTorch is large)"
    "$PYTHON" -m pip install --disable-pip-version-check -r "$REPO/requirements.txt" ||
        stop "pip could not install requirements.txt into $REPO/.venv (its message is above); the same command tries again"
    printf '%s\n' "$prepare_hash" >"$prepare_stamp.new"
    mv -f "$prepare_stamp.new" "$prepare_stamp"
}

# base_python: prepare_base becomes the first interpreter on the PATH that is new enough
base_python() {
    prepare_seen=
    for prepare_base in python3 python3.13 python3.12 python3.11 python3.10 python; do
        prepare_found=$(python_version "$prepare_base") || continue
        if new_enough "$prepare_base"; then return; fi
        prepare_seen="$prepare_seen $prepare_base ($prepare_found)"
    done
    stop "Python 3.10 or newer is needed; found on the PATH:${prepare_seen:- none}. Or give an interpreter as PYTHON."
}
