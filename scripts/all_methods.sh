#!/bin/sh
# All rows of the published table on one suite: zero-shot, linear probe, ProtoNet, CoOp-MT, -CA and -CS, CoCoOp,
# ProGrad, KgCoOp, PLOT, SoftCPT* and the six variants of SoftCPT, for each number of shots and seed, then their table
# with their costs. Single-task methods learn prompts for all tasks in one joint run (TSC).
#   SHOTS="1 2 4" sh all_methods.sh icon5 tiny_ep20
#   SHOTS="1 2 4 8 16" CLS_SAMPLE_RATE=0.1 sh all_methods.sh general10 rn50_ep50 DATALOADER.FEATURE_BANK True
# A method without a config file CFG in configs/trainers/METHOD uses CFG without its epochs (rn50_ep50: rn50), or its
# published file (CoCoOp rn50_c4_ep10_batch1_ctxv1, KgCoOp rn50_ep100_ctxv1); a method with none of them is reported and
# left out. Settings that the papers choose by suite or number of shots are set here: ProGrad uses CoOp's epochs if CFG is
# BACKBONE_ep50 and these files exist (50 with 1 shot, 100 with up to 4, 200 with more), and with 8 or more shots LAMBDA 0.8
# on DTD, EuroSAT and Oxford Flowers; PLOT has 2 prompts per class on General-10, 4 on other suites.
# Environment: SHOTS (default "1 2 4"), METHODS (rows, default all), JOBS (runs at a time, see pool.sh),
# CLS_SAMPLE_RATE (class-sampled training of SoftCPT-CATA, -CSTA, -CATS and -CSTS; published: 0.1 on General-10, none elsewhere).

. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_tables.sh"
help_wanted "$@"

set -f # SoftCPT* is a name
if [ $# -lt 2 ] || [ ! -f "$REPO/configs/datasets/$1.yaml" ]; then
    stop "arguments: DATASET CFG [KEY VALUE ...], DATASET a file of configs/datasets; found \"$*\""
fi
DATASET=$1 CFG=$2
shift 2
methods ZeroshotCLIP ZeroshotCLIP2 LinearProbe ProtoNet CoOp-MT CoOp-CA CoOp-CS CoCoOp ProGrad KgCoOp PLOT 'SoftCPT*' \
    SoftCPT-NATA SoftCPT-NATS SoftCPT-CATA SoftCPT-CSTA SoftCPT-CATS SoftCPT-CSTS
ALL_SHOTS=${SHOTS:-1 2 4}
for SHOTS in $ALL_SHOTS; do check_shots; done
RATE=${CLS_SAMPLE_RATE:-}
EXPECTED=$(expectation CLS_SAMPLE_RATE "${RATE:-0}")
if [ -n "$EXPECTED" ]; then stop "CLS_SAMPLE_RATE has to be $EXPECTED; found \"$RATE\""; fi

# own_config TRAINER: sets CONFIG to the config file of this trainer; fails without one
own_config() {
    config_first=$CFG
    if [ "$1 ${CFG##*_}" = "ProGrad ep50" ]; then
        config_first=${CFG%_ep50} # 200 epochs
        case $SHOTS in
            1) config_first=$CFG ;;
            [2-4]) config_first=${config_first}_ep100 ;;
        esac
    fi
    find_config "$1" "$config_first" "$CFG" "${CFG%_ep*}" "${CFG%%_*}" \
        "$(echo "$CFG" | sed 's/_ep.*//')_c4_ep10_batch1_ctxv1" "$(echo "$CFG" | sed 's/_ep.*//')_ep100_ctxv1"
}

