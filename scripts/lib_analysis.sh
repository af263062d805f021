# Shared functions, sourced by analysis_*.sh after lib.sh. FOLDER, set there, gets one folder per experiment of the analysis,
# for parse_test_res.py --multi-exp.

# each_is NAME VALUES ERE TEXT: stops unless ERE matches every word of VALUES; TEXT describes valid words of variable NAME
each_is() {
    if [ -z "$2" ]; then stop "$1 is empty: expected $4"; fi
    for each_word in $2; do
        matches "$each_word" "$3" || stop "$1 has to be $4, found \"$each_word\""
    done
}

# analysis NAME METHOD [KEY VALUE ...]: one run per seed of CoOp-CA or SoftCPT-NATA into FOLDER/NAME, with the published
# settings except for the pairs
analysis() {
    analysis_name=$1
    case $2 in
        CoOp-CA)
            TRAINER=MTCoOpHard
            analysis_keys="TRAINER.MTCOOPH.N_CTX 16 TRAINER.MTCOOPH.TSC True" ;;
        SoftCPT-NATA)
            TRAINER=MTCoOp
            analysis_keys="TRAINER.MTCOOP.N_CTX 16 TRAINER.MTCOOP.TASK_N_CTX 4" ;;
    esac
    shift 2
    # shellcheck disable=SC2086  # pairs without spaces
    run_seeds "$FOLDER/$analysis_name" DATASET.NUM_SHOTS "$SHOTS" $analysis_keys "$@"
}

# analysis_done [OPTION]: prints the command that shows the results of the analysis
analysis_done() {
    if [ -n "$DRY_RUN" ]; then return; fi
    echo "all results: $PYTHON $REPO/parse_test_res.py \"$FOLDER\" --multi-exp${1:+ $1}"
}
