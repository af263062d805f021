# Shared functions, sourced by xd_train.sh and xd_test.sh after lib.sh.

# launcher METHOD: sets LAUNCHER to the script that trains METHOD, and XD_METHOD to METHOD if it is the name of a row of a
# table: train.py then checks that the arguments are those of the row
launcher() {
    XD_METHOD=
    case $1 in
        CoOp | CoCoOp | KgCoOp | ProGrad | PLOT | VPT | UPT | MTUPT)
            LAUNCHER=main_$(echo "$1" | tr '[:upper:]' '[:lower:]').sh ;;
        SoftCPT | MTCoOp) LAUNCHER=main_mtcoop.sh ;;
        MTCoOpHard) LAUNCHER=main_mtcoop_hard.sh ;;
        SoftCPT-[NC][AS]T[AS]) LAUNCHER=main_mtcoop.sh XD_METHOD=$1 ;;
        'SoftCPT*') LAUNCHER=main_mtcoop_star.sh XD_METHOD=$1 ;;
        CoOp-MT | CoOp-CA | CoOp-CS) LAUNCHER=main_mtcoop_hard.sh XD_METHOD=$1 ;;
        VPT-shallow | VPT-deep) LAUNCHER=main_vpt.sh XD_METHOD=$1 ;;
        Joint | Shared | MLP) LAUNCHER=main_upt.sh XD_METHOD=$1 ;;
        MTUPT-soft | MTUPT-hard | MTUPT-task) LAUNCHER=main_mtupt.sh XD_METHOD=$1 ;;
        *) stop "METHOD has to be CoOp, CoCoOp, KgCoOp, ProGrad, PLOT, VPT, UPT, MTUPT, SoftCPT, MTCoOpHard, or a name of \
configs/methods.yaml that is trained with one of them, such as SoftCPT-NATA or CoOp-CA; found \"$1\"" ;;
    esac
    export XD_METHOD
}

# shifted DATASET: the shifted test sets of a source, as files of configs/datasets; nothing for other datasets
shifted() {
    case $1 in
        imagenet) echo imagenetv2 imagenet_sketch imagenet_a imagenet_r ;;
        icon5_colour | icon13_colour)
            for shifted_style in shaded contrast line solid; do echo "${1%colour}$shifted_style"; done | tr '\n' ' ' ;;
    esac
}

# method_first "$@": sets LAUNCHER from the first argument; with -h, --help or no argument, prints the script's comment
method_first() {
    help_wanted "$@"
    if [ -z "${1:-}" ]; then
        own_comment >&2
        exit 2
    fi
    launcher "$1"
    if [ -n "${TASK:-}" ]; then stop "TASK=$TASK is set; give the number of a task as TASKID, the last argument of $LAUNCHER"; fi
}
