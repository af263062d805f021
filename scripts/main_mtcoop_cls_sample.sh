#!/bin/sh
# SoftCPT with class-sampled training: each softmax contains the share CLS_SAMPLE_RATE of the other classes of the task
# (needs CSC True):
#   sh main_mtcoop_cls_sample.sh icon5 tiny_ep20 4 4 False 4 False 16 True lin 1 0.1
# Results: outputd/DATASET/MTCoOp/CFG_SHOTSshots/cnctx..._loss_csrRATE/seedS

TRAINER=MTCoOp
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_methods.sh"
arguments "DATASET CFG SHOTS $MTCOOP_NAMES CLS_SAMPLE_RATE" "icon5 tiny_ep20 4 4 False 4 False 16 True lin 1 0.1" "$@"
shift "$ARGC"

MTCOOP_TAIL=_csr$CLS_SAMPLE_RATE
mtcoop_settings
# shellcheck disable=SC2086  # pairs without spaces
run_seeds "$OUTPUT/outputd/$FOLDER" $KEYS TRAINER.MTCOOP.CLS_SAMPLE_RATE "$CLS_SAMPLE_RATE" "$@"
