# Shared functions, sourced by the scripts of this folder. POSIX sh; paths may contain spaces.
#
# Environment (all optional):
#   SEEDS   seeds to run, default "1 2 3"
#   OUTPUT  folder for output/ and outputd/, default: the repository
#   TASK    number of a task: only this task of the suite, in its own folder (set by per_task.sh)
#   PYTHON, YOUR_DATA_PATH   see set_env.sh
#
# Every script accepts, at any position among its arguments:
#   --dry-run    print the commands and check their settings (reporting/dry_run.py), without running anything and without
#                reading data or weights; exit code 2 if a command cannot run
#   --overwrite  repeat finished and interrupted runs

set -eu

{ true <&0; } 2>/dev/null || exec </dev/null # a closed standard input

# removes these two from the arguments; FLAGS (unquoted) passes them on to another script
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

# matches TEXT ERE: whether ERE matches the whole of TEXT, which is one line
matches() {
    [ "$(printf '%s\n' "$1" | wc -l)" -eq 1 ] && printf '%s\n' "$1" | grep -Eq "^($2)\$"
}

# yaml_names FOLDER: the config files in FOLDER without ".yaml", wrapped to the width of a terminal
yaml_names() {
    for yaml_file in "$1"/*.yaml; do
        if [ -e "$yaml_file" ]; then basename -- "$yaml_file" .yaml; fi
    done | tr '\n' ' ' | fold -s -w 100 | sed 's/^/    /'
    echo
}

# expectation NAME VALUE: prints nothing if VALUE is valid for the argument NAME, else a description of valid values
expectation() {
    case $1 in
        NAME)
            [ -n "$2" ] && [ -d "$REPO/configs/trainers/$2" ] || echo "a folder of configs/trainers" ;;
        DATASET)
            [ -n "$2" ] && [ -f "$REPO/configs/datasets/$2.yaml" ] || echo "a file of configs/datasets" ;;
        CFG)
            [ -n "$2" ] && [ -f "$REPO/configs/trainers/$TRAINER/$2.yaml" ] || echo "a file of configs/trainers/$TRAINER" ;;
        SHOTS)
            matches "$2" '-1|[0-9]+' || echo "a whole number of images per class (0 or -1: all images)" ;;
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

# meaning NAME: what the argument NAME of a launcher means
meaning() {
    case $1 in
        DATASET) echo "suite or dataset" ;;
        CFG) echo "settings of backbone, input and training" ;;
        SHOTS) echo "training images per class" ;;
        TASKID) echo "number of a task of the suite, from 0: only this task, in a folder of its own" ;;
        MAXTASKID) echo "number of the last task, from 0; one run per task" ;;
        CLASSES) echo "half of the classes of each task" ;;
        N_CTX)
            case $TRAINER in
                VPT) echo "number of visual prompts in a layer" ;;
                UPT | MTUPT) echo "number of tokens that are mapped to the prompts of both towers, half of them each" ;;
                *) echo "number of context tokens in front of a class name" ;;
            esac ;;
        CSC)
            case $TRAINER in
                MTCoOp) echo "True: a context per class, generated from class and task; False: a context per task" ;;
                *) echo "True: each class learns its own context; False: classes share contexts" ;;
            esac ;;
        TSC) echo "True: each task has its own prompts, all in one run; False: one set of prompts" ;;
        TASK_N_CTX) echo "number of context tokens of the task prompts, which feed the meta network (published: 4)" ;;
        TASK_CSC) echo "True: each task prompt has its own context (..TS); False: they share one (..TA)" ;;
        CLASS_N_CTX) echo "the same for class prompts (published: 4); with CSC False, they do not exist (0)" ;;
        CLASS_CSC) echo "True: each class prompt has its own context (CS..); False: they share one (CA..)" ;;
        PG_TYPE) echo "kind of meta network (published: lin)" ;;
        PG_RATIO) echo "without effect, part of the published command (1)" ;;
        CLS_SAMPLE_RATE) echo "share of the classes outside the batch that a training step keeps, 0 to 1" ;;
        DEEP) echo "True: prompts in every layer (VPT-deep); False: in the first layer (VPT-shallow)" ;;
        MODE) echo "how the prompts of both towers are made" ;;
        SHARING) echo "how tasks share prompts" ;;
        METRIC) echo "distance to the mean feature of a class" ;;
        N) echo "number of prompts per class" ;;
        W) echo "weight of the distance to hand-made prompts (published: 8.0)" ;;
        LAMBDA) echo "weight of the gradient part that agrees with zero-shot CLIP, 0 to 1 (published: 1.0)" ;;
    esac
}

# own_comment: the comment at the head of the script
own_comment() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

# help_wanted "$@": with -h or --help, prints the comment of the script and exits
help_wanted() {
    case ${1:-} in
        -h | --help) own_comment; exit 0 ;;
    esac
}

# arguments_help: prints the meaning of each argument and its valid values
arguments_help() {
    for help_item in $arg_names; do
        help_name=${help_item%:optional}
        help_values=$(expectation "$help_name" "")
        if [ "$help_item" != "$help_name" ]; then help_values="$help_values; may be omitted"; fi
        printf '    %-15s %s\n' "$help_name" "$(meaning "$help_name")"
        printf '    %-15s     %s\n' "" "$help_values"
    done
    printf '    %-15s %s\n' "KEY VALUE ..." "any further settings, e.g. OPTIM.MAX_EPOCH 4; docs/settings.md lists all" \
        --dry-run "print the commands and check them, run nothing" \
        --overwrite "repeat finished and interrupted runs"
}

# help: prints the comment of the script, the usage and the meaning of all arguments
help() {
    own_comment
    echo
    usage
    echo "arguments:"
    arguments_help
}

# usage: prints the usage
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

# arguments "NAME NAME:optional ..." EXAMPLE "$@": sets one variable per NAME, and ARGC, the number of used arguments.
# KEY VALUE pairs follow them. Optional arguments are numbers, so they differ from keys. On errors, prints all of them and
# the usage to stderr and exits with 2. TRAINER has to be set.
arguments() {
    arg_names=$1
    arg_example=$2
    shift 2
    arg_found=
    arg_problems=
    arg_task=
    TASKID= # an argument, not taken from the environment
    ARGC=0
    case ${1:-} in
        -h | --help) help; exit 0 ;;
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
        # the key of a setting: SEED, OPTIM.LR, TRAINER.MyMethod.RATE; not False, 16 or lin
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
        {
            printf '%s\n' "$arg_problems"
            echo
            usage
            echo "sh $(basename -- "$0") --help explains the arguments"
        } >&2
        exit 2
    fi
}

add_problem() {
    arg_problems="$arg_problems${arg_problems:+
}$(basename -- "$0"): $1"
}

# ---------------------------------------------------------------------------------------------------- runs

# run_info QUESTION DIR ...: answer of reporting/run_info.py about the run in DIR
run_info() {
    (cd -- "$REPO" && "$PYTHON" -m reporting.run_info "$@")
}

# run DIR TRAIN_ARGS...: runs train.py with output folder DIR. A finished run is skipped, an interrupted run resumes from
# its last checkpoint. With RUN_AGAIN=--overwrite or the argument --overwrite, the run is repeated. Exits if it fails.
RUN_AGAIN=
run() {
    run_dir=$1
    shift
    usable_python
    check_tasks "$@"
    set -- --root "$DATA" --trainer "${XD_METHOD:-$TRAINER}" \
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
            3) # a finished run with other settings, which is kept
                if [ -z "${POOL_REFUSED:-}" ]; then exit 2; fi
                echo "$run_dir" >>"$POOL_REFUSED" # for pool.sh, which continues with the other runs
                return ;;
            *) exit "$run_status" ;;
        esac
    fi
    case $run_state in
        complete)
            echo "skipped, already finished: $run_dir"
            return ;;
        unfinished) echo "resumes: $run_dir" ;;
        *) echo "starts: $run_dir" ;;
    esac

    run_marker=$(temporary_file)
    trap 'rm -f "$run_marker"' EXIT
    run_status=0
    set -- "$REPO/train.py" "$@"
    if [ -S "${PRELOADED:-}" ]; then set -- "$SCRIPTS/preloaded.py" "$PRELOADED" "$@"; fi # see pool.sh
    attended "$PYTHON" "$@" || run_status=$?
    if [ "$run_status" -eq 0 ] && [ "$(run_info state "$run_dir")" != complete ]; then
        echo "$(basename -- "$0"): train.py succeeded but did not write a complete results.json" >&2
        run_status=1
    fi
    if [ "$run_status" -ne 0 ]; then
        run_failed >&2
        exit "$run_status"
    fi
    rm -f "$run_marker"
    trap - EXIT
}

# attended COMMAND...: runs a command to its end and returns its exit status. A signal to this script is passed on to the
# command as SIGTERM, and the script exits after it. The command is in the background, because a shell does not hear of
# signals while it waits for one in the foreground. If this script is killed, dassl/program.py ends the command.
attended() {
    attended_signal=
    SOFTCPT_LAUNCHED="${SOFTCPT_LAUNCHED:-} $$" "$@" <&9 9<&- &
    attended_pid=$!
    trap 'attended_signal=130; kill -TERM "$attended_pid" 2>/dev/null || :' INT
    trap 'attended_signal=143; kill -TERM "$attended_pid" 2>/dev/null || :' TERM
    trap 'attended_signal=129; kill -TERM "$attended_pid" 2>/dev/null || :' HUP
    while :; do
        attended_status=0
        wait "$attended_pid" || attended_status=$?
        kill -0 "$attended_pid" 2>/dev/null || break # otherwise a signal has ended `wait`
    done
    signals_exit
    if [ -n "$attended_signal" ]; then exit "$attended_signal"; fi
    return "$attended_status"
} 9<&0

# signals_exit: a signal runs the EXIT trap (not every shell does so by itself)
signals_exit() {
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
}

# check_tasks TRAIN_ARGS...: exits unless the tasks of the run are the tasks of its folder, see one_task
check_tasks() {
    check_found=all check_key=
    for check_word in "$@"; do # a repeated key keeps its last value
        if [ "$check_key" = DATASET.SUBSAMPLE_TASKS ]; then check_found=$check_word; fi
        check_key=$check_word
    done
    if [ "${TASK:-${TASKID:-}}" != "${TASKID:-}" ]; then
        stop "TASK=$TASK, but this script runs something else: it does not support TASK, or got another TASKID"
    elif [ "$check_found" = "${TASKID:+task}${TASKID:-all}" ]; then
        return
    elif [ -n "${TASKID:-}" ]; then
        stop "DATASET.SUBSAMPLE_TASKS $check_found, but this is the folder of task $TASKID: omit the setting"
    elif [ -z "${TASK_FOLDER+set}" ]; then
        stop "DATASET.SUBSAMPLE_TASKS $check_found: this script runs all tasks of a suite; omit the setting"
    fi
    stop "DATASET.SUBSAMPLE_TASKS $check_found has no folder here. For one task, give its number, e.g. task2. For several \
tasks, each in its own run: TASKS=\"0 2\" sh scripts/per_task.sh and this command. For several tasks in one run: python \
train.py with its own --output-dir."
}

# at_end COMMAND: runs COMMAND when the script ends, also on a signal (not every shell runs its EXIT trap then)
at_end() {
    # shellcheck disable=SC2064  # expanded now on purpose
    trap "$1" EXIT
    signals_exit
}

# dry_run WORD...: records a call of train.py, or a line that begins with #. They are printed when the first script that
# called this function or dry_run_begin ends.
dry_run() {
    dry_run_begin
    printf '%s\0' "$#" "$@" >>"$SOFTCPT_DRY_RUN"
}

dry_run_begin() {
    if [ -n "${SOFTCPT_DRY_RUN:-}" ]; then return; fi
    SOFTCPT_DRY_RUN=$(temporary_file)
    export SOFTCPT_DRY_RUN
    at_end dry_run_end
}

# dry_run_end: prints the recorded calls and their errors
dry_run_end() {
    dry_run_status=$?
    trap - EXIT
    (cd -- "$REPO" && "$PYTHON" -m reporting.dry_run "$SOFTCPT_DRY_RUN" "$PYTHON") || dry_run_status=$?
    rm -f "$SOFTCPT_DRY_RUN"
    exit "$dry_run_status"
}

# run_failed: prints the known facts about the failed run
run_failed() {
    echo
    echo "$(basename -- "$0"): failed with exit status $run_status: $run_dir"
    # only a log of this attempt; the log of an earlier attempt would mislead
    run_log=
    if [ -d "$run_dir" ]; then
        run_log=$(find "$run_dir" -name 'log.txt*' -newer "$run_marker" | sort | tail -n 1)
    fi
    if [ "$run_status" -eq 2 ]; then
        # a user error, which train.py has just reported
        echo "see its message above; after fixing the error, run the same (or the corrected) command to continue"
        return
    elif [ -z "$run_log" ]; then
        echo "it wrote no log; see its message above"
    else
        echo "last lines of $run_log:"
        tail -n 15 "$run_log" | sed 's/^/    /'
    fi
    run_error=$(run_info error "$run_dir") || run_error=
    # only if the log does not contain it; the log has it without the name of the exception
    if [ -n "$run_error" ] && ! tail -n 15 "${run_log:-/dev/null}" | grep -Fq -e "${run_error#*: }"; then
        echo "error: $run_error"
    fi
    echo "run the same command again to continue from here"
}

# run_seeds FOLDER TRAIN_ARGS...: one run per seed, in FOLDER/seed1, FOLDER/seed2, ... With XD_TARGETS (set by xd_test.sh)
# the models of these runs are tested on other datasets instead
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

# run_tested MODEL FOLDER FIRST TRAIN_ARGS...: tests the finished run MODEL at its last epoch, with output folder FOLDER.
# FIRST is the command for the run MODEL. A test that is older than the model is repeated.
run_tested() {
    tested_model=$1 tested_folder=$2 tested_first=$3
    shift 3
    if [ -z "$DRY_RUN" ]; then
        EPOCH=$(run_info last_epoch "$tested_model") || stop "first run $tested_first"
    elif ! EPOCH=$(run_info last_epoch "$tested_model" 2>/dev/null); then
        EPOCH=last # reporting/dry_run.py replaces it by the number
        if [ "$tested_model" != "${tested_missing:-}" ]; then # once for all tests of this model
            dry_run "# after $tested_first, which has not trained the model of seed $SEED yet:"
        fi
        tested_missing=$tested_model
    fi
    RUN_AGAIN=
    if [ -f "$tested_folder/results.json" ] &&
        [ -n "$(find "$tested_model/results.json" -newer "$tested_folder/results.json" 2>/dev/null)" ]; then
        if [ -z "$DRY_RUN" ]; then echo "the model is newer than its test; the test is repeated: $tested_folder"; fi
        RUN_AGAIN=--overwrite
    fi
    run "$tested_folder" --seed "$SEED" --model-dir "$tested_model" --load-epoch "$EPOCH" --eval-only "$@"
}

# run_new FOLDER TRAIN_ARGS...: base to new, second half: tests FOLDER/base/seedS on the new classes, into FOLDER/new/seedS
run_new() {
    new_folder=$1
    shift
    for SEED in $SEEDS; do
        run_tested "$new_folder/base/seed$SEED" "$new_folder/new/seed$SEED" \
            "$(basename -- "$0" _test.sh)_train.sh with the same arguments" DATASET.SUBSAMPLE_CLASSES new "$@"
    done
}

# run_targets FOLDER TRAIN_ARGS...: tests FOLDER/seedS on each of XD_TARGETS, into FOLDER/xd/TARGET/seedS
run_targets() {
    targets_folder=$1
    shift
    for SEED in $SEEDS; do
        for DATASET in $XD_TARGETS; do
            case "${TASKID:+ $XD_SHIFTED }" in
                "" | *" $DATASET "*) ;; # all tasks, or the target has the tasks of the source
                *) stop "TASKID $TASKID is a task of the source, $DATASET has other tasks; train on the dataset of that task" ;;
            esac
            run_tested "$targets_folder/seed$SEED" "$targets_folder/xd/$DATASET/seed$SEED" "$XD_FIRST" "$@"
        done
    done
}

# one_task: sets TASK_KEYS and TASK_FOLDER for a run of one task in its own folder. The task is TASKID, or else TASK of the
# environment, or else DATASET.SUBSAMPLE_TASKS taskN among the pairs.
one_task() {
    TASKID=${TASKID:-${TASK:-$arg_task}}
    TASK_FOLDER=${TASKID:+/task$TASKID}
    TASK_KEYS=${TASKID:+DATASET.SUBSAMPLE_TASKS task$TASKID}
}

# several_jobs: sets PROCESSORS, and JOBS (runs at a time) unless it is set: the number of cores, at most 4
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

# temporary_file: prints the path of a new file
temporary_file() {
    mktemp "${TMPDIR:-/tmp}/softcpt.XXXXXX" 2>/dev/null ||
        stop "no file can be written to ${TMPDIR:-/tmp}: set TMPDIR to a folder for temporary files"
}

stop() {
    printf '%s: %s\n' "$(basename -- "$0")" "$1" >&2
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
