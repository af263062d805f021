#!/bin/sh
# From a clone to a curve: installs the requirements, then runs zero-shot CLIP, CoOp with one context for all tasks
# (CoOp-MT), CoOp with one context per task (CoOp-CA) and SoftCPT-NATA on the embedded suite Icon5 with the embedded CLIP:
# 1, 2, 4 and 8 images per class, 20 epochs, seeds 1 2 3 4 5. Finished runs are skipped.
#   sh scripts/demo.sh [KEY VALUE ...] [--dry-run] [--overwrite]
# JOBS (environment): runs at a time, see pool.sh; with JOBS=1 all their output is shown. SEEDS (environment): other seeds.

SEEDS=${SEEDS:-1 2 3 4 5}
. "$(dirname -- "$0")/lib.sh"
help_wanted "$@"

if [ -z "$DRY_RUN" ]; then prepare_python; fi
export OUTPUT

# The slowest method comes first and the fastest last, which balances the cores at the end.
LIST=$(temporary_file)
at_end 'rm -f "$LIST"'
job() { printf '%s\t%s\t%s\n' "$@"; }
{
    for shots in 8 4 2 1; do
        job "SoftCPT-NATA, $shots shots" "$SEEDS" "main_mtcoop.sh icon5 tiny_ep20 $shots 0 False 4 False 16 False lin 1"
        job "CoOp-CA, $shots shots" "$SEEDS" "main_mtcoop_hard.sh icon5 tiny_ep20 $shots 16 False True"
        job "CoOp-MT, $shots shots" "$SEEDS" "main_mtcoop_hard.sh icon5 tiny_ep20 $shots 16 False False"
    done
    job ZeroshotCLIP 1 "zeroshot.sh icon5 tiny_ep20"
} >"$LIST"
# shellcheck disable=SC2086  # zero or more flags
attended sh "$SCRIPTS/pool.sh" $FLAGS "$@" <"$LIST"
if [ -n "$DRY_RUN" ]; then exit; fi

SETTINGS="Icon5, embedded CLIP, tiny_ep20${*:+, $*}"
ZEROSHOT=$OUTPUT/output/ZeroshotCLIP/tiny_ep20/icon5
HARD=$OUTPUT/output/icon5/MTCoOpHard/tiny_ep20_
SOFT=$OUTPUT/output/icon5/MTCoOp/tiny_ep20_
MT=shots/nctx16_cscFalse_tscFalse CA=shots/nctx16_cscFalse_tscTrue
NATA=shots/cnctx0_ccscFalse_tnctx4_tcscFalse_nctx16_cscFalse_typelin_ratio1_loss
echo
cd "$REPO"
# shellcheck disable=SC2086  # a list of seeds
"$PYTHON" -m reporting.table --seeds $SEEDS --title "$SETTINGS, 4 images per class" \
    "ZeroshotCLIP=$ZEROSHOT" "CoOp-MT=${HARD}4$MT" "CoOp-CA=${HARD}4$CA" "SoftCPT-NATA=${SOFT}4$NATA"
echo
echo "$SETTINGS, mean over the tasks"
"$PYTHON" -m analysis.sweep "CoOp-MT=$HARD*$MT" "CoOp-CA=$HARD*$CA" "SoftCPT-NATA=$SOFT*$NATA" \
    --zero-shot "$ZEROSHOT" --compare SoftCPT-NATA --out "$OUTPUT/output/icon5/figures/demo"
cat <<END

next:
    the whole table of the paper: SHOTS=4 sh scripts/all_methods.sh icon5 tiny_ep20
    your own images:              docs/own-data.md
    classify an image:            $PYTHON predict.py $OUTPUT/output/icon5/MTCoOp/tiny_ep20_8$NATA/seed1 IMAGE
END
