#!/bin/sh
# Unified prompts shared by tasks on a suite, one run per seed with all tasks:
#   sh main_mtupt.sh icon5 tiny_ep20 4 soft upt 8
# SHARING is soft, hard (one set for all tasks) or task (one set per task); MODE and N_CTX as in main_upt.sh.
# Results: output/DATASET/MTUPT/CFG_SHOTSshots/sharing..._mode..._nctxN[/taskTASKID]/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_mtupt "$@"
