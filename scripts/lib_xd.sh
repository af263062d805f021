# Shared functions, sourced by xd_train.sh and xd_test.sh after lib.sh.

# launcher METHOD: sets LAUNCHER to the script that trains METHOD
launcher() {
    case $1 in
        CoOp | CoCoOp | KgCoOp | ProGrad | PLOT | VPT | UPT | MTUPT)
            LAUNCHER=main_$(echo "$1" | tr '[:upper:]' '[:lower:]').sh ;;
        SoftCPT | MTCoOp) LAUNCHER=main_mtcoop.sh ;;
        MTCoOpHard) LAUNCHER=main_mtcoop_hard.sh ;;
        *) stop "METHOD has to be CoOp, CoCoOp, KgCoOp, ProGrad, PLOT, VPT, UPT, MTUPT, SoftCPT or MTCoOpHard, found \"$1\"" ;;
    esac
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
