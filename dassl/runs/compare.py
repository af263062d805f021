"""Whether a recorded run and the run at hand have the same settings, splits and model."""

import os

from dassl.config import differences
from dassl.runs.record import COMPLETE, CONFIG, error_of, has_config, hash_of, known_results, status_of
from dassl.utils.errors import UserError


def changed_settings(cfg, folder, ignored=()):
    """Settings that decide a run's numbers and differ between `cfg` and the run in `folder`.

    Args:
        cfg: configuration of the run at hand.
        folder: folder of a run; without a config.yaml nothing is known to differ.
        ignored: prefixes of settings that decide no number, `dassl.engine.build.ignored_settings(cfg)`.

    Returns:
        [(key, recorded value, value in `cfg`)].
    """
    return differences(cfg, os.path.join(folder, CONFIG), ignored) if has_config(folder) else []


def refuse_other_model(folder, cfg, section, weights_hash, critical):
    """Check that the model trained in `folder` means the same in the run at hand, as far as `folder` records it.

    Args:
        folder: folder of the trained run.
        cfg: configuration of the run at hand.
        section: name of the method's settings, cfg.TRAINER.<section>.
        weights_hash: SHA-256 of the weights of the run's CLIP; a different one of the same name is a warning.
        critical: callable(settings of the method) -> {name: value} that a checkpoint's shapes do not reveal.

    Raises:
        UserError: the model was trained with another CLIP, or with other values of critical settings. Other values
            of other settings of the method are a warning.
    """
    there, backbone = hash_of(folder, "weights"), known_results(folder).get("backbone")
    if there and weights_hash and there != weights_hash:
        if backbone != cfg.MODEL.BACKBONE.NAME:
            raise UserError(
                f"{folder} was trained with the CLIP {backbone}, and this run has {cfg.MODEL.BACKBONE.NAME}. What is "
                f"learned with one CLIP cannot be used with another; expected MODEL.BACKBONE.NAME {backbone}"
            )
        print(
            f"WARNING: {folder} was trained with other weights of {backbone} (SHA-256 {there[:12]}, here "
            f"{weights_hash[:12]})"
        )
    recorded = {key: value for key, value, _ in changed_settings(cfg, folder)}
    if "TRAINER.NAME" in recorded:  # another method with the same tensors has settings of its own
        return
    group, own = f"TRAINER.{section}.", cfg.TRAINER[section]
    other = own.clone()
    other.defrost()
    changed = {key: recorded[group + key] for key in own if group + key in recorded}
    other.update(changed)
    then, now = critical(other), critical(own)
    for key in now:
        if key in then and now[key] != then[key]:
            raise UserError(
                f"{folder} was trained with {group}{key} {then[key]}, and this run has {now[key]}. The learned tensors "
                f"have the same shapes but another meaning; expected {group}{key} {then[key]}"
            )
    if changed:
        print(
            f"WARNING: {folder} was trained with "
            + ", ".join(f"{group}{key} {value} (here {own[key]})" for key, value in changed.items())
            + "; what was learned or chosen in training is kept"
        )


def split_change(trainer, directory):
    """A sentence that the splits have changed since the run in `directory`; "" if not, or if they cannot be compared.

    Splits cannot be compared if their hash was not recorded, or if the run had other tasks. The hash covers the full
    splits. For datasets written for Dassl it covers the sampled images only, so shots and seed must be equal, too.
    """
    dataset, there = getattr(trainer.dm, "dataset", None), hash_of(directory, "split")
    if not there or not has_config(directory):
        return ""
    others = {key for key, _, _ in changed_settings(trainer.cfg, directory)}
    full = getattr(dataset, "suite_tasks", None) is not None
    decide = ("DATASET.NAME", "DATASET.TASKS", "DATASET.SUBSAMPLE_TASKS") if full else ("DATASET.", "SEED")
    if change := _fewshot_change(dataset, directory):
        return change
    here = getattr(dataset, "split_hash", None)
    if not here or there == here or any(key.startswith(decide) for key in others):
        return ""
    return (
        f"the splits of {trainer.cfg.DATASET.NAME} (hash {here[:12]}) differ from the splits of the run in {directory} "
        f"({there[:12]}): images or split files have changed since then"
    )


def _fewshot_change(dataset, directory):
    """A sentence that the few-shot file of the run in `directory` has another content by now; "" if not."""
    then, now = known_results(directory).get("fewshot_split"), getattr(dataset, "fewshot_split", None)
    if not isinstance(then, dict) or not now or then.get("name") != now["name"] or then.get("sha256") == now["sha256"]:
        return ""
    return (
        f"the few-shot set {now['name']} differs from that of the run in {directory}: the file has changed since then"
    )


def warn_of_split(trainer, config_file="", model_dir=""):
    """Print a warning if the splits have changed since the run whose config.yaml or model is used."""
    again = config_file and os.path.basename(config_file) == CONFIG
    for directory in dict.fromkeys(filter(None, (again and (os.path.dirname(config_file) or "."), model_dir))):
        if change := split_change(trainer, directory):
            print(f"WARNING: {change}; the numbers of the two runs are not comparable")


def unfinished(folder):
    """A warning that the training run in `folder` has not finished, as far as it is recorded; "" if it has."""
    if (status := status_of(folder)) in ("", COMPLETE):
        return ""
    why = error_of(folder)
    text = f"WARNING: {folder}: the run is not finished, its status is {status}" + (f" ({why})" if why else "")
    return f"{text}; the model of a checkpoint is used"
