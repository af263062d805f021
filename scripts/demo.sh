#!/bin/sh
# From a clone to a table: installs what is needed, then runs zero-shot CLIP, CoOp with one context for all tasks
# (CoOp-MT), CoOp with one a task (CoOp-CA) and SoftCPT-NATA on the embedded suite Icon5 with the embedded CLIP:
# 4 images a class, 20 epochs, seeds 1 2 3. What is finished is not run again.
#   sh scripts/demo.sh [KEY VALUE ...]

. "$(dirname -- "$0")/lib.sh"

prepare_python
export SEEDS OUTPUT

echo "== 1 of 4: ZeroshotCLIP"
sh "$SCRIPTS/zeroshot.sh" icon5 tiny_ep20 "$@"
echo "== 2 of 4: CoOp-MT"
sh "$SCRIPTS/main_mtcoop_hard.sh" icon5 tiny_ep20 4 16 False False "$@"
echo "== 3 of 4: CoOp-CA"
sh "$SCRIPTS/main_mtcoop_hard.sh" icon5 tiny_ep20 4 16 False True "$@"
echo "== 4 of 4: SoftCPT-NATA"
sh "$SCRIPTS/main_mtcoop.sh" icon5 tiny_ep20 4 0 False 4 False 16 False lin 1 "$@"

ZEROSHOT=$OUTPUT/output/ZeroshotCLIP/tiny_ep20/icon5
HARD=$OUTPUT/output/icon5/MTCoOpHard/tiny_ep20_4shots
SOFT=$OUTPUT/output/icon5/MTCoOp/tiny_ep20_4shots
echo
cd "$REPO"
"$PYTHON" -m reporting.table --title "Icon5, embedded CLIP, 4 images a class, 20 epochs${*:+, $*}" \
    "ZeroshotCLIP=$ZEROSHOT" \
    "CoOp-MT=$HARD/nctx16_cscFalse_tscFalse" \
    "CoOp-CA=$HARD/nctx16_cscFalse_tscTrue" \
    "SoftCPT-NATA=$SOFT/cnctx0_ccscFalse_tnctx4_tcscFalse_nctx16_cscFalse_typelin_ratio1_loss"
