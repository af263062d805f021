# Shared functions, sourced by the launchers of methods (main_*.sh, protonet.sh) after lib.sh.

# launch HOW "$@": runs TRAINER with the arguments of its launcher. HOW is run_seeds, or for base to new run_base or run_new.
launch() {
    launch_how=$1
    shift
    launch_cfg=tiny_ep20 launch_task=" TASKID:optional"
    case $TRAINER in
        CoCoOp) launch_names="TSC" launch_example="True" ;;
        CoOp) launch_names="N_CTX CSC TSC" launch_example="16 False True" ;;
        KgCoOp) launch_names="W TSC" launch_example="8.0 True" ;;
        MTCoOp) launch_names=$MTCOOP_NAMES launch_example="0 False 4 False 16 False lin 1" launch_task= ;;
        MTCoOpHard) launch_names="N_CTX CSC TSC" launch_example="16 False True" launch_task= ;;
        MTUPT) launch_names="SHARING MODE N_CTX" launch_example="soft upt 8" ;;
        PLOT) launch_names="N N_CTX CSC TSC" launch_example="4 16 False True" ;;
        ProGrad) launch_names="N_CTX LAMBDA CSC TSC" launch_example="16 1.0 False True" ;;
        ProtoNet) launch_names="METRIC" launch_example="cosine" launch_cfg=tiny ;;
        UPT) launch_names="MODE N_CTX TSC" launch_example="upt 8 True" ;;
        VPT) launch_names="N_CTX DEEP TSC" launch_example="4 True True" ;;
    esac
    arguments "DATASET CFG SHOTS $launch_names$launch_task" "icon5 $launch_cfg 4 $launch_example" "$@"
    shift "$ARGC"
    case $TRAINER in
        MTCoOp) mtcoop_settings ;;
        *) method_settings ;;
    esac
    case $launch_how in
        run_seeds) launch_place=output ;;
        *) launch_place=output/base2new ;;
    esac
    # shellcheck disable=SC2086  # pairs without spaces
    "$launch_how" "$OUTPUT/$launch_place/$FOLDER" $KEYS "$@"
}

# method_settings: sets FOLDER, DATASET/TRAINER/CFG_SHOTSshots/nameVALUE_nameVALUE[/taskTASKID], and KEYS,
# TRAINER.SECTION.NAME VALUE for each argument after SHOTS (arguments() ensures that no value contains a space)
method_settings() {
    one_task
    case $TRAINER in
        MTCoOpHard) method_section=MTCOOPH ;;
        *) method_section=$(echo "$TRAINER" | tr a-z A-Z) ;;
    esac
    FOLDER=
    KEYS="DATASET.NUM_SHOTS $SHOTS $TASK_KEYS"
    for method_name in $arg_names; do
        case $method_name in
            DATASET | CFG | SHOTS | TASKID:optional) continue ;;
        esac
        eval "method_value=\$$method_name"
        FOLDER=${FOLDER}_$(echo "$method_name" | tr -d _ | tr A-Z a-z)$method_value
        KEYS="$KEYS TRAINER.$method_section.$method_name $method_value"
    done
    FOLDER=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/${FOLDER#_}$TASK_FOLDER
}

# launch_any HOW "$@": runs any method with its configuration file. HOW is run_seeds or run_base_and_new.
launch_any() {
    any_how=$1
    shift
    arguments "NAME DATASET CFG SHOTS TASKID:optional" "MaPLe icon5 tiny_ep20 4" "$@"
    shift "$ARGC"
    one_task
    any_folder= any_key=
    for any_word in "$@"; do
        if [ -n "$any_key" ]; then # TRAINER.MAPLE.N_CTX 4 -> nctx4, OPTIM.LR 0.01 -> optim.lr0.01
            any_key=$(echo "${any_key#TRAINER.*.}" | tr -d _ | tr A-Z a-z)
            any_folder=${any_folder}_$any_key$(echo "$any_word" | tr -c '[:alnum:]._+\n-' -)
            any_key=
        else
            any_key=$any_word
        fi
    done
    any_folder=${any_folder#_}
    any_folder=$DATASET/$TRAINER/${CFG}_${SHOTS}shots/${any_folder:-default}$TASK_FOLDER
    case $any_how in
        run_seeds) any_place=output ;;
        *) any_place=output/base2new ;;
    esac
    # shellcheck disable=SC2086  # pairs without spaces
    "$any_how" "$OUTPUT/$any_place/$any_folder" DATASET.NUM_SHOTS "$SHOTS" $TASK_KEYS "$@"
}

# run_base_and_new FOLDER TRAIN_ARGS...: both halves of base to new
run_base_and_new() {
    run_base "$@"
    run_new "$@"
}

# run_base FOLDER TRAIN_ARGS...: base to new, first half: training on the base classes, into FOLDER/base/seedS. Stops if the
# second half is impossible: with one learned context per class, new classes have no context.
run_base() {
    base_folder=$1
    shift
    base_key=
    for base_word in "$@"; do # a repeated key keeps its last value
        case $base_key in
            TRAINER.MTCOOP.CSC) ;; # generated from the class name
            TRAINER.*.CSC | TRAINER.*.CLASS_CSC) eval "base_${base_key##*.}=\$base_word" ;;
        esac
        base_key=$base_word
    done
    for base_key in CSC CLASS_CSC; do
        eval "base_value=\${base_$base_key:-}"
        if [ "$base_value" = True ]; then
            stop "$base_key True: each class learns its own context, so new classes have no context and base to new cannot \
be tested. Use $base_key False; $(basename -- "$0" _base2new_train.sh).sh trains on all classes with it."
        fi
    done
    run_seeds "$base_folder/base" DATASET.SUBSAMPLE_CLASSES base "$@"
}

# ---------------------------------------------------------------------------------------------------- SoftCPT

MTCOOP_NAMES="CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO"

# mtcoop_settings: sets FOLDER (the published one, where "_loss" has an empty tail too) and KEYS (arguments() ensures that no
# value contains a space)
mtcoop_settings() {
    one_task
    FOLDER=$DATASET/MTCoOp/${CFG}_${SHOTS}shots/cnctx${CLASS_N_CTX}_ccsc${CLASS_CSC}
    FOLDER=${FOLDER}_tnctx${TASK_N_CTX}_tcsc${TASK_CSC}_nctx${N_CTX}_csc${CSC}
    FOLDER=${FOLDER}_type${PG_TYPE}_ratio${PG_RATIO}_loss${MTCOOP_TAIL:-}$TASK_FOLDER
    KEYS="DATASET.NUM_SHOTS $SHOTS $TASK_KEYS
        TRAINER.MTCOOP.CLASS_N_CTX $CLASS_N_CTX TRAINER.MTCOOP.CLASS_CSC $CLASS_CSC
        TRAINER.MTCOOP.TASK_N_CTX $TASK_N_CTX TRAINER.MTCOOP.TASK_CSC $TASK_CSC
        TRAINER.MTCOOP.N_CTX $N_CTX TRAINER.MTCOOP.CSC $CSC
        TRAINER.MTCOOP.PG_TYPE $PG_TYPE TRAINER.MTCOOP.PG_RATIO $PG_RATIO"
}
