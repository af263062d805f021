#!/bin/sh
# SoftCPT with class-sampled training: each softmax contains the share CLS_SAMPLE_RATE of the other classes of the task
# (needs CSC True):
#   sh main_mtcoop_cls_sample.sh icon5 tiny_ep20 4 4 False 4 False 16 True lin 1 0.1
# Results: outputd/DATASET/MTCoOp/CFG_SHOTSshots/cnctx..._loss_csrRATE/seedS

exec sh "$(dirname -- "$0")/launch.sh" main_mtcoop_cls_sample "$@"
