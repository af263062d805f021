#!/bin/sh
# From a clone to a curve: installs the requirements, then runs zero-shot CLIP, CoOp with one context for all tasks
# (CoOp-MT), CoOp with one context per task (CoOp-CA) and SoftCPT-NATA on the embedded suite Icon5 with the embedded CLIP:
# 1, 2, 4 and 8 images per class, 20 epochs, seeds 1 2 3 4 5. Finished runs are skipped.
#   sh scripts/demo.sh [KEY VALUE ...] [--dry-run] [--overwrite]
# SEEDS (environment): other seeds. JOBS (environment): runs at a time, which share the processors; default: one more than
# processors, at most 4; 1 with a single processor, or if their output shall be shown.

SCRIPT=demo.sh
. "$(dirname -- "$0")/python.sh"

case " $* " in
    *" --dry-run "* | *" --help "* | *" -h "*) ;;
    *) prepare_python ;;
esac
exec sh "$REPO/scripts/launch.sh" demo "$@"