# row: sets TRAINER_NAME, LINE (script and arguments) and FOLDER (its results) for METHOD and SHOTS; fails without a config
row() {
    TRAINER_NAME=$METHOD SOFT='' PLACE=output
    case $METHOD in
        CoOp-*) TRAINER_NAME=MTCoOpHard ;;
        SoftCPT-NATA) TRAINER_NAME=MTCoOp SOFT="0 False 4 False 16 False" ;;
        SoftCPT-NATS) TRAINER_NAME=MTCoOp SOFT="0 False 4 True 16 False" ;;
        SoftCPT-CATA) TRAINER_NAME=MTCoOp SOFT="4 False 4 False 16 True" ;;
        SoftCPT-CSTA) TRAINER_NAME=MTCoOp SOFT="4 True 4 False 16 True" ;;
        SoftCPT-CATS) TRAINER_NAME=MTCoOp SOFT="4 False 4 True 16 True" ;;
        SoftCPT-CSTS) TRAINER_NAME=MTCoOp SOFT="4 True 4 True 16 True" ;;
        "SoftCPT*") TRAINER_NAME=MTCoOp ;;
    esac
    own_config "$TRAINER_NAME" || return 1
    RUNS=$DATASET/$TRAINER_NAME/${CONFIG}_${SHOTS}shots
    case $METHOD in
        ZeroshotCLIP) LINE="zeroshot.sh $DATASET $CONFIG" FOLDER=$METHOD/$CONFIG/$DATASET ;;
        ZeroshotCLIP2) LINE="zeroshot2.sh $DATASET $CONFIG" FOLDER=$METHOD/$CONFIG/$DATASET ;;
        LinearProbe) LINE="linearprob.sh $DATASET $CONFIG" FOLDER=$RUNS ;;
        ProtoNet) LINE="protonet.sh $DATASET $CONFIG $SHOTS cosine" FOLDER=$RUNS/metriccosine ;;
        CoOp-MT) hard False False ;;
        CoOp-CA) hard False True ;;
        CoOp-CS) hard True False ;;
        CoCoOp) LINE="main_cocoop.sh $DATASET $CONFIG $SHOTS True" FOLDER=$RUNS/tscTrue ;;
        ProGrad)
            LINE="main_prograd.sh $DATASET $CONFIG $SHOTS 16 1.0 False True"
            if [ "$DATASET" = general10 ] && { [ "$SHOTS" -ge 8 ] || [ "$SHOTS" -le 0 ]; }; then # 0 and -1: all images
                LINE="$LINE TRAINER.PROGRAD.TASK_LAMBDA DescribableTextures=0.8,EuroSAT=0.8,OxfordFlowers=0.8"
            fi
            FOLDER=$RUNS/nctx16_lambda1.0_cscFalse_tscTrue ;;
        KgCoOp) LINE="main_kgcoop.sh $DATASET $CONFIG $SHOTS 8.0 True" FOLDER=$RUNS/w8.0_tscTrue ;;
        PLOT)
            case $DATASET in
                general10) N=2 ;;
                *) N=4 ;;
            esac
            LINE="main_plot.sh $DATASET $CONFIG $SHOTS $N 16 False True"
            FOLDER=$RUNS/n${N}_nctx16_cscFalse_tscTrue ;;
        "SoftCPT*") LINE="main_mtcoop_star.sh $DATASET $CONFIG $SHOTS 16" FOLDER=$RUNS/star_nctx16 ;;
        *)
            LINE="main_mtcoop.sh $DATASET $CONFIG $SHOTS $SOFT lin 1"
            # shellcheck disable=SC2086
            FOLDER=$RUNS/$(printf 'cnctx%s_ccsc%s_tnctx%s_tcsc%s_nctx%s_csc%s_typelin_ratio1_loss' $SOFT)
            case "$METHOD $RATE" in
                SoftCPT-C*\ ?*) # CATA to CSTS, and there is a rate
                    LINE="main_mtcoop_cls_sample.sh $DATASET $CONFIG $SHOTS $SOFT lin 1 $RATE"
                    FOLDER=${FOLDER}_csr$RATE PLACE=outputd ;;
            esac ;;
    esac
    FOLDER=$OUTPUT/$PLACE/$FOLDER
    case $METHOD in
        Zeroshot*) ;; # one run
        *) FOLDER=$FOLDER/seed\* ;; # not those of single tasks, which may lie beside them
    esac
}

# hard CSC TSC: a row of MTCoOpHard
hard() {
    LINE="main_mtcoop_hard.sh $DATASET $CONFIG $SHOTS 16 $1 $2"
    FOLDER=$RUNS/nctx16_csc${1}_tsc$2
}

# jobs: lines for pool.sh. Zero-shot is not random, so it has one run; the launcher of the linear probe reads SHOTS itself.
jobs() {
    case $METHOD in
        Zeroshot*) once=yes seeds=1 ;;
        LinearProbe) once=yes seeds=$SEEDS ;;
        *) once= seeds=$SEEDS ;;
    esac
    if [ -n "$once" ] && [ "$SHOTS" != "${ALL_SHOTS%% *}" ]; then return; fi
    for seed in $seeds; do
        case $once in
            yes) label="$METHOD, seed $seed" ;;
            *) label="$METHOD, $(shots_text), seed $seed" ;;
        esac
        printf '%s\t%s\t%s\n' "$label" "$seed" "$LINE"
    done
}

export OUTPUT SEEDS
LIST=$(temporary_file)
at_end 'rm -f "$LIST"'
for SHOTS in $ALL_SHOTS; do
    for METHOD in $METHODS; do
        if ! row; then
            echo "left out: $METHOD, configs/trainers/$TRAINER_NAME has no $CFG.yaml" >&2
        else
            jobs
        fi
    done
done >"$LIST"
# shellcheck disable=SC2086  # zero or more flags
attended env SHOTS="$ALL_SHOTS" sh "$SCRIPTS/pool.sh" $FLAGS "$@" <"$LIST"
if [ -n "$DRY_RUN" ]; then exit; fi

case $DATASET in # suites that the published table has; of RS-8 only the number of tasks and classes is known
    general10 | plant6 | fashion20) PUBLISHED="--published softcpt" ;;
    *) PUBLISHED= ;;
esac
for SHOTS in $ALL_SHOTS; do
    # shellcheck disable=SC2086  # lists
    table reporting.table $PUBLISHED --seeds $SEEDS --costs --title "$DATASET, $CFG, $(shots_text)"
done
