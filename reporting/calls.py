"""Calls of train.py as lists of arguments: their options, and the configuration that train.py would use."""

LAST = "last"  # value of --load-epoch for a model that another call has yet to train


def option(arguments: list[str], name: str) -> str | None:
    """Value of an option among the arguments of train.py; None if the option is absent."""
    return arguments[arguments.index(name) + 1] if name in arguments else None


def configuration(arguments: list[str]):
    """Build and check the configuration of a call of train.py, without data and weights.

    Returns:
        yacs CfgNode.

    Raises:
        ValueError, FileNotFoundError: the error that train.py would stop with.
    """
    import datasets  # noqa: F401  registers the datasets
    import train
    import trainers  # noqa: F401  registers the methods and declares their settings
    from dassl.engine.build import TRAINER_REGISTRY, warn_of_unused
    from datasets.suites import asked

    known = ["1" if word == LAST and before == "--load-epoch" else word for before, word in pairs_of_words(arguments)]
    try:
        args = train.parse(known)
    except SystemExit:
        raise ValueError("train.py does not understand these arguments, see above") from None
    cfg = train.configure(args)
    asked(cfg)  # refuses unknown tasks
    try:
        train.check_arguments(args, cfg)
    except FileNotFoundError:
        if option(arguments, "--load-epoch") != LAST:  # otherwise the model has yet to be trained
            raise
    method = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    method = method.__new__(method)  # check_cfg needs nothing that __init__ builds
    method.reads_weights = False
    method.check_cfg(cfg)
    warn_of_unused(cfg, args.opts)
    return cfg


def pairs_of_words(words: list[str]) -> list[tuple[str, str]]:
    """(preceding word, word) for each word; "" precedes the first."""
    return list(zip(["", *words], words, strict=False))
