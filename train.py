"""Train and test a method, or test a trained one (docs/running.md).

Exit code: 0: done, 1: an internal error (with a traceback), 2: a user error (one message), 130: interrupted by Ctrl-C,
143: by SIGTERM, 129: by SIGHUP. An interrupted run ends after its batch, or at once if it is interrupted again.
"""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before all other imports

import os
import re
import shlex
import sys
from contextlib import closing

from dassl.utils.arguments import Parser
from dassl.utils.tools import with_home


def parse(argv=None):
    parser = Parser(description="Train and test a prompt-tuning method, or test a trained one.")
    setting = parser.add_argument  # arguments whose dest is the key of a setting, in capitals
    setting("--root", dest="DATASET.ROOT", metavar="DIR", help="folder that contains the folders of all datasets")
    setting("--output-dir", dest="OUTPUT_DIR", metavar="DIR", help="output folder of the run")
    setting("--resume", dest="RESUME", metavar="DIR", help="resume the run in another folder than --output-dir")
    setting("--seed", dest="SEED", metavar="N", type=int, help="seed; if negative, a seed is drawn and recorded")
    setting("--trainer", dest="TRAINER.NAME", metavar="NAME", help="method, e.g. SoftCPT-NATA, CoOp-CA, ZeroshotCLIP")
    setting("--backbone", dest="MODEL.BACKBONE.NAME", metavar="NAME", help="name of the CLIP model")
    parser.add_list(
        "--transforms",
        lambda word: not re.fullmatch(r"[A-Z][A-Z0-9_]*([.]\w+)*", word),  # the key of a setting
        dest="INPUT.TRANSFORMS",
        metavar="NAME ...",
        help="names of the training transforms",
    )
    setting("--old-data-path", dest="DATALOADER.OLD_DATA_PATH", metavar="PATH", help="beginning of image paths ...")
    setting("--new-data-path", dest="DATALOADER.NEW_DATA_PATH", metavar="PATH", help="... and its replacement")
    parser.add_argument("--config-file", metavar="FILE", help="settings of the method, or config.yaml of a run")
    parser.add_argument("--dataset-config-file", metavar="FILE", help="settings of the dataset or suite")
    parser.add_argument("--eval-only", action="store_true", help="test the model in --model-dir, do not train")
    parser.add_argument("--model-dir", metavar="DIR", help="folder of the run whose model is tested")
    setting("--load-epoch", type=int, metavar="N", help="epoch of its checkpoint; default: the best one, or the newest")
    parser.add_argument("--no-train", action="store_true", help="build data and model and stop")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --output-dir")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="settings, e.g. OPTIM.LR 0.01")
    args, unknown = parser.parse_known_intermixed_args(argv)
    args.model_dir = with_home(args.model_dir)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{setting_hint(unknown[0])}")
    return args


def setting_hint(flag):
    """The end of the message about an unknown flag: the setting that it probably means, e.g. OPTIM.LR for --lr."""
    from dassl.config import get_cfg_default, nearest_setting

    key = nearest_setting(flag.partition("=")[0].strip("-").replace("-", "_"), get_cfg_default())
    return f"; settings are given as KEY VALUE pairs: did you mean {key} VALUE?" if key else ""


def configure(args):
    """The configuration: defaults, dataset file, trainer file, arguments, KEY VALUE pairs. Later values win."""
    from dassl.config import get_cfg_default, load

    given = []
    for key, value in vars(args).items():
        if key.isupper() and value is not None:
            given += [key, value]
    cfg = get_cfg_default()
    load(cfg, [args.dataset_config_file, args.config_file], given + args.opts)
    return cfg


def check_arguments(args, cfg):
    """Report user errors that can be found before anything slow begins: all of the arguments at once, then the others.

    Raises:
        UserError, FileNotFoundError.
    """
    from dassl.config import check, method_name
    from dassl.engine import TRAINER_REGISTRY
    from dassl.engine.build import refuse_other_method
    from dassl.runs.checkpoints import require_checkpoint
    from dassl.utils import UserError
    from datasets.reading import refuse_training

    check(cfg)
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME) if cfg.TRAINER.NAME else None
    learns = trainer is not None and trainer.learns
    problems = []
    if not cfg.DATASET.NAME:
        problems.append("no dataset is given (DATASET.NAME): --dataset-config-file FILE, e.g. from configs/datasets")
    if trainer is None:
        problems.append("no method is given (TRAINER.NAME): --trainer NAME, e.g. SoftCPT-NATA; see docs/methods.md")
    if args.eval_only and not args.model_dir and learns:
        problems.append(f"--eval-only needs --model-dir: {method_name(cfg)} has to be trained before it is tested")
    if not args.eval_only and (args.model_dir or args.load_epoch is not None) and (learns or trainer is None):
        problems.append("--model-dir and --load-epoch are for --eval-only; --resume continues a run")
    if trainer is not None and not learns and (args.model_dir or args.load_epoch is not None or cfg.RESUME):
        problems.append(
            f"{method_name(cfg)} learns nothing, so there is no model to load; omit --model-dir, --load-epoch, --resume"
        )
    elif args.eval_only and cfg.RESUME:
        problems.append(
            "--resume continues a training run, and --eval-only tests the model in --model-dir; omit --resume"
        )
    if not cfg.OUTPUT_DIR:
        problems.append("the output folder has no name; give one with --output-dir")
    if args.model_dir and os.path.realpath(args.model_dir) == os.path.realpath(cfg.OUTPUT_DIR):
        problems.append(f"--output-dir is the folder of the model that is tested, {cfg.OUTPUT_DIR}; give another one")
    if args.overwrite and cfg.RESUME and os.path.realpath(cfg.RESUME) == os.path.realpath(cfg.OUTPUT_DIR):
        problems.append(
            f"--overwrite replaces the run in {cfg.OUTPUT_DIR}, and --resume continues it; give one of them"
        )
    if problems:
        raise UserError("\n  ".join(problems if len(problems) == 1 else [f"{len(problems)} problems:", *problems]))
    refuse_other_method(cfg, args.config_file)
    if learns and not args.eval_only:
        refuse_training(cfg)
    if args.model_dir:
        require_checkpoint(args.model_dir, args.load_epoch)
    if cfg.RESUME not in ("", cfg.OUTPUT_DIR):  # OUTPUT_DIR may still be empty
        require_checkpoint(cfg.RESUME)


