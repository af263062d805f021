#!/bin/sh
# Table 1 of the UPT paper (Zang et al.): each method is trained on one dataset and tested on its shifted test sets.
#   sh upt_table1.sh [KEY VALUE ...]                    the embedded suite: icon5_colour tiny_ep20, 4 shots
#   sh upt_table1.sh icon13_colour tiny_ep20            all 13 tasks, with more test drawings
#   sh upt_table1.sh imagenet vit_b16_ep50              16 shots, as published
# Rows: zero-shot, CoOp, CoCoOp, VPT-shallow, VPT-deep and UPT (4 prompts in each tower with prompts), SoftCPT-NATA. On a
# suite each task has its own prompts (TSC). A method without a config file CFG in configs/trainers/METHOD uses CFG without
# its epochs, or the file with 4 tokens initialised with "a photo of a" (CoOp: always this file).
# Environment: SHOTS, METHODS (rows, default all), SEEDS, JOBS (runs at a time, see pool.sh), OUTPUT.
# Finished runs are skipped. At the end, python -m reporting.domain_shift prints the table.

. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_tables.sh"
. "$SCRIPTS/lib_xd.sh"

help_wanted "$@"
case ${1:-} in
    "" | [A-Z]*) set -- icon5_colour tiny_ep20 "$@" ;;
esac
if [ $# -lt 2 ] || [ -z "$(shifted "$1")" ]; then
    stop "arguments: DATASET CFG [KEY VALUE ...], DATASET icon5_colour, icon13_colour or imagenet; found \"$*\""
fi
DATASET=$1 CFG=$2
shift 2
methods ZeroshotCLIP CoOp CoCoOp VPT-shallow VPT-deep UPT SoftCPT-NATA
case $DATASET in
    imagenet) SHOTS=${SHOTS:-16} TSC=False ;; # one task
    *) SHOTS=${SHOTS:-4} TSC=True ;;
esac
check_shots

# row: sets CALL, the arguments of xd_train.sh and xd_test.sh, and FOLDER, the folder of the runs, for METHOD
row() {
    case $CFG in
        *_ep*) EPOCHS=_ep${CFG##*_ep} ;;
        *) EPOCHS=_ep50 ;; # published for CoOp on ImageNet
    esac
    BASE=${CFG%_ep*} TRAINER=${METHOD%-*}
    case $METHOD in
        CoOp)
            config CoOp "${BASE}_c4${EPOCHS}_ctxv1" "$CFG"
            SETTINGS="4 False $TSC" FOLDER=nctx4_cscFalse_tsc$TSC ;;
        CoCoOp)
            config CoCoOp "$CFG" "${BASE}_c4_ep10_batch1_ctxv1"
            SETTINGS=$TSC FOLDER=tsc$TSC ;;
        VPT-*)
            config VPT "$CFG" "$BASE"
            case $METHOD in *-deep) DEEP=True ;; *) DEEP=False ;; esac
            SETTINGS="4 $DEEP $TSC" FOLDER=nctx4_deep${DEEP}_tsc$TSC ;;
        UPT)
            config UPT "$CFG" "$BASE"
            SETTINGS="upt 8 $TSC" FOLDER=modeupt_nctx8_tsc$TSC ;;
        SoftCPT-NATA)
            TRAINER=MTCoOp
            config MTCoOp "$CFG" "$BASE$EPOCHS"
            SETTINGS="0 False 4 False 16 False lin 1"
            FOLDER=cnctx0_ccscFalse_tnctx4_tcscFalse_nctx16_cscFalse_typelin_ratio1_loss ;;
        ZeroshotCLIP)
            config ZeroshotCLIP "$CFG" "$BASE"
            FOLDER=$OUTPUT/output/ZeroshotCLIP/$CONFIG/$DATASET
            return ;;
    esac
    CALL="$TRAINER $DATASET $CONFIG $SHOTS $SETTINGS"
    FOLDER=$OUTPUT/output/$DATASET/$TRAINER/${CONFIG}_${SHOTS}shots/$FOLDER
}

# jobs SCRIPT: lines for pool.sh
jobs() {
    for METHOD in $METHODS; do
        row
        if [ "$METHOD" != ZeroshotCLIP ]; then
            for seed in $SEEDS; do
                printf '%s %s, seed %s\t%s\t%s %s\n' "$METHOD" "$DATASET" "$seed" "$seed" "$1" "$CALL"
            done
        elif [ "$1" = xd_test.sh ]; then # nothing is learned, and nothing is drawn
            for target in $DATASET $(shifted "$DATASET"); do
                printf '%s\t1\t%s\n' "$METHOD, $target" "zeroshot.sh $target $CONFIG"
            done
        fi
    done
}

# pool KEY VALUE ...: runs LIST; without TARGETS of the environment, which would change the tests
pool() {
    # shellcheck disable=SC2086  # FLAGS is a list
    attended env TARGETS= sh "$SCRIPTS/pool.sh" "$@" $FLAGS <"$LIST"
}

export OUTPUT PYTHON SEEDS
for METHOD in $METHODS; do row; done # says what is wrong before anything is run
LIST=$(temporary_file)
at_end 'rm -f "$LIST"'
jobs xd_train.sh >"$LIST"
if [ -n "$DRY_RUN" ]; then
    jobs xd_test.sh >>"$LIST"
    pool "$@"
    exit 0
fi
pool "$@" # all of it before the first test: side by side, a test could come before its model
jobs xd_test.sh >"$LIST"
pool "$@"

# shellcheck disable=SC2046,SC2086  # lists
table reporting.domain_shift --seeds $SEEDS --targets $(shifted "$DATASET") --title "$DATASET, $CFG, $(shots_text)"
