#!/bin/sh
# All rows of Table 2 of the UPT paper on one suite, plus SoftCPT and unified prompts shared by tasks, for each seed; then
# the table, with one column per task and the published numbers.
#   sh upt_table2.sh                                                      the embedded suite and model: icon5 tiny_ep20
#   SHOTS=16 PER_TASK=yes sh upt_table2.sh general11 vit_b16 --dry-run    as published
# A row of the paper is one run for all tasks, each with its own prompts (TSC), or with PER_TASK=yes one run per task.
# CoOp uses the file CFG_ctxv1 of configs/trainers/CoOp if it exists; SoftCPT and MTUPT use CFG_ep50 if CFG does not exist.
# Environment: SHOTS (default 4), METHODS (rows, default all), PER_TASK (yes or no, default no), TASKS (numbers of the tasks,
# default: all tasks of the suite), JOBS (runs at a time, see pool.sh).

. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_tables.sh"

help_wanted "$@"
case ${1:-} in
    "" | [A-Z]*) set -- icon5 tiny_ep20 "$@" ;;
esac
if [ $# -lt 2 ] || [ ! -f "$REPO/configs/datasets/$1.yaml" ]; then
    stop "arguments: [DATASET CFG] [KEY VALUE ...], DATASET a file of configs/datasets; found \"$*\""
fi
DATASET=$1 CFG=$2
shift 2
SHOTS=${SHOTS:-4} PER_TASK=${PER_TASK:-no}
methods CoOp VPT-shallow VPT-deep Joint Shared MLP UPT SoftCPT-NATA MTUPT-soft MTUPT-hard
check_shots
if [ -n "${TASK:-}" ]; then stop "TASK=$TASK is set, which this script does not support; PER_TASK=yes runs each task"; fi
case $PER_TASK in
    yes) TASKS=${TASKS:-$(cd -- "$REPO" && "$PYTHON" -m scripts.suite_tasks "configs/datasets/$DATASET.yaml" "$@")} ;;
    no) ;;
    *) stop "PER_TASK has to be yes or no; found \"$PER_TASK\"" ;;
esac

# row: sets LINE (script and arguments), FOLDER (its results) and LAST (the end of FOLDER: a task or a seed) for METHOD
row() {
    case $PER_TASK in
        no) OWN=True LAST=/seed\* ;;
        yes)
            OWN=False # a run of one task has one set of prompts
            case $TASKS in *\ *) LAST=/task\* ;; *) LAST=/task$TASKS ;; esac ;;
    esac
    case $METHOD in
        CoOp)
            config CoOp "${CFG}_ctxv1" "$CFG"
            LINE="main_coop.sh $DATASET $CONFIG $SHOTS 4 False $OWN" FOLDER=CoOp NAME=nctx4_cscFalse_tsc$OWN ;;
        VPT-*)
            config VPT "$CFG"
            case $METHOD in *deep) DEEP=True ;; *) DEEP=False ;; esac
            LINE="main_vpt.sh $DATASET $CONFIG $SHOTS 4 $DEEP $OWN" FOLDER=VPT NAME=nctx4_deep${DEEP}_tsc$OWN ;;
        Joint | Shared | MLP | UPT)
            config UPT "$CFG"
            MODE=$(echo "$METHOD" | tr '[:upper:]' '[:lower:]')
            LINE="main_upt.sh $DATASET $CONFIG $SHOTS $MODE 8 $OWN" FOLDER=UPT NAME=mode${MODE}_nctx8_tsc$OWN ;;
        SoftCPT-NATA)
            config MTCoOp "$CFG" "${CFG}_ep50"
            LINE="main_mtcoop.sh $DATASET $CONFIG $SHOTS 0 False 4 False 16 False lin 1" FOLDER=MTCoOp
            NAME=cnctx0_ccscFalse_tnctx4_tcscFalse_nctx16_cscFalse_typelin_ratio1_loss LAST=/seed\* ;;
        MTUPT-*)
            config MTUPT "$CFG" "${CFG}_ep50"
            LINE="main_mtupt.sh $DATASET $CONFIG $SHOTS ${METHOD#*-} upt 8" FOLDER=MTUPT
            NAME=sharing${METHOD#*-}_modeupt_nctx8 LAST=/seed\* ;;
    esac
    FOLDER=$OUTPUT/output/$DATASET/$FOLDER/${CONFIG}_${SHOTS}shots/$NAME$LAST
}

export OUTPUT PYTHON SEEDS
LIST=$(temporary_file)
at_end 'rm -f "$LIST"'
for SEED in $SEEDS; do
    for METHOD in $METHODS; do
        row
        case $LAST in
            /task*)
                for NUMBER in $TASKS; do
                    printf '%s\t%s\t%s\n' "$METHOD, task $NUMBER, seed $SEED" "$SEED" "$LINE $NUMBER"
                done ;;
            *) printf '%s\t%s\t%s\n' "$METHOD, seed $SEED" "$SEED" "$LINE" ;;
        esac
    done
done >"$LIST"
# shellcheck disable=SC2086  # zero or more flags
attended sh "$SCRIPTS/pool.sh" $FLAGS "$@" <"$LIST"
if [ -n "$DRY_RUN" ]; then exit; fi

# shellcheck disable=SC2086  # a list of seeds
table reporting.table --seeds $SEEDS --per-task-columns --published upt2 --keyword overall_acc --costs \
    --title "$DATASET, $CFG, $(shots_text)"
