#!/bin/sh
# Base to new, second half: the models of main_mtcoop_base2new_train.sh, at their last epoch, on the new classes:
#   sh main_mtcoop_base2new_test.sh icon5 tiny_ep20 4 0 False 4 False 16 False lin 1
# Results: output/base2new/DATASET/MTCoOp/CFG_SHOTSshots/cnctx..._loss/new/seedS

TRAINER=MTCoOp
. "$(dirname -- "$0")/lib.sh"
arguments "$MTCOOP_ARGS" "icon5 tiny_ep20 4 0 False 4 False 16 False lin 1" "$@"
shift "$ARGC"

mtcoop_settings
FOLDER=$OUTPUT/output/base2new/$MTCOOP_FOLDER
for SEED in $SEEDS; do
    EPOCH=$(run_info last_epoch "$FOLDER/base/seed$SEED") || {
        echo "$(basename -- "$0"): first run main_mtcoop_base2new_train.sh with the same arguments" >&2
        exit 2
    }
    # a result that is older than its base model is of another one
    RUN_AGAIN=
    if [ -f "$FOLDER/new/seed$SEED/results.json" ] &&
        [ -n "$(find "$FOLDER/base/seed$SEED/results.json" -newer "$FOLDER/new/seed$SEED/results.json" 2>/dev/null)" ]; then
        echo "the base model is newer than its test on new classes, which is repeated"
        RUN_AGAIN=--overwrite
    fi
    # shellcheck disable=SC2086  # pairs without spaces
    run "$FOLDER/new/seed$SEED" --seed "$SEED" --model-dir "$FOLDER/base/seed$SEED" --load-epoch "$EPOCH" --eval-only \
        DATASET.SUBSAMPLE_CLASSES new $MTCOOP_KEYS "$@"
done
