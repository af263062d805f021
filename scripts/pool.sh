#!/bin/sh
# Runs launchers concurrently, in the order of a list on standard input. A line of the list is, separated by tabs,
#   LABEL   SEEDS   SCRIPT ARGUMENT ...
# The arguments of this script are added to each launcher.
#   sh scripts/pool.sh [KEY VALUE ...] [--dry-run] [--overwrite] <LIST
# JOBS (environment) runs at a time share the cores; default: min(cores + 1, 4), or 1 with a single core. With JOBS=1 all
# output is shown, otherwise the start and end of each run, its accuracy, and how much is done. After a failure the other
# runs are made (unless all of them would fail), what failed or was not made is listed, and the exit code is that of the
# first failure. A finished run with other settings is reported and kept; the exit code is then 2.
# On Linux, runs are forked from one process with all imports (preloaded.py), unless PRELOAD is False (environment; default:
# True without a GPU, False with a GPU, where it is untested).

. "$(dirname -- "$0")/lib.sh"
help_wanted "$@"

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
usable_python
export PYTHON OUTPUT JOBS

if [ -z "$DRY_RUN" ]; then exec "$PYTHON" "$SCRIPTS/pool.py" $OVERWRITE "$@"; fi

dry_run_begin
pool_status=0 pool_tab=$(printf '\t')
while IFS=$pool_tab read -r pool_label pool_seeds pool_command; do
    dry_run "# $pool_label"
    # shellcheck disable=SC2086  # the arguments in the list have no spaces
    SEEDS=$pool_seeds sh "$SCRIPTS"/$pool_command $FLAGS "$@" </dev/null || pool_status=$?
done
exit "$pool_status"
