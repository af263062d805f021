# Shared by the scripts that make a paper's table, which source it after lib.sh. A row is called METHOD in them; their
# function row sets what belongs to METHOD: FOLDER, the experiment of its results, and what else they need.

# methods ROW ...: METHODS (environment) becomes all of these rows, unless it says which of them
methods() {
    METHODS=${METHODS:-$*}
    for METHOD in $METHODS; do
        case " $* " in
            *" $METHOD "*) ;;
            *) stop "METHODS: there is no row \"$METHOD\"; rows: $*" ;;
        esac
    done
}

# find_config TRAINER NAME ...: CONFIG becomes the first of the names that is a config file of the trainer; fails if none is
find_config() {
    config_folder=$REPO/configs/trainers/$1
    shift
    for CONFIG in "$@"; do
        if [ -f "$config_folder/$CONFIG.yaml" ]; then return; fi
    done
    return 1
}

# config TRAINER NAME ...: the same, and ends the script if none is
config() {
    find_config "$@" && return
    shift
    stop "$METHOD: none of $* is a config file in $config_folder"
}

# check_shots: ends the script unless SHOTS is a number of images a class
check_shots() {
    EXPECTED=$(expectation SHOTS "$SHOTS")
    if [ -n "$EXPECTED" ]; then stop "SHOTS has to be $EXPECTED; found \"$SHOTS\""; fi
}

# table MODULE OPTION ...: the table of all rows; a row whose function row fails has been left out
table() {
    for METHOD in $METHODS; do
        if row; then set -- "$@" "$METHOD=$FOLDER"; fi
    done
    echo
    (cd -- "$REPO" && "$PYTHON" -m "$@")
}
