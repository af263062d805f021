#!/bin/sh
# Domain generalisation and cross-dataset transfer, first half: trains METHOD on the source, DATASET. The arguments
# after METHOD are the arguments of its launcher (main_vpt.sh, ...). Finished runs of the launcher are reused.
#   sh xd_train.sh CoOp icon5_colour tiny_c4_ep20_ctxv1 4 4 False True
#   sh xd_train.sh UPT imagenet vit_b16_ep50 16 upt 8 False
#   sh xd_train.sh MaPLe imagenet vit_b16_c2_ep5_batch4_2ctx_cross_datasets 16
# Then xd_test.sh with the same arguments. METHOD is CoOp, CoCoOp, KgCoOp, ProGrad, PLOT, VPT, UPT, MTUPT, SoftCPT,
# MTCoOpHard, the name of a row that is trained with one of them, e.g. SoftCPT-NATA, CoOp-CA (configs/methods.yaml), or
# another folder of configs/trainers, with the arguments of method.sh.
# Results: output/DATASET/TRAINER/CFG_SHOTSshots/SETTINGS/seedS, the same as the launcher

exec sh "$(dirname -- "$0")/launch.sh" xd_train "$@"
