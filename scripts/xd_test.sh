#!/bin/sh
# Domain generalisation and cross-dataset transfer, second half: tests the models of xd_train.sh with the same
# arguments, at their last epoch, on other datasets, without training on them.
#   sh xd_test.sh CoOp icon5_colour tiny_c4_ep20_ctxv1 4 4 False True
#   TARGETS="dtd eurosat" sh xd_test.sh UPT imagenet vit_b16_ep50 16 upt 8 False
# TARGETS (environment): files of configs/datasets. Default: the shifted test sets of imagenet, icon5_colour or
# icon13_colour. "others": ImageNet and the ten datasets of General-10, without the source.
# Results: output/DATASET/TRAINER/CFG_SHOTSshots/SETTINGS/xd/TARGET/seedS; python -m reporting.domain_shift reads them

exec sh "$(dirname -- "$0")/launch.sh" xd_test "$@"
