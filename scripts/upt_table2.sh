#!/bin/sh
# All rows of Table 2 of the UPT paper on one suite (configs/rows/upt2.yaml), plus SoftCPT and unified prompts shared by
# tasks, for each seed; then the table, with one column per task and the published numbers.
#   sh upt_table2.sh                                                      the embedded suite and model: icon5 tiny_ep20
#   SHOTS=16 PER_TASK=yes sh upt_table2.sh general11 vit_b16 --dry-run    as published
# A row of the paper is one run for all tasks, each with its own prompts (TSC), or with PER_TASK=yes one run per task.
# Environment: SHOTS (default 4), METHODS (rows, default all), PER_TASK (yes or no, default no), TASKS (numbers of the
# tasks, default: all tasks of the suite), SEEDS, OUTPUT, JOBS (runs at a time, see demo.sh).

exec sh "$(dirname -- "$0")/launch.sh" upt_table2 "$@"
