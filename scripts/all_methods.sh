#!/bin/sh
# All rows of the published table (configs/rows/softcpt.yaml) on one suite, for each number of shots and seed, then their
# table with their costs. Single-task methods learn prompts for all tasks in one joint run (TSC).
#   SHOTS="1 2 4" sh all_methods.sh icon5 tiny_ep20
#   SHOTS="1 2 4 8 16" CLS_SAMPLE_RATE=0.1 sh all_methods.sh general10 rn50_ep50 DATALOADER.FEATURE_BANK True
# A method without a config file CFG uses CFG without its epochs, or its published file; without any, it is left out.
# Environment: SHOTS (default "1 2 4"), METHODS (rows, default all), SEEDS, OUTPUT, JOBS (runs at a time, see demo.sh),
# CLS_SAMPLE_RATE (class-sampled training of SoftCPT-CATA, -CSTA, -CATS, -CSTS; published: 0.1 on General-10, else none).

exec sh "$(dirname -- "$0")/launch.sh" all_methods "$@"
