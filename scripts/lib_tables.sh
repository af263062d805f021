# Shared functions, sourced after lib.sh by the scripts that make the table of a paper. METHOD is a row of the table; the
# function row of these scripts sets FOLDER, the folder of its results, and other variables for METHOD.

# methods ROW ...: sets METHODS to all of these rows unless the environment selects some
methods() {
    METHODS=${METHODS:-$*}
    for METHOD in $METHODS; do
        case " $* " in
            *" $METHOD "*) ;;
            *) stop "METHODS: there is no row \"$METHOD\"; rows: $*" ;;
        esac
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

# table MODULE OPTION ...: prints the table of all rows; rows for which the function row fails are left out
table() {
    for METHOD in $METHODS; do
        if row; then set -- "$@" "$METHOD=$FOLDER"; fi
    done
    echo
    (cd -- "$REPO" && "$PYTHON" -m "$@")
}
