#!/bin/sh
# Runs launchers concurrently, in the order of a list on standard input. A line of the list is, separated by tabs,
#   LABEL   SEEDS   SCRIPT ARGUMENT ...
# The arguments of this script are added to each launcher.
#   sh scripts/pool.sh [KEY VALUE ...] [--dry-run] [--overwrite] <LIST
# JOBS (environment) runs at a time share the cores; default: min(cores + 1, 4), or 1 with a single core. With JOBS=1 all
# output is shown, otherwise only the start and end of each run. After a failure no new run starts, the last lines of the
# first failed run are shown, and the script exits with its exit code. A finished run with other settings is reported and
# kept; the other runs are made, and the exit code is 2.
# On Linux, runs are forked from one process with all imports (preloaded.py), unless PRELOAD is False (environment; default:
# True without a GPU, False with a GPU, where it is untested).

. "$(dirname -- "$0")/lib.sh"
help_wanted "$@"

# pool_run LINE "$@": runs the launcher of a line of the list
pool_run() {
    IFS=$TAB read -r pool_label pool_seeds pool_command <<LINE
$1
LINE
    shift
    # shellcheck disable=SC2086  # the arguments in the list have no spaces
    set -- $pool_command $FLAGS "$@"
    pool_script=$1
    shift
    SEEDS=$pool_seeds PYTHON=$PYTHON OUTPUT=$OUTPUT POOL_REFUSED=$POOL_REFUSED sh "$SCRIPTS/$pool_script" "$@"
}

# pool_end: exits with the exit code of all runs
pool_end() {
    if [ -d "$pool_folder/failed" ]; then exit "$(cat "$pool_folder/failed/status")"; fi
    pool_refused=$(cat "$pool_folder"/*.refused 2>/dev/null | wc -l | tr -d ' ')
    if [ "$pool_refused" -gt 0 ]; then
        stop "$pool_refused of the runs were already finished with other settings and are kept. To repeat all runs, add \
--overwrite; to write to another place, set OUTPUT=FOLDER."
    fi
}

TAB=$(printf '\t') POOL_REFUSED=

if [ "${1:-}" = --job ]; then # a single run of the list: --job FOLDER NUMBER [KEY VALUE ...]
    pool_folder=$2 pool_number=$3
    shift 3
    if [ -d "$pool_folder/failed" ]; then exit 0; fi
    pool_line=$(sed -n "${pool_number}p" "$pool_folder/list")
    pool_of=$(wc -l <"$pool_folder/list" | tr -d ' ')
    pool_name="[$pool_number/$pool_of] ${pool_line%%"$TAB"*}"
    pool_log=$pool_folder/$pool_number.log
    pool_start=$(date +%s)
    echo "$pool_name: starts"
    pool_status=0
    POOL_REFUSED=$pool_folder/$pool_number.refused
    pool_run "$pool_line" "$@" >"$pool_log" 2>&1 || pool_status=$?
    if [ "$pool_status" -eq 0 ] && [ -s "$POOL_REFUSED" ]; then
        {
            echo "$pool_name: not run, already finished with other settings"
            grep -e '^  there: ' -e '^  now: ' "$pool_log" | awk '!seen[$0]++'
        } >&2
    elif [ "$pool_status" -eq 0 ]; then
        pool_new=$(grep -c -e '^starts: ' -e '^resumes: ' "$pool_log") || true
        if [ "$pool_new" -gt 0 ]; then
            echo "$pool_name: finished after $(($(date +%s) - pool_start)) s"
        else
            echo "$pool_name: skipped, already finished"
        fi
    elif mkdir "$pool_folder/failed" 2>/dev/null; then
        echo "$pool_status" >"$pool_folder/failed/status"
        {
            echo "$pool_name: failed"
            tail -n 25 "$pool_log" | sed 's/^/    /'
        } >&2
    fi
    exit 0
fi

pool_given=${JOBS:-}
several_jobs
if [ -z "$pool_given" ] && [ "$JOBS" -gt 1 ] && [ "$JOBS" -lt 4 ]; then JOBS=$((JOBS + 1)); fi
case " $* " in
    *" DATASET.SUBSAMPLE_TASKS "*)
        stop "DATASET.SUBSAMPLE_TASKS: these runs and their table cover a whole suite; for some of its tasks, call \
the launchers directly" ;;
esac

# with more threads than cores, threads wait for each other
if [ "$JOBS" -gt 1 ]; then
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(((PROCESSORS + JOBS - 1) / JOBS))}
    export OMP_NUM_THREADS
    # If runs use all cores, worker processes only take time from them. A setting of the user comes later and wins.
    if [ "$OMP_NUM_THREADS" = 1 ]; then set -- DATALOADER.NUM_WORKERS 0 "$@"; fi
fi

if [ -n "$DRY_RUN" ]; then
    dry_run_begin
    pool_status=0
    while IFS= read -r pool_line; do
        dry_run "# ${pool_line%%"$TAB"*}"
        pool_run "$pool_line" "$@" </dev/null || pool_status=$?
    done
    exit "$pool_status"
fi

pool_folder=$(mktemp -d "${TMPDIR:-/tmp}/softcpt.XXXXXX")
pool_waiting=
at_end 'rm -rf "$pool_folder"; ${pool_waiting:+kill "$pool_waiting"} 2>/dev/null || true'
cat >"$pool_folder/list"
export PYTHON OUTPUT

PRELOAD=${PRELOAD:-$(if [ -e /dev/nvidiactl ] || [ -e /dev/kfd ]; then echo False; else echo True; fi)}
if [ "$PRELOAD $(uname)" = "True Linux" ] && [ "$(wc -l <"$pool_folder/list")" -gt 1 ] && [ -z "${PRELOADED:-}" ]; then
    PRELOADED=$pool_folder/socket
    export PRELOADED
    "$PYTHON" "$SCRIPTS/preloaded.py" "$PRELOADED" >/dev/null 2>&1 &
    pool_waiting=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do # until it listens; without it, runs start normally
        if [ -S "$PRELOADED" ]; then break; fi
        sleep 0.2
    done
fi

if [ "$JOBS" -eq 1 ]; then
    POOL_REFUSED=$pool_folder/all.refused
    while IFS= read -r pool_line <&3; do
        echo "== ${pool_line%%"$TAB"*}"
        pool_run "$pool_line" "$@"
    done 3<"$pool_folder/list"
    pool_end
    exit 0
fi

pool_threads="$OMP_NUM_THREADS threads"
if [ "$OMP_NUM_THREADS" = 1 ]; then pool_threads="1 thread"; fi
echo "$(wc -l <"$pool_folder/list" | tr -d ' ') runs, $JOBS at a time, $pool_threads each"
trap 'echo "interrupted; the same command continues from the last checkpoints" >&2; exit 130' INT
awk '{ print NR }' "$pool_folder/list" |
    xargs -P "$JOBS" -I %JOB% sh "$SCRIPTS/pool.sh" --job "$pool_folder" %JOB% $FLAGS "$@"
pool_end