def begin(args):
    """Check the arguments and take the output folder.

    Returns the frozen configuration, or None if the output folder holds this run finished.
    """
    with program.starting():
        import datasets  # noqa: F401  registers the datasets
        import trainers  # noqa: F401  registers the methods and declares their settings
        from dassl.engine.build import ignored_settings
        from dassl.runs.folder import FINISHED, prepare_output

    cfg = configure(args)
    check_arguments(args, cfg)
    with program.uninterrupted():  # or a lock could be left behind
        tested = (args.model_dir, args.load_epoch)
        state = prepare_output(cfg, args.overwrite, not args.eval_only, ignored_settings(cfg), *tested)
    if state == FINISHED:
        return None
    cfg.freeze()
    return cfg


def run(args, cfg):
    """Build data and model; train, test or stop."""
    from dassl.config import method_name, overrides
    from dassl.engine.build import build_trainer, ignored_settings, warn_of_unused
    from dassl.engine.loaders import sizes
    from dassl.runs.compare import unfinished, warn_of_split
    from dassl.runs.folder import log_path, tested_model
    from dassl.utils import collect_env_info, log_only, setup_logger

    setup_logger(log_path(cfg.OUTPUT_DIR), append=True)
    log_only(f"Command: {' '.join(sys.argv)}\nSettings:\n{cfg}\nSystem:\n{collect_env_info()}")
    files = [file for file in (args.dataset_config_file, args.config_file) if file]
    changed = overrides(cfg, files, ignored_settings(cfg))
    print(f"{method_name(cfg)} on {cfg.DATASET.NAME}, seed {cfg.SEED}; settings in {cfg.OUTPUT_DIR}/log.txt")
    warn_of_unused(cfg, args.opts)
    with closing(build_trainer(cfg)) as trainer:
        trainer.run_extra.update(config_files=files, overrides=changed)  # for the titles of tables
        if args.eval_only and trainer.learns:  # check_arguments has checked --model-dir
            trainer.load_model(args.model_dir, epoch=args.load_epoch)
            trainer.run_extra["tested_model"] = tested_model(cfg.OUTPUT_DIR, args.model_dir, args.load_epoch)
            if warning := unfinished(args.model_dir):
                print(warning)
        warn_of_split(trainer, args.config_file, args.model_dir)
        if args.no_train and not args.eval_only:
            print(f"Everything is built and nothing is trained: {method_name(cfg)}, {', '.join(sizes(trainer))}")
            print("To train: the same command without --no-train")
            return
        with program.orderly():
            if args.eval_only:
                trainer.test_and_record()
            else:
                trainer.train()
        print(summary(args, cfg, trainer))


def summary(args, cfg, trainer):
    """The end of a run's output: its result, where the results are, and which commands read them."""
    from dassl.config import method_name
    from dassl.runs.record import RESULTS, seed_of_name
    from dassl.utils import counted

    folder, lines = os.path.normpath(cfg.OUTPUT_DIR), []
    report = getattr(trainer.evaluator, "report", None)
    if report and report["mean"]["value"] is not None:
        tasks = len(report["tasks"])
        over = f", mean over {counted(tasks, 'task')}" if tasks > 1 else ""
        lines.append(f"{method_name(cfg)} on {cfg.DATASET.NAME}, seed {cfg.SEED}: {report['mean']['value']:.2f}%{over}")
    lines.append(f"The results are in {os.path.join(folder, RESULTS)}. Next:")
    of_seed = seed_of_name(os.path.basename(folder)) is not None
    commands = [("parse_test_res.py", os.path.dirname(folder) or "." if of_seed else folder, "")]
    if getattr(trainer.dm, "space", None) is not None:
        commands.append(("predict.py", args.model_dir or folder, " IMAGE"))
    lines += [f"  python {name} {shlex.quote(place)}{more}" for name, place, more in commands]
    return "\n".join(lines)


@program.entry(resume="the same command continues from the last checkpoint")
def main(argv=None):
    args = parse(argv)
    with program.starting():
        from dassl.runs.folder import leave_output
        from dassl.runs.writer import write_failure

    cfg = None
    try:
        cfg = begin(args)
        if cfg is not None:
            run(args, cfg)
    except BaseException as error:
        with program.uninterrupted():
            if program.asked() and isinstance(error, Exception):
                error = KeyboardInterrupt()  # an error after a signal is a consequence of it
            if cfg is not None:  # otherwise the output folder may belong to another run
                write_failure(cfg, program.explained(error))
        raise
    finally:
        with program.uninterrupted():
            leave_output()


if __name__ == "__main__":
    sys.exit(main())
