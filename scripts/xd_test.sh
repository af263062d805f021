#!/bin/sh
# Domain generalisation and cross-dataset transfer, second half: tests the models of xd_train.sh with the same
# arguments, at their last epoch, on other datasets, without training on them.
#   sh xd_test.sh CoOp icon5_colour tiny_c4_ep20_ctxv1 4 4 False True
#   TARGETS="dtd eurosat" sh xd_test.sh UPT imagenet vit_b16_ep50 16 upt 8 False
# TARGETS (environment): files of configs/datasets. Default: the shifted test sets of imagenet, icon5_colour or
# icon13_colour. "others": ImageNet and the ten datasets of General-10, without the source.
# Results: output/DATASET/TRAINER/CFG_SHOTSshots/SETTINGS/xd/TARGET/seedS; python -m reporting.domain_shift reads them

. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_xd.sh"
method_first "$@"
XD_FIRST="sh scripts/xd_train.sh $*"
shift
XD_SHIFTED=$(shifted "${1:-}")
TARGETS=${TARGETS:-$XD_SHIFTED}
if [ "$TARGETS" = others ]; then
    TARGETS=
    for target in imagenet caltech101 dtd eurosat fgvc_aircraft food101 oxford_flowers oxford_pets stanford_cars sun397 ucf101; do
        if [ "$target" != "${1:-}" ]; then TARGETS="$TARGETS $target"; fi
    done
fi
if [ -z "$TARGETS" ] && [ -f "$REPO/configs/datasets/${1:-}.yaml" ]; then
    stop "TARGETS (environment) has to be set to the datasets to test on: $1 has no shifted test sets"
fi
for target in $TARGETS; do
    if [ ! -f "$REPO/configs/datasets/$target.yaml" ]; then
        stop "TARGETS has to be files of configs/datasets, found \"$target\""
    elif [ "$target" = "${1:-}" ]; then
        stop "TARGETS: $target is the source, which the training run has already tested"
    fi
done
XD_TARGETS=${TARGETS:-none} # the launcher names a DATASET that is none
export SEEDS OUTPUT PYTHON XD_TARGETS XD_SHIFTED XD_FIRST
# shellcheck disable=SC2086  # FLAGS is a list
attended sh "$SCRIPTS/$LAUNCHER" "$@" $FLAGS
