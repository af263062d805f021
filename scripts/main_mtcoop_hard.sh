#!/bin/sh
# CoOp with hard sharing (trainer MTCoOpHard) on a suite, one run per seed:
#   sh main_mtcoop_hard.sh icon5 tiny_ep20 4 16 False False    CoOp-MT, one context for all tasks
#   sh main_mtcoop_hard.sh icon5 tiny_ep20 4 16 False True     CoOp-CA, one context per task
#   sh main_mtcoop_hard.sh icon5 tiny_ep20 4 16 True False     CoOp-CS, one context per class
# Results: output/DATASET/MTCoOpHard/CFG_SHOTSshots/nctxN_csc..._tsc.../seedS

exec sh "$(dirname -- "$0")/launch.sh" main_mtcoop_hard "$@"
