#!/bin/sh
# Table 1 of the UPT paper (configs/rows/upt1.yaml): methods are trained on one dataset and tested on its shifted test sets.
#   sh upt_table1.sh [KEY VALUE ...]                    the embedded suite: icon5_colour tiny_ep20, 4 shots
#   sh upt_table1.sh icon13_colour tiny_ep20            all 13 tasks, with more test drawings
#   sh upt_table1.sh imagenet vit_b16_ep50              16 shots, as published
# A method without a config file CFG uses CFG without its epochs, or the file with 4 tokens initialised with "a photo of a"
# (CoOp: always this file). Finished runs are skipped. At the end, the table is printed (reporting/domain_shift.py).
# Environment: SHOTS, METHODS (rows, default all), SEEDS, OUTPUT, JOBS (runs at a time, see demo.sh).

exec sh "$(dirname -- "$0")/launch.sh" upt_table1 "$@"
