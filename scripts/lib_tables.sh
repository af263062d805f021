# Shared functions, sourced after lib.sh by the scripts that make the table of a paper. METHOD is a row of the table; the
# function row of these scripts sets FOLDER, the folder of its results, and other variables for METHOD.

# methods ROW ...: sets METHODS to all of these rows unless the environment selects some. NATA is short for SoftCPT-NATA, as
# is SoftCPT; the papers' names ZS-CLIP and LP-CLIP are understood, too.
methods() {
    methods_given=${METHODS:-$*}
    METHODS=
    for METHOD in $methods_given; do
        methods_row=
        case $METHOD in
            ZS-CLIP) METHOD=ZeroshotCLIP ;;
            LP-CLIP) METHOD=LinearProbe ;;
        esac
        for methods_name in "$METHOD-NATA" "SoftCPT-$METHOD" "$METHOD"; do
            case " $* " in
                *" $methods_name "*) methods_row=$methods_name ;;
            esac
        done
        if [ -z "$methods_row" ]; then stop "METHODS: unknown row \"$METHOD\"; rows: $*"; fi
        METHODS="$METHODS${METHODS:+ }$methods_row"
    done
}

# find_config TRAINER NAME ...: sets CONFIG to the first name that is a config file of the trainer; fails without one
find_config() {
    config_folder=$REPO/configs/trainers/$1
    shift
    for CONFIG in "$@"; do
        if [ -f "$config_folder/$CONFIG.yaml" ]; then return; fi
    done
    return 1
}

# config TRAINER NAME ...: find_config that stops instead of failing
config() {
    find_config "$@" && return
    shift
    stop "$METHOD: none of $* is a config file in $config_folder"
}

# check_shots: stops unless SHOTS is a number of images per class
check_shots() {
    EXPECTED=$(expectation SHOTS "$SHOTS")
    if [ -n "$EXPECTED" ]; then stop "SHOTS has to be $EXPECTED; found \"$SHOTS\""; fi
}

# shots_text: SHOTS for people, e.g. "1 image per class"
shots_text() {
    case $SHOTS in
        1) echo "1 image per class" ;;
        0 | -1) echo "all images" ;;
        *) echo "$SHOTS images per class" ;;
    esac
}

# table MODULE OPTION ...: prints the table of all rows; rows for which the function row fails are left out
table() {
    for METHOD in $METHODS; do
        if row; then set -- "$@" "$METHOD=$FOLDER"; fi
    done
    echo
    (cd -- "$REPO" && "$PYTHON" -m "$@")
}
