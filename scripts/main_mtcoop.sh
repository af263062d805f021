#!/bin/sh
# SoftCPT (trainer MTCoOp) on a suite, one run per seed, for example SoftCPT-NATA with 4 shots:
#   sh main_mtcoop.sh icon5 tiny_ep20 4 0 False 4 False 16 False lin 1
# SoftCPT-NATS has TASK_CSC True; -CATA has CLASS_N_CTX 4, CSC True; -CSTA has CLASS_CSC True as well.
# Results: output/DATASET/MTCoOp/CFG_SHOTSshots/cnctx..._loss/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_mtcoop "$@"
