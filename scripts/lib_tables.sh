# Shared by the scripts that make a paper's table, which source it after lib.sh. A row is called METHOD in them.

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

# config TRAINER NAME ...: CONFIG becomes the first of the names that is a config file of the trainer
config() {
    config_folder=$REPO/configs/trainers/$1
    shift
    for CONFIG in "$@"; do
        if [ -f "$config_folder/$CONFIG.yaml" ]; then return; fi
    done
    stop "$METHOD: none of $* is a config file in $config_folder"
}

# check_shots: ends the script unless SHOTS is a number of images a class
check_shots() {
    EXPECTED=$(expectation SHOTS "$SHOTS")
    if [ -n "$EXPECTED" ]; then stop "SHOTS has to be $EXPECTED; found \"$SHOTS\""; fi
}
