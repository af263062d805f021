#!/bin/sh
# From a clone to a table: installs the requirements, then runs zero-shot CLIP, CoOp with one context for all tasks
# (CoOp-MT), CoOp with one context per task (CoOp-CA) and SoftCPT-NATA on the embedded suite Icon5 with the embedded CLIP:
# 4 images per class, 20 epochs, seeds 1 2 3. Finished runs are skipped.
#   sh scripts/demo.sh [KEY VALUE ...] [--dry-run] [--overwrite]
# JOBS (environment): runs at a time, see pool.sh; with JOBS=1 all their output is shown.

. "$(dirname -- "$0")/lib.sh"
help_wanted "$@"

if [ -z "$DRY_RUN" ]; then prepare_python; fi
export OUTPUT

# The first run of a seed computes the features of its training views, which the other runs of the seed reuse. So all
# seeds of one method come first: the slowest method first and the fastest last, which balances the cores at the end.
job() { printf '%s\t%s\t%s\n' "$@"; }
{
    for seed in $SEEDS; do
        job "SoftCPT-NATA, seed $seed" "$seed" "main_mtcoop.sh icon5 tiny_ep20 4 0 False 4 False 16 False lin 1"
    done
    for seed in $SEEDS; do
        job "CoOp-CA, seed $seed" "$seed" "main_mtcoop_hard.sh icon5 tiny_ep20 4 16 False True"
    done
    for seed in $SEEDS; do
        job "CoOp-MT, seed $seed" "$seed" "main_mtcoop_hard.sh icon5 tiny_ep20 4 16 False False"
    done
    job ZeroshotCLIP 1 "zeroshot.sh icon5 tiny_ep20"
} | sh "$SCRIPTS/pool.sh" $FLAGS "$@"
if [ -n "$DRY_RUN" ]; then exit; fi

ZEROSHOT=$OUTPUT/output/ZeroshotCLIP/tiny_ep20/icon5
HARD=$OUTPUT/output/icon5/MTCoOpHard/tiny_ep20_4shots
SOFT=$OUTPUT/output/icon5/MTCoOp/tiny_ep20_4shots
echo
cd "$REPO"
# shellcheck disable=SC2086  # a list of seeds
"$PYTHON" -m reporting.table --seeds $SEEDS --title "Icon5, embedded CLIP, tiny_ep20, 4 images per class${*:+, $*}" \
    "ZeroshotCLIP=$ZEROSHOT" \
    "CoOp-MT=$HARD/nctx16_cscFalse_tscFalse" \
    "CoOp-CA=$HARD/nctx16_cscFalse_tscTrue" \
    "SoftCPT-NATA=$SOFT/cnctx0_ccscFalse_tnctx4_tcscFalse_nctx16_cscFalse_typelin_ratio1_loss"
