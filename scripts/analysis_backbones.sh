#!/bin/sh
# Backbones on one suite: CoOp-CA and SoftCPT-NATA with each of BACKBONES (environment), otherwise with the settings of CFG:
#   sh analysis_backbones.sh general10 rn50_ep50 4
#   BACKBONES=tiny sh analysis_backbones.sh icon5 tiny_ep20 4
# Results: output/analysis/DATASET/CFG_SHOTSshots/backbones/BACKBONE/METHOD/seedS ("/" in a name becomes "-")

TRAINER=MTCoOp
. "$(dirname -- "$0")/lib.sh"
. "$SCRIPTS/lib_analysis.sh"
arguments "DATASET CFG SHOTS" "icon5 tiny_ep20 4" "$@"
shift "$ARGC"
FOLDER=$OUTPUT/output/analysis/$DATASET/${CFG}_${SHOTS}shots/backbones
BACKBONES=${BACKBONES-RN50 RN101 ViT-B/32 ViT-B/16}
each_is BACKBONES "$BACKBONES" '[A-Za-z0-9._:/-]+' "names of backbones"

for BACKBONE in $BACKBONES; do
    for METHOD in CoOp-CA SoftCPT-NATA; do
        analysis "$(echo "$BACKBONE" | tr / -)/$METHOD" "$METHOD" MODEL.BACKBONE.NAME "$BACKBONE" "$@"
    done
done
analysis_done
